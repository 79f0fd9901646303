package monitor

import (
	"testing"
	"time"
)

// TestLoad: the pages of late, over enough statements to say something.
func TestLoad(t *testing.T) {
	at := time.Unix(1000, 0)
	read := func(l load, statements, pages int64) load {
		at = at.Add(time.Second)
		return l.after(at, statements, pages)
	}
	l := read(load{}, 5000, 90000)
	if l.perStatement != 0 {
		t.Errorf("%v from one reading", l.perStatement)
	}
	if l = read(l, 6000, 91000); l.perStatement != 0.5 {
		t.Errorf("%v after a page for each statement", l.perStatement)
	}
	if l = read(l, 6100, 95000); l.perStatement != 0.5 {
		t.Errorf("%v from 100 statements", l.perStatement)
	}
	if l = read(l, 7000, 92000+3500); l.perStatement != 2.5 {
		t.Errorf("%v once these are counted with the next 900", l.perStatement)
	}
	if l = read(l, 100, 100000); l.perStatement != 2.5 {
		t.Errorf("%v from a server that has begun anew", l.perStatement)
	}
	if l = read(l, 1100, 100000); l.perStatement != 1.25 {
		t.Errorf("%v where no page was read", l.perStatement)
	}
}
