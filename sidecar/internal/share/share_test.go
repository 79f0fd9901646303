package share_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"farmhand/internal/child"
	"farmhand/internal/farmtest"
	"farmhand/internal/mounts"
	"farmhand/internal/pki"
	"farmhand/sidecar/internal/share"
)

func TestMain(m *testing.M) {
	farmtest.BeWriters()
	goleak.VerifyTestMain(m)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a farm of two storage nodes, one after the other with the same disk, and a node that
// mounts it. GlusterFS's programs are the real ones.
type world struct {
	dir, disk, mount string
	authority        *pki.Authority
	client           *child.Child
	log              *zap.Logger
}

func newWorld(t *testing.T) *world {
	t.Helper()
	farmtest.NeedGlusterFS(t)
	w := &world{dir: farmtest.ShortDir(t), log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))}
	w.disk, w.mount = filepath.Join(w.dir, "disk"), filepath.Join(w.dir, "mnt")
	must(t, os.Mkdir(w.disk, 0o755))
	must(t, os.WriteFile(w.members(), []byte("web1\n"), 0o600))
	var err error
	w.authority, err = pki.NewAuthority("shop", time.Now())
	must(t, err)
	return w
}

func (w *world) certify(t *testing.T, a *pki.Authority, name string) pki.Files {
	t.Helper()
	dir := filepath.Join(w.dir, "keys-"+name)
	key, err := pki.NewKey()
	must(t, err)
	cert, err := a.Client(&key.PublicKey, name, time.Now())
	must(t, err)
	files := pki.In(dir, "node")
	for _, err := range []error{
		pki.MakeDir(dir), pki.WriteKey(files.Key, key), pki.WriteCertificate(files.Certificate, cert), pki.WriteCertificate(files.Authority, a.Certificate()),
	} {
		must(t, err)
	}
	return files
}

// program runs one of GlusterFS's in the foreground, which ends with the test.
func (w *world) program(t *testing.T, name, volfile string, arguments func(file string) []string) *child.Child {
	t.Helper()
	file := filepath.Join(w.dir, name+".vol")
	must(t, os.WriteFile(file, []byte(volfile), 0o600))
	out, err := os.OpenFile(filepath.Join(w.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	cmd := exec.Command(name, arguments(file)...)
	cmd.Stdout, cmd.Stderr = out, out
	c, err := child.Start(cmd, syscall.SIGKILL)
	must(t, errors.Join(err, out.Close()))
	t.Cleanup(func() {
		c.Signal(syscall.SIGKILL)
		<-c.Done()
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(w.dir, name+".log"))
			t.Logf("%s: %s", name, text)
		}
	})
	return c
}

func (w *world) members() string { return filepath.Join(w.dir, "members") }

func (w *world) socket() string { return filepath.Join(w.dir, "brick.sock") }

// brick runs glusterfsd on the disk, and returns when it answers.
func (w *world) brick(t *testing.T) *child.Child {
	t.Helper()
	b := share.Brick{Directory: w.disk, Socket: w.socket()}
	text, err := b.Volfile()
	must(t, err)
	c := w.program(t, "glusterfsd", text, b.Arguments)
	farmtest.Eventually(t, "the brick answers", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return share.Ask(ctx, w.socket())
	})
	return c
}

// begin runs something until what it returns is called, or the test ends.
func begin(t *testing.T, what string, run func(context.Context) error) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := run(ctx); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
	end = sync.OnceFunc(func() { cancel(); done.Wait() })
	t.Cleanup(end)
	return end
}

// gate opens the gate of a node that has the name and the address.
func (w *world) gate(t *testing.T, name, listen string) (end func()) {
	t.Helper()
	g := share.Gate{Files: w.certify(t, w.authority, name), Listen: listen, Socket: w.socket(), Members: w.members(), Log: w.log}
	return begin(t, "gate", g.Run)
}

// holders says who gives the disk.
func (w *world) holders(t *testing.T, lines string) string {
	t.Helper()
	file := filepath.Join(w.dir, "holders")
	must(t, os.WriteFile(file+".new", []byte(lines), 0o600))
	must(t, os.Rename(file+".new", file))
	return file
}

// mounted mounts the disk through a door.
func (w *world) mounted(t *testing.T, wait time.Duration) {
	t.Helper()
	door := share.Door{Files: w.certify(t, w.authority, "web1"), Socket: filepath.Join(w.dir, "door.sock"), Holders: filepath.Join(w.dir, "holders"), Hold: 2 * time.Second, Log: w.log}
	begin(t, "door", door.Run)
	w.client = w.connect(t, wait)
}

