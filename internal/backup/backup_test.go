package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"farmhand/internal/backup"
	"farmhand/internal/farmtest"
	"farmhand/internal/objects"
)

// part is the tests' size of a part.
const part = 1 << 20

func TestMain(m *testing.M) {
	backup.UsePartSize(part)
	os.Exit(farmtest.Leakless{M: m, Patience: 5 * time.Second}.Run())
}

// place is a store whose objects are files.
type place struct {
	objects.Store
	path func(key string) string
	s3   *farmtest.S3 // nil: a directory
}

func each(t *testing.T, run func(t *testing.T, p place)) {
	t.Run("directory", func(t *testing.T) { run(t, inDirectory(t)) })
	t.Run("S3", func(t *testing.T) {
		s := farmtest.StartS3(t)
		run(t, place{open(t, objects.Config{Bucket: farmtest.S3Bucket, Region: farmtest.S3Region, Endpoint: s.Endpoint()}), s.Path, s})
	})
}

func inDirectory(t *testing.T) place {
	dir := t.TempDir()
	return place{open(t, objects.Config{Directory: dir}), func(key string) string { return filepath.Join(dir, filepath.FromSlash(key)) }, nil}
}

func open(t *testing.T, c objects.Config) objects.Store {
	t.Helper()
	s, err := objects.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// noise is a stream of n bytes that cannot be compressed.
func noise(n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), n) }

func fill(m *backup.Manifest) { m.Position, m.Source, m.Flavor = "0-1-100", "db2", "mariadb" }

