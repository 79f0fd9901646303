package drill_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	format "farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/objects"
	"farmhand/internal/restore"
)

var faults = flag.Int("exact.faults", 0, "how many faults there are in each stage of a restore; 0: some in one of them at random")

// killed makes the test binary a process that restores, as described in the variable.
const killed = "FARMHAND_TEST_RESTORE"

type job struct {
	Flavor    farm.Flavor
	Directory string
	To        restore.Target
	Config    dbserver.Config
}

func play(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	ctx := context.Background()
	store, err := objects.Open(ctx, objects.Config{Directory: j.Directory})
	if err != nil {
		return err
	}
	inst, err := dbserver.Find(ctx, j.Flavor, farmtest.MySQLRoot())
	if err != nil {
		return err
	}
	plan, err := restore.Find(ctx, restore.Source{Store: store, Cluster: cluster}, j.To, "")
	if err != nil {
		return err
	}
	_, err = plan.Restore(ctx, restore.Into{Install: inst, Config: j.Config, Tell: func(p restore.Progress) { fmt.Println(p.Phase) }})
	return err
}

// faulty is a store of which some objects are not given as they are.
type faulty struct {
	objects.Store
	get func(key string, r io.ReadCloser) (io.ReadCloser, error)
}

func (f faulty) Get(ctx context.Context, key string, o objects.GetOptions) (io.ReadCloser, objects.Object, error) {
	r, object, err := f.Store.Get(ctx, key, o)
	if err != nil {
		return nil, object, err
	}
	given, err := f.get(key, r)
	if err != nil {
		return nil, object, errors.Join(err, r.Close())
	}
	return given, object, nil
}

// slow gives a little at a time.
type slow struct{ io.ReadCloser }

func (s slow) Read(b []byte) (int, error) {
	time.Sleep(time.Millisecond) // it is what is tested
	return s.ReadCloser.Read(b[:min(len(b), 8<<10)])
}

// broken gives so many bytes and then an error.
type broken struct {
	io.ReadCloser
	left int
}

func (b *broken) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, fmt.Errorf("%w: it went away", objects.ErrUnavailable)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// kinds are what befalls a restore that reads some objects of a stage. Each returns the
// objects' names, one of which an error must show, or other words that it must have.
var kinds = map[string]func(*attempt) []string{
	"refusing": func(a *attempt) []string {
		a.on(func(string, io.ReadCloser) (io.ReadCloser, error) {
			return nil, fmt.Errorf("%w: not you", objects.ErrDenied)
		})
		return []string{objects.ErrDenied.Error()}
	},
	"down": func(a *attempt) []string {
		a.on(func(_ string, r io.ReadCloser) (io.ReadCloser, error) { return &broken{r, 1 + a.r.IntN(200)}, nil })
		return []string{objects.ErrUnavailable.Error()}
	},
	"slow": func(a *attempt) []string {
		a.on(func(_ string, r io.ReadCloser) (io.ReadCloser, error) { return slow{r}, nil })
		return nil
	},
	"missing": func(a *attempt) []string {
		a.must(os.Remove(a.path(a.key)))
		return []string{a.key, a.within}
	},
	"corrupted": func(a *attempt) []string {
		data := a.read(a.key)
		data[a.r.IntN(len(data))] ^= 1 << a.r.IntN(8)
		a.must(os.WriteFile(a.path(a.key), data, 0o600))
		return []string{a.key, a.within}
	},
	"cut off": func(a *attempt) []string {
		a.must(os.WriteFile(a.path(a.key), a.read(a.key)[:1+a.r.IntN(100)], 0o600))
		return []string{a.key, a.within}
	},
	"reordered": func(a *attempt) []string {
		one, other := a.read(a.key), a.read(a.other)
		a.must(os.WriteFile(a.path(a.key), other, 0o600))
		a.must(os.WriteFile(a.path(a.other), one, 0o600))
		return []string{a.key, a.other}
	},
	"full disk": func(a *attempt) []string {
		size := a.needs * (60 + a.r.Int64N(60)) / 100
		a.must(unix.Mount("tmpfs", filepath.Dir(a.into.Config.Dir), "tmpfs", 0, fmt.Sprintf("size=%d", size)))
		a.t.Cleanup(func() { a.must(unix.Unmount(filepath.Dir(a.into.Config.Dir), unix.MNT_DETACH)) })
		return []string{"MiB", "o space left", "o room left", "Errcode: 28", "is full", "error 28"}
	},
	"killed": func(a *attempt) []string {
		text, err := json.Marshal(job{a.into.Install.Flavor, a.dir, a.target, a.into.Config})
		a.must(err)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killed+"="+string(text))
		out, err := cmd.StdoutPipe()
		a.must(err)
		a.must(cmd.Start())
		for said := ""; !strings.Contains(said, string(a.phase)); {
			b := make([]byte, 100)
			n, err := out.Read(b)
			if said += string(b[:n]); err != nil {
				a.t.Fatalf("it ended after %q: %v", said, err)
			}
		}
		a.must(cmd.Process.Kill())
		_ = cmd.Wait() // by that
		return nil
	},
}