func (w *world) connect(t *testing.T, wait time.Duration) *child.Child {
	t.Helper()
	place := share.Place{Path: w.mount}
	must(t, place.Prepare())
	t.Cleanup(func() { must(t, place.Clear()) })
	of := share.Client{Socket: filepath.Join(w.dir, "door.sock"), Wait: wait}
	text, err := of.Volfile()
	must(t, err)
	c := w.program(t, "glusterfs", text, func(file string) []string { return of.Arguments(file, w.mount) })
	farmtest.Eventually(t, "the disk is mounted", place.Look)
	return c
}

// TestStorageComesBack: what writes files is told of no error but of what was under way, when the brick is killed and
// started again, and when another node gives the same disk at another address. All that was
// acknowledged is there.
func TestStorageComesBack(t *testing.T) {
	w := newWorld(t)
	first, second := farmtest.FreePort(t).String(), farmtest.FreePort(t).String()
	brick := w.brick(t)
	endFirst := w.gate(t, "files1", first)
	w.holders(t, "files1 "+first+"\n")
	w.mounted(t, 30*time.Second)
	all := farmtest.WriteFiles(t, w.mount, w.mount, w.mount, w.mount)
	all.More(t, "files are written")

	brick.Signal(syscall.SIGKILL)
	<-brick.Done()
	killed := time.Now()
	brick = w.brick(t)
	all.More(t, "files are written after the brick was killed")
	t.Logf("the brick was killed: files were written again after %v", time.Since(killed).Round(time.Millisecond))

	brick.Signal(syscall.SIGKILL)
	<-brick.Done()
	killed = time.Now()
	endFirst()
	time.Sleep(time.Second) // until another node has the disk
	w.brick(t)
	w.gate(t, "files2", second)
	w.holders(t, "files2 "+second+"\n")
	all.More(t, "files are written after another node has the disk")
	t.Logf("another node has the disk: files were written again after %v", time.Since(killed).Round(time.Millisecond))

	all.End()
	for _, name := range all.Written() {
		if got, err := os.ReadFile(filepath.Join(w.disk, name)); err != nil || string(got) != farmtest.FileText(name) {
			t.Errorf("%s was acknowledged, and is %q, %v", name, got, err)
		}
	}
	failed := all.Failed()
	if len(failed) > 8 { // each of four writers has one under way
		t.Errorf("%d writes failed: %v", len(failed), failed)
	}
	t.Logf("%d files were written, %d were not: %v; the longest took %v", len(all.Written()), len(failed), failed, all.Longest())
}

// TestNobodyWritesBelow: while the storage is not mounted nobody can write to the directory, not even
// root; and a storage that does not answer refuses after the time that was set.
func TestNobodyWritesBelow(t *testing.T) {
	w := newWorld(t)
	must(t, os.Mkdir(w.mount, 0o755))
	must(t, os.WriteFile(filepath.Join(w.mount, "old"), nil, 0o644))
	place := share.Place{Path: w.mount}
	if err := place.Prepare(); err == nil || !strings.Contains(err.Error(), "there are files in it (old)") {
		t.Errorf("a directory with files in it: %v", err)
	}
	must(t, os.Remove(filepath.Join(w.mount, "old")))
	listen := farmtest.FreePort(t).String()
	brick := w.brick(t)
	w.gate(t, "files1", listen)
	w.holders(t, "files1 "+listen+"\n")
	w.mounted(t, time.Second)
	file := filepath.Join(w.mount, "a")
	must(t, farmtest.PutFile(file, "text"))
	var s unix.Statfs_t
	must(t, unix.Statfs(w.mount, &s))
	if s.Flags&unix.ST_NOSUID == 0 || s.Flags&unix.ST_NODEV == 0 {
		t.Errorf("the mount's flags are %#x", s.Flags)
	}

	brick.Signal(syscall.SIGKILL)
	<-brick.Done()
	began := time.Now()
	if err := farmtest.PutFile(filepath.Join(w.mount, "b"), "text"); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("a storage that does not come back: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it was refused after %v", took)
	}
	w.brick(t)
	farmtest.Eventually(t, "the storage is there again", func() error { return farmtest.PutFile(filepath.Join(w.mount, "b"), "text") })

	w.client.Signal(syscall.SIGKILL)
	<-w.client.Done()
	if err := place.Look(); err == nil {
		t.Error("a storage whose client was killed is well")
	}
	if err := farmtest.PutFile(file, "lost"); err == nil {
		t.Error("a file was written while nothing was mounted")
	}
	must(t, place.Prepare()) // as before the next start
	if err := farmtest.PutFile(file, "lost"); !errors.Is(err, syscall.EROFS) {
		t.Errorf("a file below the storage: %v", err)
	}
	if err := place.Look(); err == nil || !strings.Contains(err.Error(), "is not mounted") {
		t.Errorf("a storage that is not mounted: %v", err)
	}
	client := w.connect(t, time.Second)
	if text, err := os.ReadFile(file); err != nil || string(text) != "text" {
		t.Errorf("the file is %q, %v", text, err)
	}
	client.Signal(syscall.SIGTERM)
	<-client.Done()
	must(t, place.Clear())
	if at, err := mounts.At(w.mount); err != nil || at != nil {
		t.Errorf("still mounted: %+v, %v", at, err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("below the storage: %v", err)
	}
}

