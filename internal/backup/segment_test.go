package backup_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"farmhand/internal/backup"
)

func segment(t *testing.T, p place, content []byte, to ...backup.Recipient) *backup.Segment {
	t.Helper()
	w, err := backup.CreateSegment(t.Context(), p, backup.Segment{Cluster: "shop", Flavor: "MariaDB", After: "0-1-1"}, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	s, err := w.Commit(func(s *backup.Segment) {
		s.Position, s.Transactions = "0-1-2", 1
		for n := range uint64(500) { // a long description
			s.Lines = append(s.Lines, backup.Line{Domain: 1, Server: 1, First: n, Last: n})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSegmentsAreReadAsTheyWereWritten(t *testing.T) {
	to, keys := key(t)
	each(t, func(t *testing.T, p place) {
		content := bytes.Repeat([]byte("binlog"), 100000)
		for _, to := range [][]backup.Recipient{nil, to} {
			s := segment(t, p, content, to...)
			segments, faults, err := backup.ListSegments(t.Context(), p, "shop")
			if err != nil || faults != nil {
				t.Fatal(err, faults)
			}
			last := segments[len(segments)-1]
			if last.Key != s.Key || last.After != "0-1-1" || last.Position != "0-1-2" || len(last.Lines) != 500 || last.Bytes != int64(len(content)) {
				t.Errorf("listed is %s from %s to %s", last.Key, last.After, last.Position)
			}
			var got bytes.Buffer
			if err := last.Save(t.Context(), p, keys, &got); err != nil || !bytes.Equal(got.Bytes(), content) {
				t.Errorf("%d bytes, %v", got.Len(), err)
			}
			if err := last.Save(t.Context(), p, nil, &got); to != nil && !errors.Is(err, backup.ErrNoKey) {
				t.Errorf("without a key: %v", err)
			}
		}
		w, err := backup.CreateSegment(t.Context(), p, backup.Segment{Cluster: "shop"}, to)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		segments, faults, err := backup.ListSegments(t.Context(), p, "shop")
		if err != nil || faults != nil || len(segments) != 2 {
			t.Fatalf("after one that was given up: %d, %v %v", len(segments), faults, err)
		}
		for i, damage := range []func(t *testing.T, path string){
			func(t *testing.T, path string) { flip(t, path, 20) }, // seen when it is read
			func(t *testing.T, path string) {
				if err := os.Truncate(path, 100); err != nil {
					t.Fatal(err)
				}
			},
		} {
			s := segments[i]
			damage(t, p.path(s.Key))
			var fault *backup.FaultError
			if err := s.Save(t.Context(), p, keys, new(strings.Builder)); !errors.As(err, &fault) || fault.Key != s.Key {
				t.Errorf("damage %d: %v", i, err)
			}
		}
		if _, faults, err := backup.ListSegments(t.Context(), p, "shop"); err != nil || len(faults) != 1 || faults[0].Key != segments[1].Key {
			t.Errorf("listed with a short one: %v, %v", faults, err)
		}
		remove(t, p.path(segments[0].Key))
		var fault *backup.FaultError
		if err := segments[0].Save(t.Context(), p, keys, new(strings.Builder)); !errors.As(err, &fault) || !fault.Missing {
			t.Errorf("a missing one: %v", err)
		}
	})
}
