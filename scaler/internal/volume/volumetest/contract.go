// Package volumetest has what every provider of volumes promises, as a test.
package volumetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"farmhand/scaler/internal/volume"
)

// Contract tests a provider of volumes that has none yet, with volumes as spec says;
// its name does not count. again returns the provider as one finds it that begins now.
func Contract(t *testing.T, again func() volume.Store, spec volume.Spec) {
	ctx, store := t.Context(), again()
	is := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("the error is %v, want %v", err, want)
		}
	}
	must := func(v volume.Volume, err error) volume.Volume {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if v.Trouble != "" {
			t.Fatalf("%s: %s", v.Name, v.Trouble)
		}
		return v
	}
	named := func(name string) volume.Spec {
		s := spec
		s.Name = name
		return s
	}

	// Create and describe.
	if all, err := store.List(ctx); err != nil || len(all) != 0 {
		t.Fatalf("a new provider has %v, %v", all, err)
	}
	_, err := store.Describe(ctx, "db-1")
	is(err, volume.ErrUnknown)
	var makers sync.WaitGroup
	for range 3 {
		makers.Go(func() {
			if v, err := again().Create(ctx, named("db-1")); err != nil || v.Instance != "" || v.Created.IsZero() || v.Size != spec.Size {
				t.Errorf("created %+v, %v", v, err)
			}
		})
	}
	makers.Wait()
	other := named("db-1")
	other.Size += 64 << 20
	_, err = store.Create(ctx, other)
	is(err, volume.ErrExists)
	for _, name := range []string{"", "..", "a/b", "DB 1"} {
		if _, err := store.Create(ctx, named(name)); err == nil {
			t.Errorf("created a volume %q", name)
		}
	}
	must(store.Create(ctx, named("db-2")))
	if all, err := again().List(ctx); err != nil || len(all) != 2 || all[0].Name != "db-1" || all[1].Name != "db-2" {
		t.Errorf("listed %+v, %v", all, err)
	}

	// One holder.
	if _, err := store.Attach(ctx, "db-1", ""); err == nil {
		t.Error("attached to nobody")
	}
	_, err = store.Attach(ctx, "db-9", "db1")
	is(err, volume.ErrUnknown)
	var mu sync.Mutex
	var holders []string
	var rivals sync.WaitGroup
	for n := range 4 {
		rivals.Go(func() {
			name := fmt.Sprint("db", n+1)
			v, err := again().Attach(ctx, "db-1", name)
			if err != nil {
				is(err, volume.ErrAttached)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			holders = append(holders, name)
			if v.Instance != name || v.Epoch != 1 {
				t.Errorf("attached %+v", v)
			}
		})
	}
	rivals.Wait()
	if len(holders) != 1 {
		t.Fatalf("the volume was attached to %v", holders)
	}
	holder := holders[0]
	v := must(again().Attach(ctx, "db-1", holder)) // it has it already
	if v.Epoch != 1 {
		t.Errorf("attached again: epoch %d", v.Epoch)
	}
	is(store.Delete(ctx, "db-1"), volume.ErrAttached)
	if err := store.Detach(ctx, "db-1", "somebody"); err != nil {
		t.Errorf("detached from whom it is not attached to: %v", err)
	}
	if v := must(store.Describe(ctx, "db-1")); v.Instance != holder {
		t.Errorf("then it is %+v", v)
	}

	// What is on it goes with it.
	write(t, v, "first")
	for range 2 {
		if err := again().Detach(ctx, "db-1", holder); err != nil {
			t.Fatal(err)
		}
	}
	if v := must(store.Describe(ctx, "db-1")); v.Instance != "" || v.Path != "" || len(v.Devices) != 0 {
		t.Errorf("detached it is %+v", v)
	}
	v = must(store.Attach(ctx, "db-1", "db7"))
	if v.Epoch != 2 {
		t.Errorf("attached to the next: epoch %d", v.Epoch)
	}
	want(t, v, "first")

	// Larger, while it is used.
	if _, err := store.Grow(ctx, "db-1", spec.Size-1); err == nil {
		t.Error("made smaller")
	}
	grown, err := store.Grow(ctx, "db-1", spec.Size+96<<20)
	if errors.Is(err, volume.ErrUnable) {
		t.Logf("not tested: growing while it is attached: %v", err)
		if v := must(store.Describe(ctx, "db-1")); v.Size != spec.Size {
			t.Errorf("refused, and yet its size is %d", v.Size)
		}
		if err := store.Detach(ctx, "db-1", "db7"); err != nil {
			t.Fatal(err)
		}
		must(store.Grow(ctx, "db-1", spec.Size+96<<20))
		grown = must(store.Attach(ctx, "db-1", "db7"))
	} else {
		must(grown, err)
	}
	if before, after := v.Used+v.Free, grown.Used+grown.Free; grown.Path != "" && spec.Kind != volume.Directory && after-before < 80<<20 || grown.Size != spec.Size+96<<20 {
		t.Errorf("it had %d bytes and has %d; its size is %d", before, after, grown.Size)
	}
	must(again().Grow(ctx, "db-1", spec.Size+96<<20))
	want(t, grown, "first")

	// Snapshots hold what was there.
	if spec.Kind == volume.Directory {
		_, err := store.Snapshot(ctx, "db-1", volume.SnapshotOptions{})
		is(err, volume.ErrUnable)
		if err := store.Detach(ctx, "db-1", "db7"); err != nil {
			t.Fatal(err)
		}
	}
	first, err := store.Snapshot(ctx, "db-1", volume.SnapshotOptions{})
	if err != nil || first.Volume != "db-1" || first.Taken.IsZero() {
		t.Fatalf("the first snapshot is %+v, %v", first, err)
	}
	v = must(store.Attach(ctx, "db-1", "db7"))
	write(t, v, "second")
	if spec.Kind == volume.Directory {
		if err := store.Detach(ctx, "db-1", "db7"); err != nil {
			t.Fatal(err)
		}
	}
	second, err := again().Snapshot(ctx, "db-1", volume.SnapshotOptions{})
	if err != nil || second.Stored >= first.Stored && v.Path != "" { // another machine's may not know
		t.Fatalf("the second snapshot is %+v, %v; it is to store less than %d bytes", second, err, first.Stored)
	}
	if all, err := again().Snapshots(ctx); err != nil || len(all) != 2 || all[0] != first || all[1] != second {
		t.Errorf("the snapshots are %+v, %v", all, err)
	}
	_, err = store.Restore(ctx, first.ID, named("db-2"))
	is(err, volume.ErrExists)
	if _, err := store.Restore(ctx, "db-1-20010101T000000000", named("db-3")); err == nil {
		t.Error("restored what is not there")
	}
	small := named("db-3")
	if small.Size > 0 {
		small.Size = 1 << 20
		if _, err := store.Restore(ctx, first.ID, small); err == nil {
			t.Error("restored to a volume that is too small")
		}
	}
	fitting := func(name string, from volume.Snapshot) volume.Spec {
		s := named(name)
		if s.Size > 0 {
			s.Size = max(s.Size, from.Size)
		}
		return s
	}
	for n, text := range map[int]string{3: "first", 4: "second"} {
		snapshot := map[int]volume.Snapshot{3: first, 4: second}[n]
		from, name := snapshot.ID, fmt.Sprintf("db-%d", n)
		for range 2 {
			if v := must(again().Restore(ctx, from, fitting(name, snapshot))); v.From != from {
				t.Errorf("restored %+v", v)
			}
		}
		user := fmt.Sprint("user", n)
		v := must(store.Attach(ctx, name, user))
		want(t, v, text)
		write(t, v, "other") // it is a volume like any other
		if err := store.Detach(ctx, name, user); err != nil {
			t.Error(err)
		}
	}

	// What one snapshot needs outlives the other, and the volume.
	if spec.Kind != volume.Directory {
		if err := store.Detach(ctx, "db-1", "db7"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"db-1", "db-1", "db-2", "db-3", "db-4"} {
		if err := store.Delete(ctx, name); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := again().DeleteSnapshot(ctx, first.ID); err != nil {
			t.Error(err)
		}
	}
	must(store.Restore(ctx, second.ID, fitting("db-5", second)))
	want(t, must(store.Attach(ctx, "db-5", "db5")), "second")
	if err := store.Detach(ctx, "db-5", "db5"); err != nil {
		t.Error(err)
	}
	if err := store.DeleteSnapshot(ctx, second.ID); err != nil {
		t.Error(err)
	}
	if err := store.Delete(ctx, "db-5"); err != nil {
		t.Error(err)
	}
	volumes, err := store.List(ctx)
	snapshots, errToo := store.Snapshots(ctx)
	if len(volumes)+len(snapshots) != 0 || err != nil || errToo != nil {
		t.Errorf("at the end there are %+v and %+v, %v, %v", volumes, snapshots, err, errToo)
	}
}

// write puts files on a volume: a large one that is always the same, and small ones
// with the text.
func write(t *testing.T, v volume.Volume, text string) {
	t.Helper()
	if v.Path == "" {
		return // another machine's
	}
	large := bytes.Repeat([]byte("0123456789abcde\n"), 64<<10)
	for i := range large {
		large[i] ^= byte(i >> 12) // no block is like another
	}
	for path, content := range map[string][]byte{
		"large": append(large, text...), "below/small": []byte(text), "below/empty": {}, "holes": append(make([]byte, 1<<20), text...),
	} {
		path = filepath.Join(v.Path, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(v.Path, "link")
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.Symlink("below/small", link); err != nil {
		t.Fatal(err)
	}
}

// want checks what write has written.
func want(t *testing.T, v volume.Volume, text string) {
	t.Helper()
	if v.Path == "" {
		return
	}
	for path, size := range map[string]int{"large": 1 << 20, "link": 0, "holes": 1 << 20} {
		got, err := os.ReadFile(filepath.Join(v.Path, path))
		if err != nil || len(got) != size+len(text) || string(got[size:]) != text {
			t.Errorf("%s of %s has %d bytes, %v, and ends with %q; want %q", path, v.Name, len(got), err, got[max(0, len(got)-len(text)):], text)
		}
	}
	if info, err := os.Stat(filepath.Join(v.Path, "below", "small")); err != nil || info.Mode() != 0o640 {
		t.Errorf("its mode is %v, %v", info, err)
	}
}
