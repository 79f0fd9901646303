package objects_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"farmhand/internal/farmtest"
	"farmhand/internal/objects"
)

func TestMain(m *testing.M) {
	os.Exit(farmtest.Leakless{M: m, Patience: 5 * time.Second}.Run())
}

// part is the tests' size of a part: S3's smallest.
const part = 5 << 20

// kinds are the stores that the contract is tried on.
var kinds = map[string]func(t *testing.T) objects.Store{
	"directory": func(t *testing.T) objects.Store { return open(t, objects.Config{Directory: t.TempDir()}) },
	"S3":        func(t *testing.T) objects.Store { return open(t, inS3(farmtest.StartS3(t).Addr())) },
	"S3 with a prefix": func(t *testing.T) objects.Store {
		c := inS3(farmtest.StartS3(t).Addr())
		c.Prefix = "farms/shop"
		return open(t, c)
	},
}

func inS3(address string) objects.Config {
	return objects.Config{
		Bucket: farmtest.S3Bucket, Region: farmtest.S3Region, Endpoint: "http://" + address, Part: part,
		Patience: 30 * time.Second,
	}
}

func open(t *testing.T, c objects.Config) objects.Store {
	t.Helper()
	s, err := objects.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func each(t *testing.T, run func(t *testing.T, s objects.Store)) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) { run(t, kind(t)) })
	}
}

// content is bytes by chance that are the same each time.
func content(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b) // never fails
	return b
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// stream hides what kind of reader it is.
func stream(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} }