func write(t *testing.T, s objects.Store, from io.Reader, to ...backup.Recipient) *backup.Manifest {
	t.Helper()
	w, err := backup.Create(t.Context(), s, "shop", backup.NewID(time.Now()), to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, from); err != nil {
		t.Fatal(err)
	}
	m, err := w.Commit(fill)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func read(t *testing.T, s objects.Store, m *backup.Manifest, keys ...backup.Identity) ([]byte, error) {
	t.Helper()
	r, err := backup.Open(t.Context(), s, m, keys)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if done, total := r.Progress(); err == nil && (done != total || total != m.Stored()) {
		t.Errorf("at the end %d of %d bytes are read, and %d are stored", done, total, m.Stored())
	}
	return b, errors.Join(err, r.Close())
}

func list(t *testing.T, s objects.Store) []backup.Entry {
	t.Helper()
	entries, err := backup.List(t.Context(), s, "shop")
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// key makes a pair of keys.
func key(t *testing.T) ([]backup.Recipient, []backup.Identity) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to, err := backup.ParseRecipients("# of the test\n\n" + id.Recipient().String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := backup.ParseIdentities("# secret\n" + id.String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	return to, keys
}

func TestWhatWasWrittenIsRead(t *testing.T) {
	to, keys := key(t)
	_, others := key(t)
	each(t, func(t *testing.T, p place) {
		long := int64(5*part + 77)
		if testing.Short() {
			long = 2*part + 77
		}
		for _, n := range []int64{0, 1, part, long} {
			for _, secret := range []bool{false, true} {
				want, err := io.ReadAll(noise(n))
				if err != nil {
					t.Fatal(err)
				}
				var m *backup.Manifest
				if secret {
					m = write(t, p, bytes.NewReader(want), to...)
				} else {
					m = write(t, p, bytes.NewReader(want))
				}
				loaded, err := backup.Load(t.Context(), p, "shop", m.ID)
				if err != nil {
					t.Fatal(err)
				}
				if loaded.Bytes != n || loaded.Position != "0-1-100" || (loaded.Encryption == "age") != secret {
					t.Errorf("the manifest is %+v", loaded)
				}
				if got, err := read(t, p, loaded, keys...); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes, encrypted %v: got %d bytes, %v", n, secret, len(got), err)
				}
				if err := backup.Verify(t.Context(), p, loaded); err != nil {
					t.Error(err)
				}
				if !secret {
					continue
				}
				for name, keys := range map[string][]backup.Identity{"none": nil, "another": others} {
					if _, err := read(t, p, loaded, keys...); !errors.Is(err, backup.ErrNoKey) || !strings.Contains(err.Error(), m.Recipients[0]) {
						t.Errorf("with %s as key: %v", name, err)
					}
				}
			}
		}
		if entries := list(t, p); len(entries) != 8 || slices.ContainsFunc(entries, func(e backup.Entry) bool { return !e.Good() }) {
			t.Errorf("listed are %+v", entries)
		}
	})
}

func TestABackupThatFailsLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		for _, n := range []int64{0, 100, 2*part + 1} {
			w, err := backup.Create(t.Context(), p, "shop", backup.NewID(time.Now()), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(w, noise(n)); err != nil {
				t.Fatal(err)
			}
			if err := w.Abort(t.Context()); err != nil {
				t.Error(err)
			}
			if entries := list(t, p); len(entries) != 0 {
				t.Errorf("after %d bytes: there is %+v", n, entries)
			}
		}
		w, err := backup.Create(t.Context(), p, "shop", backup.NewID(time.Now()), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(func(*backup.Manifest) {}); err == nil {
			t.Error("a backup of nobody knows what counts")
		}
		if err := w.Abort(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAStoreThatGoesAway(t *testing.T) {
	s := farmtest.StartS3(t)
	c := objects.Config{Bucket: farmtest.S3Bucket, Region: farmtest.S3Region, Endpoint: s.Endpoint(), Patience: time.Second}
	p := open(t, c)
	w, err := backup.Create(t.Context(), p, "shop", backup.NewID(time.Now()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, noise(part)); err != nil {
		t.Fatal(err)
	}
	s.Kill9(t)
	_, err = io.Copy(w, noise(10*part))
	if !errors.Is(err, objects.ErrUnavailable) {
		t.Errorf("write: %v", err)
	}
	if _, err := w.Commit(fill); !errors.Is(err, objects.ErrUnavailable) {
		t.Errorf("commit: %v", err)
	}
	if err := w.Abort(t.Context()); !errors.Is(err, objects.ErrUnavailable) {
		t.Errorf("abort: %v", err)
	}
	s.Restart(t)
	for _, e := range list(t, p) {
		if e.Manifest != nil {
			t.Errorf("%s counts", e.ID)
		}
	}
}

// TestWhatIsWrongIsNamed: no byte of another object is passed on, and the object is
// named.
func TestWhatIsWrongIsNamed(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		want, err := io.ReadAll(noise(5 * part))
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			damage func(t *testing.T, parts []backup.Part)
			named  []int // parts
			listed bool  // it is seen without reading
		}{
			"missing":       {func(t *testing.T, parts []backup.Part) { remove(t, p.path(parts[2].Key)) }, []int{2}, true},
			"first missing": {func(t *testing.T, parts []backup.Part) { remove(t, p.path(parts[0].Key)) }, []int{0}, true},
			"a bit":         {func(t *testing.T, parts []backup.Part) { flip(t, p.path(parts[3].Key), parts[3].Size/2) }, []int{3}, false},
			"shorter": {func(t *testing.T, parts []backup.Part) {
				if err := os.Truncate(p.path(parts[1].Key), 1000); err != nil {
					t.Fatal(err)
				}
			}, []int{1}, true},
			"reordered": {func(t *testing.T, parts []backup.Part) {
				swap(t, p.path(parts[1].Key), p.path(parts[2].Key))
			}, []int{1, 2}, false},
		} {
			t.Run(name, func(t *testing.T) {
				m := write(t, p, bytes.NewReader(want))
				c.damage(t, m.Parts)
				got, err := read(t, p, m)
				var fault *backup.FaultError
				if !errors.As(err, &fault) || fault.Key != m.Parts[c.named[0]].Key {
					t.Errorf("read: %v", err)
				}
				if !bytes.HasPrefix(want, got) {
					t.Error("other bytes were passed on")
				}
				var faults backup.FaultsError
				if err := backup.Verify(t.Context(), p, m); !errors.As(err, &faults) || len(faults) != len(c.named) {
					t.Errorf("verify: %v", err)
				}
				for i, f := range faults {
					if f.Key != m.Parts[c.named[i]].Key {
						t.Errorf("verify names %s, want %s", f.Key, m.Parts[c.named[i]].Key)
					}
				}
				entries := list(t, p)
				i := slices.IndexFunc(entries, func(e backup.Entry) bool { return e.ID == m.ID })
				if i < 0 || entries[i].Good() == c.listed {
					t.Errorf("listed: %+v", entries)
				}
			})
		}
		t.Run("manifest", func(t *testing.T) {
			m := write(t, p, strings.NewReader("x"))
			if err := os.Truncate(p.path("shop/full/"+m.ID+"/manifest.json"), 100); err != nil {
				t.Fatal(err)
			}
			var fault *backup.FaultError
			if _, err := backup.Load(t.Context(), p, "shop", m.ID); !errors.As(err, &fault) {
				t.Errorf("load: %v", err)
			}
			if last := list(t, p); last[slices.IndexFunc(last, func(e backup.Entry) bool { return e.ID == m.ID })].Good() {
				t.Error("it is good")
			}
		})
	})
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	if err == nil {
		b[0] ^= 4
		_, err = f.WriteAt(b[:], at)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func swap(t *testing.T, a, b string) {
	t.Helper()
	x, aerr := os.ReadFile(a)
	y, berr := os.ReadFile(b)
	if err := errors.Join(aerr, berr); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(a, y, 0o600), os.WriteFile(b, x, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestPruningRemovesWhatThePolicyDoesNotKeep(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		var ids []string
		for i := range 5 {
			ids = append(ids, write(t, p, strings.NewReader(fmt.Sprint(i))).ID)
		}
		// Sorted by time to the second and then by chance.
		entries := list(t, p)
		slices.SortFunc(entries, func(a, b backup.Entry) int { return a.Manifest.Ended.Compare(b.Manifest.Ended) })
		if err := backup.SetPin(t.Context(), p, "shop", ids[1], &backup.Pin{By: "ann", Why: "audit"}); err != nil {
			t.Fatal(err)
		}
		if err := backup.SetPin(t.Context(), p, "shop", "another", &backup.Pin{}); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("a pin on nothing: %v", err)
		}
		w, err := backup.Create(t.Context(), p, "shop", backup.NewID(time.Now()), nil) // is being written
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, noise(4*part)); err != nil {
			t.Fatal(err)
		}
		farmtest.Eventually(t, "a part is stored", func() error {
			if len(list(t, p)) != 6 {
				return errors.New("there is none")
			}
			return nil
		})
		plan := backup.PlanPrune(list(t, p), backup.Policy{Last: 2}, map[string]bool{ids[2]: true}, time.Now())
		if len(plan.Abandoned) != 0 || plan.Freed == 0 || len(plan.Verdicts) != 5 {
			t.Errorf("the plan is %+v", plan)
		}
		if entries := list(t, p); len(entries) != 6 {
			t.Errorf("a plan removed something: %+v", entries)
		}
		removed, err := backup.Prune(t.Context(), p, "shop", plan)
		if err != nil || !slices.Equal(removed, ids[:1]) {
			t.Errorf("removed were %q, %v; want %q", removed, err, ids[:1])
		}
		if pin := list(t, p)[slices.IndexFunc(list(t, p), func(e backup.Entry) bool { return e.ID == ids[1] })].Pin; pin == nil || pin.Why != "audit" {
			t.Errorf("the pin is %+v", pin)
		}
		// What was given up in the middle goes a day later.
		plan = backup.PlanPrune(list(t, p), backup.Policy{}, nil, time.Now().Add(25*time.Hour))
		if !slices.Equal(plan.Abandoned, []string{w.ID()}) {
			t.Errorf("abandoned are %q, want %q", plan.Abandoned, w.ID())
		}
		if err := w.Abort(t.Context()); err != nil {
			t.Error(err)
		}
		if entries := list(t, p); len(entries) != 4 {
			t.Errorf("left are %+v", entries)
		}
	})
}

func TestTheNewestGoodOneIsFound(t *testing.T) {
	p := inDirectory(t)
	first := write(t, p, strings.NewReader("1"))
	second := write(t, p, strings.NewReader("2"))
	entries := list(t, p)
	slices.SortFunc(entries, func(a, b backup.Entry) int { return a.Manifest.Ended.Compare(b.Manifest.Ended) })
	for at, want := range map[time.Time]string{time.Now(): second.ID, second.Ended.Add(-1): first.ID, first.Ended: first.ID} {
		if e := backup.Newest(entries, at); e == nil || e.ID != want {
			t.Errorf("at %v: %v, want %s", at, e, want)
		}
	}
	if e := backup.Newest(entries, first.Ended.Add(-1)); e != nil {
		t.Errorf("before the first: %v", e)
	}
}

func TestMemoryDoesNotGrowWithABackup(t *testing.T) {
	farmtest.Long(t)
	p := inDirectory(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m := write(t, p, noise(150<<20))
	r, err := backup.Open(t.Context(), p, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r)
	if err := errors.Join(err, r.Close()); err != nil || n != m.Bytes {
		t.Fatalf("%d of %d bytes: %v", n, m.Bytes, err)
	}
	runtime.ReadMemStats(&after)
	// All that was ever allocated, garbage and both ways included.
	if got := (after.TotalAlloc - before.TotalAlloc) >> 20; got > 60 {
		t.Errorf("%d MiB were allocated for a backup of 150 and for reading it", got)
	}
}

func TestAReaderThatIsGivenUpEnds(t *testing.T) {
	p := inDirectory(t)
	m := write(t, p, noise(6*part))
	ctx, cancel := context.WithCancel(t.Context())
	r, err := backup.Open(ctx, p, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 100); err != nil {
		t.Fatal(err)
	}
	cancel()
	if n, err := io.Copy(io.Discard, r); err == nil {
		t.Errorf("%d bytes more, and no error, after the context's end", n)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
