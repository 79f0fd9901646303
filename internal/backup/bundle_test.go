package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"farmhand/internal/backup"
	"farmhand/internal/farm"
	"farmhand/internal/objects"
)

// sticky is a store that does not remove anything.
type sticky struct{ objects.Store }

func (sticky) Delete(context.Context, string, string) error {
	return fmt.Errorf("%w: not now", objects.ErrUnavailable)
}

// pieces writes a chain of n segments, and returns their content by their positions.
func pieces(t *testing.T, p place, n int, to ...backup.Recipient) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for i := range n {
		s := backup.Segment{Cluster: "shop", Flavor: "MariaDB", Epoch: 1, After: fmt.Sprintf("0-1-%d", i+1)}
		w, err := backup.CreateSegment(t.Context(), p, s, to)
		if err != nil {
			t.Fatal(err)
		}
		content := bytes.Repeat([]byte(s.After), 100+i)
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		at := fmt.Sprintf("0-1-%d", i+2)
		if _, err := w.Commit(func(s *backup.Segment) {
			s.Position, s.Transactions = at, 1
			s.Lines = []backup.Line{{Server: 1, First: uint64(i + 2), Last: uint64(i + 2)}}
		}); err != nil {
			t.Fatal(err)
		}
		all[at] = content
	}
	return all
}

func count(t *testing.T, p objects.Store) (n int) {
	t.Helper()
	if err := p.List(t.Context(), "shop/binlog/", func(objects.Object) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestBundlesHoldWhatThePiecesHeld(t *testing.T) {
	to, keys := key(t)
	each(t, func(t *testing.T, p place) {
		const n = 80
		all := pieces(t, p, n, to...)
		listed, _, err := backup.ListSegments(t.Context(), p, "shop")
		if err != nil || len(listed) != n {
			t.Fatal(len(listed), err)
		}
		// One that is damaged stays as it is, and what is younger.
		path := p.path(listed[3].Key)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[5] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Minute)
		if fewer, err := backup.Bundle(t.Context(), p, "shop", time.Now().Add(-time.Minute)); fewer != 0 || err != nil {
			t.Fatal(fewer, err)
		}
		whole := func() {
			t.Helper()
			segments, faults, err := backup.ListSegments(t.Context(), p, "shop")
			if err != nil || faults != nil {
				t.Fatal(err, faults)
			}
			chain, err := backup.Follow(farm.MariaDB, position(t, "0-1-1"), segments)
			if err != nil || chain.Gaps != nil || chain.Fork != nil || len(chain.Segments) != n {
				t.Fatalf("%+v, %v", chain, err)
			}
			for _, s := range chain.Segments {
				var got bytes.Buffer
				err := s.Save(t.Context(), p, keys, &got)
				var fault *backup.FaultError
				if s.Position == listed[3].Position && errors.As(err, &fault) {
					continue
				}
				if err != nil || !bytes.Equal(got.Bytes(), all[s.Position]) {
					t.Errorf("%s: %d bytes, %v", s.Key, got.Len(), err)
				}
			}
		}
		// It is stopped before it removes anything.
		if _, err := backup.Bundle(t.Context(), sticky{p}, "shop", later); !errors.Is(err, objects.ErrUnavailable) {
			t.Fatal(err)
		}
		whole()
		fewer, err := backup.Bundle(t.Context(), p, "shop", later)
		if left := count(t, p); err != nil || fewer != n-2 || left != 2 {
			t.Fatalf("%d objects are fewer and %d left, %v", fewer, left, err)
		}
		whole()
		// Who has listed before finds what has moved.
		var got bytes.Buffer
		if err := listed[0].Save(t.Context(), p, keys, &got); err != nil || !bytes.Equal(got.Bytes(), all[listed[0].Position]) {
			t.Errorf("%d bytes, %v", got.Len(), err)
		}
		newest := 0
		if err := backup.NewestSegments(t.Context(), p, "shop", time.Now(), func(some []backup.Segment) bool { newest += len(some); return true }); err != nil || newest != n {
			t.Errorf("%d are the newest, %v", newest, err)
		}
		// A bundle that is damaged is named.
		segments, _, err := backup.ListSegments(t.Context(), p, "shop")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range segments {
			object, at, is := strings.Cut(s.Key, "@")
			if !is || s.Position != listed[9].Position {
				continue
			}
			offset, err := strconv.Atoi(at)
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(p.path(object))
			if err != nil {
				t.Fatal(err)
			}
			data[offset+5] ^= 1
			if err := os.WriteFile(p.path(object), data, 0o600); err != nil {
				t.Fatal(err)
			}
			var fault *backup.FaultError
			if err := s.Verify(t.Context(), p); !errors.As(err, &fault) || fault.Key != s.Key {
				t.Errorf("%v", err)
			}
		}
	})
}
