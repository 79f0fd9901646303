package backup_test

import (
	"slices"
	"testing"
	"time"

	"farmhand/internal/backup"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

const (
	a1 = "aaaaaaaa-0000-0000-0000-000000000001"
	b2 = "bbbbbbbb-0000-0000-0000-000000000002"
)

// led is a segment of a MySQL server that led.
func led(key string, epoch farm.Epoch, writer, had, after, position string) backup.Segment {
	return backup.Segment{Key: key, Flavor: "MySQL", Epoch: epoch, Writer: writer, Had: had, After: after, Position: position}
}

// TestWhatASuccessorDidNotHaveIsNoHistory: numbers do not contradict each other in MySQL.
func TestWhatASuccessorDidNotHaveIsNoHistory(t *testing.T) {
	segments := []backup.Segment{
		led("old", 1, a1, "", "", a1+":1-50"),
		led("lost", 1, a1, "", a1+":1-50", a1+":1-105"), // of the last five nobody had heard
		led("again", 2, b2, a1+":1-100", a1+":1-50", a1+":1-100,"+b2+":1-3"),
		led("new", 2, b2, a1+":1-100,"+b2+":1-3", a1+":1-100,"+b2+":1-3", a1+":1-100,"+b2+":1-9"),
	}
	c, err := backup.Follow(farm.MySQL, gtid.Position{}, segments)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, s := range c.Segments {
		keys = append(keys, s.Key)
	}
	if !slices.Equal(keys, []string{"old", "again", "new"}) || c.Reached.String() != a1+":1-100,"+b2+":1-9" || c.Gaps != nil {
		t.Errorf("%v leads to %v, gaps %v", keys, c.Reached, c.Gaps)
	}
	// Before the successor has stored anything nothing is known of it.
	if c, err = backup.Follow(farm.MySQL, gtid.Position{}, segments[:2]); err != nil || c.Reached.String() != a1+":1-105" {
		t.Errorf("it leads to %v, %v", c.Reached, err)
	}

	entry := func(epoch farm.Epoch, position string) backup.Entry {
		return backup.Entry{Manifest: &backup.Manifest{ID: "x", Flavor: "MySQL", Epoch: epoch, Position: position, Ended: time.Now()}}
	}
	t.Run("judged", func(t *testing.T) { judged(t, entry, segments) })
	// The pieces of the epoch before are gone.
	t.Run("judged by what is left", func(t *testing.T) { judged(t, entry, segments[2:]) })
}

func judged(t *testing.T, entry func(farm.Epoch, string) backup.Entry, segments []backup.Segment) {
	entries := []backup.Entry{
		entry(1, a1+":1-60"),
		entry(1, a1+":1-103"),             // of the primary that was replaced
		entry(1, a1+":1-100,"+b2+":1-5"),  // it took from one epoch to the next
		entry(2, a1+":1-100,"+b2+":1-20"), // more than the archive has yet
	}
	if err := backup.Judge(entries, segments); err != nil {
		t.Fatal(err)
	}
	for i, good := range []bool{true, false, true, true} {
		if entries[i].Good() != good {
			t.Errorf("%s of epoch %d: %v", entries[i].Manifest.Position, entries[i].Manifest.Epoch, entries[i].Fault)
		}
	}
}
