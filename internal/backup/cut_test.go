package backup_test

import (
	"strings"
	"testing"
	"time"

	"farmhand/internal/backup"
	"farmhand/internal/farm"
)

// TestWhatWasGivenUpIsNoHistory: after a cluster was taken back, backups and pieces
// that have more of the epochs before do not count, and others do.
func TestWhatWasGivenUpIsNoHistory(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		full := func(epoch farm.Epoch, position string) string {
			w, err := backup.Create(t.Context(), p, "shop", backup.NewID(time.Now()), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte("data")); err != nil {
				t.Fatal(err)
			}
			m, err := w.Commit(func(m *backup.Manifest) {
				m.Flavor, m.Epoch, m.Position = farm.MariaDB.String(), epoch, position
			})
			if err != nil {
				t.Fatal(err)
			}
			return m.ID
		}
		piece := func(epoch farm.Epoch, after, position string) string {
			w, err := backup.CreateSegment(t.Context(), p, backup.Segment{Cluster: "shop", Flavor: "MariaDB", Epoch: epoch, After: after}, nil)
			if err != nil {
				t.Fatal(err)
			}
			s, err := w.Commit(func(s *backup.Segment) { s.Position, s.Transactions = position, 1 })
			if err != nil {
				t.Fatal(err)
			}
			return s.Key
		}
		before, gone := full(3, "0-1-10"), full(4, "0-1-60")
		kept, across, after := piece(3, "0-1-10", "0-1-40"), piece(4, "0-1-40", "0-1-55"), piece(4, "0-1-55", "0-1-90")
		cut := backup.Cut{Epoch: 5, Position: "0-1-50", At: time.Now(), Why: "restore 1"}
		// One that is tried again is the one that counts.
		if err := backup.PutCut(t.Context(), p, "shop", backup.Cut{Epoch: 5, Position: "0-1-5", Why: "restore 1"}); err != nil {
			t.Fatal(err)
		}
		if err := backup.PutCut(t.Context(), p, "shop", cut); err != nil {
			t.Fatal(err)
		}
		again, next := full(5, "0-9-52"), piece(5, "0-1-50", "0-9-60")
		entries, err := backup.List(t.Context(), p, "shop")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if good := e.ID == before || e.ID == again; e.Good() != good || e.ID == gone && !strings.Contains(e.Fault.Error(), "taken back to 0-1-50") {
				t.Errorf("%s: %v", e.ID, e.Fault)
			}
		}
		segments, faults, err := backup.ListSegments(t.Context(), p, "shop")
		if err != nil || faults != nil {
			t.Fatal(err, faults)
		}
		var newest []string
		if err := backup.NewestSegments(t.Context(), p, "shop", time.Now(), func(some []backup.Segment) bool {
			for _, s := range some {
				newest = append(newest, s.Key)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if len(segments) != 2 || segments[0].Key != kept || segments[1].Key != next || len(newest) != 2 {
			t.Errorf("of %s, %s, %s and %s there are %+v, and of the newest %v", kept, across, after, next, segments, newest)
		}
		// Taken back, all counts again.
		if err := backup.DropCut(t.Context(), p, "shop", cut.Epoch); err != nil {
			t.Fatal(err)
		}
		if segments, _, err := backup.ListSegments(t.Context(), p, "shop"); err != nil || len(segments) != 4 {
			t.Errorf("%d, %v", len(segments), err)
		}
	})
}