// TestOnlyTheFarmComesIn: the gate takes the certificates of its farm's nodes only, and the door
// leads to whom the membership names only.
func TestOnlyTheFarmComesIn(t *testing.T) {
	w := newWorld(t)
	listen := farmtest.FreePort(t).String()
	w.brick(t)
	w.gate(t, "files1", listen)
	must(t, os.WriteFile(w.members(), []byte("web2\nweb3\nweb4\nweb5\nweb6\nweb9\n"), 0o600))
	stranger, err := pki.NewAuthority("other", time.Now())
	must(t, err)
	for name, c := range map[string]struct {
		files   pki.Files
		holders string
	}{
		"a node of another farm":   {w.certify(t, stranger, "web9"), "files1 " + listen},
		"a node that was expelled": {w.certify(t, w.authority, "web7"), "files1 " + listen},
		"another node is there":    {w.certify(t, w.authority, "web2"), "files7 " + listen},
		"nobody is there":          {w.certify(t, w.authority, "web3"), "files1 " + farmtest.FreePort(t).String()},
		"nobody is known":          {w.certify(t, w.authority, "web4"), ""},
		"what cannot be believed":  {w.certify(t, w.authority, "web5"), "files1"},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(w.dir, "one.sock")
			door := share.Door{Files: c.files, Socket: socket, Holders: w.holders(t, c.holders), Hold: 300 * time.Millisecond, Log: zap.NewNop()}
			begin(t, "door", door.Run)
			farmtest.Eventually(t, "the door is there", func() error { _, err := os.Stat(socket); return err })
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := share.Ask(ctx, socket); err == nil || ctx.Err() != nil {
				t.Errorf("it was led to the brick: %v", err)
			}
		})
	}
	socket := filepath.Join(w.dir, "one.sock")
	begin(t, "door", share.Door{Files: w.certify(t, w.authority, "web6"), Socket: socket, Holders: w.holders(t, "files1 "+listen), Hold: time.Second, Log: w.log}.Run)
	farmtest.Eventually(t, "a node of the farm is led to the brick", func() error { return share.Ask(t.Context(), socket) })
}

// TestDoorIsCut: that the client is led somewhere is told as long as it is, and it has to come again when it is to.
func TestDoorIsCut(t *testing.T) {
	w := newWorld(t)
	listen := farmtest.FreePort(t).String()
	w.brick(t)
	w.gate(t, "files1", listen)
	socket, led, cut := filepath.Join(w.dir, "one.sock"), filepath.Join(w.dir, "led"), make(chan struct{})
	must(t, os.WriteFile(led, nil, 0o600)) // of one that was killed
	begin(t, "door", share.Door{
		Files: w.certify(t, w.authority, "web1"), Socket: socket, Holders: w.holders(t, "files1 "+listen), Led: led, Cut: cut, Hold: time.Second, Log: zap.NewNop(),
	}.Run)
	for range 2 {
		var conn net.Conn
		farmtest.Eventually(t, "the door is there", func() (err error) { conn, err = net.Dial("unix", socket); return err })
		farmtest.Eventually(t, "the client is led", func() error { _, err := os.Stat(led); return err })
		cut <- struct{}{}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the client's connection: %v", err)
		}
		must(t, conn.Close())
		farmtest.Eventually(t, "the client is not led", func() error {
			if _, err := os.Stat(led); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s is there, %v", led, err)
			}
			return nil
		})
	}
}
