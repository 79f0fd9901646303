package registry

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farm"
)

// inTerm is the administrator of a farm of its own, with a term that lasts as
// long as the test.
func inTerm(t *testing.T, c *cluster) (*Client, Term) {
	t.Helper()
	admin := c.admin(t, newFarm())
	terms, _ := led(t, admin, "a")
	return admin, soon(t, terms, "term")
}

func assignment(t *testing.T) Record {
	t.Helper()
	r, err := ClusterRecord("shop", "assignment")
	must(t, err)
	return r
}

// watching collects the values of a record.
func watching(t *testing.T, c *Client, r Record) <-chan Value {
	t.Helper()
	values := make(chan Value, 1000)
	running(t, func(ctx context.Context) error {
		return c.Watch(ctx, r, func(v Value) error { values <- v; return nil })
	})
	return values
}

// TestWatchARecord: what is there, then every change, of this record alone, as a
// node sees it.
func TestWatchARecord(t *testing.T) {
	c := one(t)
	ctx := soonContext(t)
	admin, term := inTerm(t, c)
	name := newFarm() + "-db"
	must(t, admin.allowNode(ctx, name))
	node := c.as(t, admin.farm, name)
	r := assignment(t)
	longer, err := ClusterRecord("shop", "assignment2")
	must(t, err)

	values := watching(t, node, r)
	if v := soon(t, values, "first value"); v.Data != nil || v.Revision != 0 || v.Lost != nil {
		t.Fatalf("of a record that never was: %+v", v)
	}
	must(t, admin.Write(ctx, term, longer, []byte("another")))
	must(t, admin.Write(ctx, term, r, []byte("1")))
	one := soon(t, values, "value")
	if string(one.Data) != "1" || one.Revision == 0 {
		t.Fatalf("%+v", one)
	}
	if v := soon(t, watching(t, node, r), "value of a second watcher"); string(v.Data) != "1" || v.Revision != one.Revision {
		t.Errorf("a second watcher sees %+v", v)
	}
	must(t, admin.WriteAll(ctx, term, map[Record][]byte{r: nil, longer: nil}))
	if v := soon(t, values, "its removal"); v.Data != nil || v.Revision != 0 {
		t.Errorf("removed: %+v", v)
	}
	if data, err := node.Read(ctx, r); data != nil || err != nil {
		t.Errorf("removed, and read as %q, %v", data, err)
	}
	broken := errors.New("broken")
	if err := node.Watch(ctx, r, func(Value) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("who is told ends it: %v", err)
	}
	if err := node.Watch(ctx, Record{}, nil); err == nil {
		t.Error("a record without a name is watched")
	}
}

// TestWatchLosesNothing that is newest: over a connection that breaks and a
// history that is compacted meanwhile.
func TestWatchLosesNothing(t *testing.T) {
	c := one(t)
	ctx := soonContext(t)
	admin, term := inTerm(t, c)
	r := assignment(t)
	must(t, admin.Write(ctx, term, r, []byte("old")))
	link := c.link(t)
	values := watching(t, c.admin(t, admin.farm, link.Addr()), r)
	soon(t, values, "value")
	link.Cut()
	for _, text := range []string{"missed", "missed, too", "newest"} {
		must(t, admin.Write(ctx, term, r, []byte(text)))
	}
	now, err := admin.etcd.Get(ctx, "x")
	must(t, err)
	_, err = admin.etcd.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	must(t, err)
	lost := soon(t, values, "news that the registry is lost")
	if lost.Lost == nil || string(lost.Data) != "old" {
		t.Fatalf("%+v", lost)
	}
	link.Restore()
	if v := soon(t, values, "newest value"); string(v.Data) != "newest" || v.Lost != nil || v.Revision <= lost.Revision {
		t.Errorf("%+v", v)
	}
}