// attempt is a restore that something befalls.
type attempt struct {
	t      *testing.T
	r      *rand.Rand
	dir    string // of the store
	source restore.Source
	target restore.Target
	into   restore.Into
	phase  restore.Phase
	needs  int64 // bytes of the disk, about

	key, other string // two objects of the stage
	within     string // what else names the first: the position after it
}

func (a *attempt) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}
func (a *attempt) path(key string) string { return filepath.Join(a.dir, filepath.FromSlash(key)) }

// read reads an object, which is put back at the end.
func (a *attempt) read(key string) []byte {
	data, err := os.ReadFile(a.path(key))
	a.must(err)
	a.t.Cleanup(func() { a.must(os.WriteFile(a.path(key), data, 0o600)) })
	return bytes.Clone(data)
}

// on has the store give the object otherwise.
func (a *attempt) on(get func(string, io.ReadCloser) (io.ReadCloser, error)) {
	a.source.Store = faulty{a.source.Store, func(key string, r io.ReadCloser) (io.ReadCloser, error) {
		if key == a.key {
			return get(key, r)
		}
		return r, nil
	}}
}

// befall: whatever befalls a restore, it is exact or it says what is missing.
func befall(t *testing.T, r *rand.Rand, of farm.Flavor, store objects.Store, dir string, m *format.Manifest, all []transaction) {
	source := restore.Source{Store: store, Cluster: cluster}
	begin := slices.IndexFunc(all, func(x transaction) bool { return !position(t, m.Position).Contains(position(t, x.position)) })
	stages := []restore.Phase{restore.Fetching, restore.Replaying}
	run := func(stage restore.Phase, kind string) {
		t.Run(fmt.Sprintf("%s %s", stage, kind), func(t *testing.T) {
			n := begin + (len(all)-begin)/2 + r.IntN((len(all)-begin)/2)
			a := &attempt{
				t: t, r: r, dir: dir, source: source, target: restore.Target{Position: all[n].position}, phase: stage,
				into: place(t, of, farmtest.ShortDir(t)), needs: m.Bytes,
			}
			plan, err := restore.Find(t.Context(), source, a.target, "")
			a.must(err)
			if stage == restore.Fetching {
				parts := m.Parts
				i := r.IntN(len(parts))
				a.key, a.other, a.within = parts[i].Key, parts[(i+1)%len(parts)].Key, parts[i].Key
			} else {
				i := r.IntN(len(plan.Segments) - 1)
				a.key, a.other, a.within = plan.Segments[i].Key, plan.Segments[i+1].Key, plan.Segments[i].Position
			}
			if kind == "missing" || kind == "cut off" {
				a.read(a.key) // to put it back
			}
			words := kinds[kind](a)
			plan, err = restore.Find(t.Context(), a.source, a.target, "")
			var data *restore.Restored
			if err == nil {
				data, err = plan.Restore(t.Context(), a.into)
			}
			switch {
			case err == nil:
				t.Logf("exact at %s", data.Position)
				a.must(data.Swap())
				same(t, a.into, data.Position, all[:n+1])
			case !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(err.Error(), w) }):
				t.Errorf("to %s with %s: it does not name one of %q: %v", a.target, a.key, words, err)
			default:
				t.Logf("refused: %v", err)
				if _, err := os.Stat(dbserver.Incoming(a.into.Config).Dir); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("something is left: %v", err)
				}
			}
		})
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range kinds {
			if !yield(name) {
				return
			}
		}
	})
	if *faults == 0 {
		for _, i := range r.Perm(len(names))[:4] {
			run(stages[r.IntN(2)], names[i])
		}
	}
	for _, stage := range stages {
		for i := range *faults {
			run(stage, names[i%len(names)])
		}
	}
	if entries, err := format.List(t.Context(), store, cluster); err != nil || len(entries) != 1 || !entries[0].Good() {
		t.Errorf("the backup is not as it was: %+v, %v", entries, err)
	}
}
