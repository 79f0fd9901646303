package objects_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"farmhand/internal/farmtest"
	"farmhand/internal/objects"
)

func TestWhoIsNotKnownIsRefused(t *testing.T) {
	s := farmtest.StartS3(t)
	began := time.Now()
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	store := open(t, inS3(s.Addr()))
	if _, err := store.Put(t.Context(), "a", stream(nil), objects.PutOptions{}); !errors.Is(err, objects.ErrDenied) {
		t.Errorf("put: %v", err)
	}
	if _, err := store.Head(t.Context(), "a"); !errors.Is(err, objects.ErrDenied) {
		t.Errorf("head: %v", err)
	}
	if err := store.List(t.Context(), "", func(objects.Object) error { return nil }); !errors.Is(err, objects.ErrDenied) {
		t.Errorf("list: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if _, err := objects.Open(t.Context(), inS3(s.Addr())); !errors.Is(err, objects.ErrDenied) {
		t.Errorf("no credentials: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v: what is denied was tried again", took)
	}
}

func TestABucketThatIsMissing(t *testing.T) {
	c := inS3(farmtest.StartS3(t).Addr())
	c.Bucket = "another"
	store := open(t, c)
	if _, err := store.Put(t.Context(), "a", stream(nil), objects.PutOptions{}); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("put: %v", err)
	}
	if err := store.List(t.Context(), "", func(objects.Object) error { return nil }); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("list: %v", err)
	}
}

// at calls do once when so many bytes have been read.
type at struct {
	io.Reader
	left int
	do   func()
}

func (a *at) Read(b []byte) (int, error) {
	if a.left == 0 {
		if a.do != nil {
			a.do()
		}
		return a.Reader.Read(b)
	}
	n, err := a.Reader.Read(b[:min(len(b), a.left)])
	a.left -= n
	return n, err
}