// TestWatchIsFast: what is written is told within milliseconds.
func TestWatchIsFast(t *testing.T) {
	ctx := soonContext(t)
	admin, term := inTerm(t, one(t))
	r := assignment(t)
	values := watching(t, admin, r)
	soon(t, values, "first value")
	var took []time.Duration
	for range 20 {
		began := time.Now()
		must(t, admin.Write(ctx, term, r, []byte("x")))
		soon(t, values, "value")
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("from the call that writes to who watches: median %v, worst of %d %v", took[len(took)/2], len(took), took[len(took)-1])
	if took[len(took)/2] > time.Second {
		t.Errorf("%v", took)
	}
}

func TestRecordBounds(t *testing.T) {
	ctx := soonContext(t)
	admin, term := inTerm(t, one(t))
	r := assignment(t)
	for what, err := range map[string]error{
		"without a name": admin.Write(ctx, term, Record{}, []byte("x")),
		"empty":          admin.Write(ctx, term, r, []byte{}),
		"too long":       admin.Write(ctx, term, r, make([]byte, MaxRecord+1)),
		"none":           admin.WriteAll(ctx, term, nil),
	} {
		if err == nil {
			t.Errorf("%s: written", what)
		}
	}
	must(t, admin.Write(ctx, term, r, make([]byte, MaxRecord)))
	if _, err := ControlRecord("a/b"); err == nil {
		t.Error("a name with a slash")
	}
}

// TestWriteAll: of several records all are written or none.
func TestWriteAll(t *testing.T) {
	ctx := soonContext(t)
	admin, term := inTerm(t, one(t))
	view, err := ControlRecord("view")
	must(t, err)
	r := assignment(t)
	must(t, admin.WriteAll(ctx, term, map[Record][]byte{r: []byte("1"), view: []byte("2")}))
	old := term
	old.Number--
	if err := admin.WriteAll(ctx, old, map[Record][]byte{r: []byte("x"), view: nil}); !errors.Is(err, ErrDeposed) {
		t.Errorf("in a term that is over: %v", err)
	}
	for record, want := range map[Record]string{r: "1", view: "2"} {
		if data, err := admin.Read(ctx, record); err != nil || string(data) != want {
			t.Errorf("%s is %q, %v", record, data, err)
		}
	}
}

// TestWriteInEpoch: an epoch and the record that belongs to it come together.
func TestWriteInEpoch(t *testing.T) {
	ctx := soonContext(t)
	admin, term := inTerm(t, one(t))
	r := assignment(t)
	expect := func(epoch farm.Epoch, value string) {
		t.Helper()
		if now, err := admin.Epoch(ctx, "shop"); err != nil || now != epoch {
			t.Errorf("the epoch is %d, not %d (%v)", now, epoch, err)
		}
		if data, err := admin.Read(ctx, r); err != nil || string(data) != value {
			t.Errorf("the record is %q, not %q (%v)", data, value, err)
		}
	}
	must(t, admin.WriteInEpoch(ctx, term, "shop", 0, 1, r, []byte("first")))
	expect(1, "first")
	must(t, admin.WriteInEpoch(ctx, term, "shop", 1, 1, r, []byte("the same epoch")))
	must(t, admin.WriteInEpoch(ctx, term, "shop", 1, 2, r, []byte("second")))
	expect(2, "second")
	var moved *EpochMovedError
	for _, to := range []farm.Epoch{1, 2} {
		if err := admin.WriteInEpoch(ctx, term, "shop", 1, to, r, []byte("late")); !errors.As(err, &moved) || moved.Now != 2 || moved.Expected != 1 {
			t.Errorf("from an epoch that is over: %v", err)
		}
	}
	over := term
	over.Number--
	if err := admin.WriteInEpoch(ctx, over, "shop", 2, 3, r, []byte("deposed")); !errors.Is(err, ErrDeposed) {
		t.Errorf("in a term that is over: %v", err)
	}
	other, err := ClusterRecord("shop2", "assignment")
	must(t, err)
	for want, err := range map[string]error{
		"no way there": admin.WriteInEpoch(ctx, term, "shop", 2, 4, r, []byte("x")),
		"no record":    admin.WriteInEpoch(ctx, term, "shop", 2, 3, other, []byte("x")),
		"bytes":        admin.WriteInEpoch(ctx, term, "shop", 2, 3, r, make([]byte, MaxRecord+1)),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	expect(2, "second")
}
