package objects_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"farmhand/internal/objects"
)

// rough is a store that does not do what it must.
type rough struct {
	objects.Store
	overwrites, late bool
}

func (r rough) Put(ctx context.Context, key string, from io.Reader, o objects.PutOptions) (objects.Object, error) {
	o.IfAbsent = o.IfAbsent && !r.overwrites
	return r.Store.Put(ctx, key, from, o)
}

func (r rough) Head(ctx context.Context, key string) (objects.Object, error) {
	o, err := r.Store.Head(ctx, key)
	if r.late {
		o.Modified = o.Modified.Add(-time.Hour)
	}
	return o, err
}

func TestProbe(t *testing.T) {
	each(t, func(t *testing.T, s objects.Store) {
		for name, c := range map[string]struct {
			store objects.Store
			want  map[string]string // what is wrong
		}{
			"good":            {store: s},
			"writes over":     {store: rough{s, true, false}, want: map[string]string{"it honours If-None-Match": "written over", "it can be read": "another"}},
			"of another time": {store: rough{s, false, true}, want: map[string]string{"its clock is this machine's": "it says that"}},
		} {
			for _, check := range objects.Probe(t.Context(), c.store, "app/") {
				want := c.want[check.What]
				if check.Err == nil && want != "" || check.Err != nil && (want == "" || !strings.Contains(check.Err.Error(), want)) {
					t.Errorf("%s: %s: %v", name, check.What, check.Err)
				}
				t.Logf("%s: %s: %v (%s)", name, check.What, check.Err, check.Note)
			}
		}
		left := 0
		if err := s.List(t.Context(), "app/", func(objects.Object) error { left++; return nil }); err != nil || left > 0 {
			t.Errorf("%d objects are left, %v", left, err)
		}
	})
}