func TestThePutGoesOnAfterTheServerWasKilled(t *testing.T) {
	s := farmtest.StartS3(t)
	c := inS3(s.Addr())
	c.Parallel = 3 // so that a part is read while the others wait
	store := open(t, c)
	b := content(6*part + 5)
	var killed, restarted bool
	source := &at{Reader: &at{Reader: stream(b), left: 2*part + 1000, do: func() {
		if !restarted {
			s.Restart(t)
			restarted = true
		}
	}}, left: 2 * part, do: func() {
		if !killed {
			s.Kill9(t)
			killed = true
		}
	}}
	if _, err := store.Put(t.Context(), "a", source, objects.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	if !killed || !restarted || !bytes.Equal(get(t, store, "a", objects.GetOptions{}), b) {
		t.Error("it has other content")
	}
}

func TestTheGetGoesOnAfterTheServerWasKilled(t *testing.T) {
	s := farmtest.StartS3(t)
	store := open(t, inS3(s.Addr()))
	b := content(8 * part)
	for _, o := range []objects.GetOptions{{}, {Offset: 100, Length: 7 * part}} {
		put(t, store, "a", b, objects.PutOptions{})
		want := b[o.Offset:]
		if o.Length > 0 {
			want = want[:o.Length]
		}
		r, _, err := store.Get(t.Context(), "a", o)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 1000)
		if _, err := io.ReadFull(r, first); err != nil {
			t.Fatal(err)
		}
		s.Kill9(t)
		s.Restart(t)
		rest, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(append(first, rest...), want) {
			t.Errorf("%+v: got %d of %d bytes, %v", o, 1000+len(rest), len(want), err)
		}
	}
	// What comes is never of another object.
	r, _, err := store.Get(t.Context(), "a", objects.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, store, "a", content(9*part), objects.PutOptions{})
	s.Kill9(t)
	s.Restart(t)
	got, err := io.ReadAll(r)
	if err == nil || !bytes.HasPrefix(b, got) {
		t.Errorf("%d bytes of an object that was replaced were read, %v", len(got), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestAPutWhoseAnswerIsLostHasWon(t *testing.T) {
	s := farmtest.StartS3(t)
	link := farmtest.NewLink(t, s.Addr())
	store := open(t, inS3(link.Addr()))
	done := make(chan struct{})
	source := &at{Reader: stream([]byte("mine")), do: func() { link.DropAfter(1) }}
	go func() {
		defer close(done)
		farmtest.Eventually(t, "the object is stored", func() error {
			_, err := os.Stat(s.Path("a"))
			return err
		})
		link.Restore()
	}()
	_, err := store.Put(t.Context(), "a", source, objects.PutOptions{IfAbsent: true})
	<-done
	if err != nil {
		t.Errorf("the put was first, and says: %v", err)
	}
	if _, err := store.Put(t.Context(), "a", stream([]byte("mine")), objects.PutOptions{IfAbsent: true}); !errors.Is(err, objects.ErrExists) {
		t.Errorf("the same content again: %v", err)
	}
}

func TestAFaultyWayToTheServer(t *testing.T) {
	s := farmtest.StartS3(t)
	link := farmtest.NewLink(t, s.Addr())
	c := inS3(link.Addr())
	c.Patience, c.Stall = 3*time.Second, time.Second
	store := open(t, c)
	b := content(1 << 20)
	t.Run("slow", func(t *testing.T) {
		link.Slow(10*time.Millisecond, 2<<20)
		defer link.Restore()
		put(t, store, "slow", b, objects.PutOptions{})
		if !bytes.Equal(get(t, store, "slow", objects.GetOptions{}), b) {
			t.Error("other content")
		}
	})
	for name, fault := range map[string]func(){"refusing": link.Cut, "standing still": link.Stall, "breaking": func() { link.DropAfter(20) }} {
		t.Run(name, func(t *testing.T) {
			fault()
			defer link.Restore()
			began := time.Now()
			_, err := store.Put(t.Context(), "a", stream(b), objects.PutOptions{})
			if took := time.Since(began); !errors.Is(err, objects.ErrUnavailable) || took < 2*time.Second || took > 20*time.Second {
				t.Errorf("put: %v after %v", err, took)
			}
			if _, _, err := store.Get(t.Context(), "slow", objects.GetOptions{}); !errors.Is(err, objects.ErrUnavailable) {
				t.Errorf("get: %v", err)
			}
			if name == "standing still" && !strings.Contains(err.Error(), "nothing moved for 1s") {
				t.Errorf("it does not say why: %v", err)
			}
		})
	}
	t.Run("whole again", func(t *testing.T) {
		if !bytes.Equal(get(t, store, "slow", objects.GetOptions{}), b) {
			t.Error("other content")
		}
	})
	t.Run("breaking after a while", func(t *testing.T) {
		link.DropAfter(300 << 10)
		defer link.Restore()
		if !bytes.Equal(get(t, store, "slow", objects.GetOptions{}), b) {
			t.Error("other content")
		}
	})
}

func TestARateIsKept(t *testing.T) {
	c := inS3(farmtest.StartS3(t).Addr())
	c.Rate = 2 << 20
	store := open(t, c)
	b := content(2 << 20)
	began := time.Now()
	put(t, store, "a", b, objects.PutOptions{})
	sent := time.Since(began)
	get(t, store, "a", objects.GetOptions{})
	if received := time.Since(began) - sent; sent < 900*time.Millisecond || received < 900*time.Millisecond {
		t.Errorf("2 MiB at 2 MiB/s: sent in %v, received in %v", sent, received)
	}
}

func TestVersions(t *testing.T) {
	s := farmtest.StartS3(t)
	loaded, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(farmtest.S3Region))
	if err != nil {
		t.Fatal(err)
	}
	client := s3.NewFromConfig(loaded, func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = aws.String(s.Endpoint()), true })
	if _, err := client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: aws.String(farmtest.S3Bucket), VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	}); err != nil {
		t.Fatal(err)
	}
	store := open(t, inS3(s.Addr()))
	first := put(t, store, "a", []byte("first"), objects.PutOptions{})
	second := put(t, store, "a", []byte("second"), objects.PutOptions{})
	if first.Version == "" || first.Version == second.Version {
		t.Fatalf("the versions are %q and %q", first.Version, second.Version)
	}
	if err := store.Delete(t.Context(), "a", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Head(t.Context(), "a"); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("after the delete: %v", err)
	}
	for text, o := range map[string]objects.Object{"first": first, "second": second} {
		if got := get(t, store, "a", objects.GetOptions{Version: o.Version}); string(got) != text {
			t.Errorf("version %s: %q, want %q", o.Version, got, text)
		}
	}
	if err := store.Delete(t.Context(), "a", first.Version); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Get(t.Context(), "a", objects.GetOptions{Version: first.Version}); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("a version that was removed: %v", err)
	}
}

func TestUnfinishedPutsAreSwept(t *testing.T) {
	each(t, func(t *testing.T, s objects.Store) {
		r, w := io.Pipe()
		done := make(chan error, 1)
		go func() {
			_, err := s.Put(t.Context(), "a/b", r, objects.PutOptions{})
			done <- err
		}()
		if _, err := w.Write(content(part + 1)); err != nil { // the upload has begun when the second byte is taken
			t.Fatal(err)
		}
		if n, err := s.Sweep(t.Context(), "a/", time.Now().Add(-time.Hour)); n != 0 || err != nil {
			t.Errorf("%d of the last hour were swept, %v", n, err)
		}
		if n, err := s.Sweep(t.Context(), "a/", time.Now().Add(time.Hour)); n != 1 || err != nil {
			t.Errorf("%d were swept, %v", n, err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err == nil {
			t.Error("what was swept under a put was put")
		}
		if found := keys(t, s, ""); found != nil {
			t.Errorf("there is %q", found)
		}
	})
}