func put(t *testing.T, s objects.Store, key string, b []byte, o objects.PutOptions) objects.Object {
	t.Helper()
	object, err := s.Put(t.Context(), key, stream(b), o)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

func get(t *testing.T, s objects.Store, key string, o objects.GetOptions) []byte {
	t.Helper()
	r, _, err := s.Get(t.Context(), key, o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

func keys(t *testing.T, s objects.Store, prefix string) []string {
	t.Helper()
	var found []string
	if err := s.List(t.Context(), prefix, func(o objects.Object) error {
		found = append(found, o.Key)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestWhatWasPutIsThere(t *testing.T) {
	each(t, func(t *testing.T, s objects.Store) {
		for _, n := range []int{0, 1, part - 1, part, part + 1, 3*part + 17} {
			b := content(n)
			key := fmt.Sprintf("a/size-%d", n)
			o := put(t, s, key, b, objects.PutOptions{SHA256: sum(b)})
			if o.Size != int64(n) || o.SHA256 != sum(b) {
				t.Errorf("%d bytes: put says %+v", n, o)
			}
			if got := get(t, s, key, objects.GetOptions{}); !bytes.Equal(got, b) {
				t.Errorf("%d bytes: got %d others", n, len(got))
			}
			head, err := s.Head(t.Context(), key)
			if err != nil || head.Size != int64(n) || head.SHA256 != sum(b) || time.Since(head.Modified) > time.Minute {
				t.Errorf("%d bytes: head says %+v, %v", n, head, err)
			}
		}
		b := content(10)
		put(t, s, "a/size-1", b, objects.PutOptions{}) // in place of another
		if got := get(t, s, "a/size-1", objects.GetOptions{}); !bytes.Equal(got, b) {
			t.Errorf("got %q", got)
		}
	})
}

func TestParts(t *testing.T) {
	each(t, func(t *testing.T, s objects.Store) {
		b := content(1000)
		put(t, s, "a", b, objects.PutOptions{})
		for _, c := range []struct{ offset, length, end int64 }{{0, 10, 10}, {990, 10, 1000}, {990, 100, 1000}, {5, 0, 1000}, {1000, 0, 1000}, {1000, 5, 1000}} {
			if got := get(t, s, "a", objects.GetOptions{Offset: c.offset, Length: c.length}); !bytes.Equal(got, b[c.offset:c.end]) {
				t.Errorf("%+v: got %d bytes", c, len(got))
			}
		}
		for _, o := range []objects.GetOptions{{Offset: 1001}, {Offset: -1}, {Length: -1}} {
			if _, _, err := s.Get(t.Context(), "a", o); !errors.Is(err, objects.ErrInvalid) {
				t.Errorf("%+v: %v", o, err)
			}
		}
	})
}

func TestWhatIsNotThere(t *testing.T) {
	each(t, func(t *testing.T, s objects.Store) {
		put(t, s, "a/b", nil, objects.PutOptions{})
		for _, key := range []string{"b", "a", "a/b/c"} {
			if _, err := s.Head(t.Context(), key); !errors.Is(err, objects.ErrNotFound) {
				t.Errorf("head %s: %v", key, err)
			}
			if _, _, err := s.Get(t.Context(), key, objects.GetOptions{}); !errors.Is(err, objects.ErrNotFound) {
				t.Errorf("get %s: %v", key, err)
			}
		}
		if err := s.Delete(t.Context(), "b", ""); err != nil {
			t.Errorf("delete: %v", err)
		}
		if found := keys(t, s, "c/"); found != nil {
			t.Errorf("list: %q", found)
		}
		for _, key := range []string{"", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a b", "a\x00", strings.Repeat("a/", 600) + "a"} {
			if _, err := s.Put(t.Context(), key, stream(nil), objects.PutOptions{}); !errors.Is(err, objects.ErrInvalid) {
				t.Errorf("put %q: %v", key, err)
			}
		}
	})
}

func TestListIsInOrder(t *testing.T) {
	each(t, func(t *testing.T, s objects.Store) {
		for _, key := range []string{"x/b", "x/a/2", "x/a/1", "x/a-b", "x/a.c", "y", "xx"} {
			put(t, s, key, []byte(key), objects.PutOptions{})
		}
		for prefix, want := range map[string][]string{
			"":     {"x/a-b", "x/a.c", "x/a/1", "x/a/2", "x/b", "xx", "y"},
			"x":    {"x/a-b", "x/a.c", "x/a/1", "x/a/2", "x/b", "xx"},
			"x/":   {"x/a-b", "x/a.c", "x/a/1", "x/a/2", "x/b"},
			"x/a/": {"x/a/1", "x/a/2"}, "x/a": {"x/a-b", "x/a.c", "x/a/1", "x/a/2"}, "z": nil,
		} {
			if found := keys(t, s, prefix); !slices.Equal(found, want) {
				t.Errorf("%q: %q, want %q", prefix, found, want)
			}
		}
		enough := errors.New("enough")
		if err := s.List(t.Context(), "", func(objects.Object) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("%v", err)
		}
		for _, key := range keys(t, s, "x/") {
			if err := s.Delete(t.Context(), key, ""); err != nil {
				t.Error(err)
			}
		}
		if found := keys(t, s, ""); !slices.Equal(found, []string{"xx", "y"}) {
			t.Errorf("after the deletes: %q", found)
		}
	})
}

func TestOneOfSeveralPutsWins(t *testing.T) {
	each(t, func(t *testing.T, s objects.Store) {
		for _, n := range []int{100, part + 100} {
			var won, lost atomic.Int32
			var all sync.WaitGroup
			key := fmt.Sprintf("once/%d", n)
			for i := range 4 {
				all.Go(func() {
					b := content(n)
					b[0] = byte(i)
					switch _, err := s.Put(t.Context(), key, stream(b), objects.PutOptions{IfAbsent: true}); {
					case err == nil:
						won.Add(1)
					case errors.Is(err, objects.ErrExists):
						lost.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			all.Wait()
			if won.Load() != 1 || lost.Load() != 3 {
				t.Errorf("%d bytes: %d won, %d lost", n, won.Load(), lost.Load())
			}
		}
	})
}

// broken is a reader that fails after so many bytes.
type broken struct{ left int }

var errBroken = errors.New("the source broke")

func (b *broken) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errBroken
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

func TestAnErrorOfTheSourceStoresNothing(t *testing.T) {
	each(t, func(t *testing.T, s objects.Store) {
		for _, n := range []int{0, 100, part, 2*part + 1} {
			if _, err := s.Put(t.Context(), "a", &broken{n}, objects.PutOptions{}); !errors.Is(err, errBroken) {
				t.Errorf("after %d bytes: %v", n, err)
			}
		}
		if _, err := s.Put(t.Context(), "a", stream(content(2*part)), objects.PutOptions{SHA256: sum(nil)}); !errors.Is(err, objects.ErrInvalid) {
			t.Errorf("other content: %v", err)
		}
		if _, err := s.Put(t.Context(), "a", stream(content(2)), objects.PutOptions{SHA256: sum(nil)}); !errors.Is(err, objects.ErrInvalid) {
			t.Errorf("other content: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errBroken)
		if _, err := s.Put(ctx, "a", stream(content(10)), objects.PutOptions{}); !errors.Is(err, errBroken) {
			t.Errorf("cancelled: %v", err)
		}
		if found := keys(t, s, ""); found != nil {
			t.Errorf("there is %q", found)
		}
		if n, err := s.Sweep(t.Context(), "", time.Now().Add(time.Hour)); n != 0 || err != nil {
			t.Errorf("%d unfinished puts are left, %v", n, err)
		}
	})
}

// zeros is a reader of so many.
type zeros struct{ left int }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), z.left)
	clear(p[:n])
	z.left -= n
	return n, nil
}

func TestMemoryDoesNotGrowWithAnObject(t *testing.T) {
	farmtest.Long(t)
	each(t, func(t *testing.T, s objects.Store) {
		const size = 400 << 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := s.Put(t.Context(), "large", &zeros{size}, objects.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		r, o, err := s.Get(t.Context(), "large", objects.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, r)
		if err := errors.Join(err, r.Close()); err != nil || n != size || o.Size != size {
			t.Fatalf("%d of %d bytes, %v", n, o.Size, err)
		}
		runtime.ReadMemStats(&after)
		// All that was ever allocated, so garbage counts.
		if got := after.TotalAlloc - before.TotalAlloc; got > 100<<20 {
			t.Errorf("%d MiB were allocated", got>>20)
		}
	})
}

func TestADirectoryOfSomeoneElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []objects.Config{{}, {Directory: "relative"}, {Directory: file}, {Directory: "/a", Bucket: "b"}} {
		if _, err := objects.Open(t.Context(), c); err == nil {
			t.Errorf("%+v was opened", c)
		}
	}
}
