package main

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/child"
	"farmhand/internal/farmtest"
)

// breaker is between a gate and its brick, and breaks connections.
type breaker struct {
	// armed: the next connection is broken when the client asks for a file, which it does first of all to open those
	// again that it has open.
	armed atomic.Bool
	mu    sync.Mutex
	conns []net.Conn
	all   sync.WaitGroup
}

// fops is the number of GlusterFS's program that has the operations on files.
const fops = 1298437

// newBreaker takes the place of the socket, behind which the brick is.
func newBreaker(t *testing.T, socket string) *breaker {
	t.Helper()
	real := socket + ".real"
	must(t, os.Rename(socket, real))
	l, err := net.Listen("unix", socket)
	must(t, err)
	b := &breaker{}
	b.all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("unix", real)
			if err != nil {
				_ = from.Close()
				continue
			}
			b.mu.Lock()
			b.conns = append(b.conns, from, to)
			b.mu.Unlock()
			b.all.Go(func() { _, _ = io.Copy(from, to); _ = from.Close() })
			b.all.Go(func() { b.pass(to, from); _ = from.Close(); _ = to.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); b.cut(); b.all.Wait() })
	return b
}

// pass passes on what the client asks until it is to break.
func (b *breaker) pass(to io.Writer, from io.Reader) {
	for {
		var head [4]byte
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return
		}
		const id, call, version, program = 4, 4, 4, 4 // the message's first words
		body := make([]byte, binary.BigEndian.Uint32(head[:])&^(1<<31))
		if _, err := io.ReadFull(from, body); err != nil || len(body) < id+call+version+program {
			return
		}
		if binary.BigEndian.Uint32(body[id+call+version:]) == fops && b.armed.CompareAndSwap(true, false) {
			return
		}
		if _, err := to.Write(append(head[:], body...)); err != nil {
			return
		}
	}
}

func (b *breaker) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range b.conns {
		_ = conn.Close()
	}
	b.conns = nil
}

// stuckWorld is a storage node, a node that mounts its directory, and processes that have files of it open.
type stuckWorld struct {
	files, app   *webNode
	shared, data string
	all          *farmtest.Writers
}

// newStuckWorld starts both nodes, and between does what there is to be done.
func newStuckWorld(t *testing.T, between func(files *webNode)) *stuckWorld {
	t.Helper()
	farmtest.Long(t)
	farmtest.NeedGlusterFS(t)
	f := newFarm(t)
	f.assign(t, 1, "db1", "db2")
	listen, data := farmtest.FreePort(t).String(), farmtest.ShortDir(t)
	shared := filepath.Join(farmtest.ShortDir(t), "shared")
	w := &stuckWorld{
		files: newStorageNode(t, f, "storage", "files", "files1", listen, map[string]any{"data": data, "listen": listen, "durable": false, "owner": "nobody"}),
		app:   newStorageNode(t, f, "base", "app", "app1", "", map[string]any{"mounts": []any{map[string]any{"storage": "files", "path": shared, "wait": "30s"}}}),
		data:  data, shared: shared,
	}
	w.files.start(t)
	w.files.await(t, "running", running)
	between(w.files)
	w.app.start(t)
	w.app.await(t, "running", running)
	w.all = farmtest.WriteFiles(t, shared, shared)
	// In a process of their own: one that this test starts has the test's files open until it runs, and could not
	// close those on a mount that hangs.
	holding, err := child.Start(exec.Command("sh", "-c", "exec 3>"+shared+"/open 4<"+shared+" && echo >"+data+"/holds && exec sleep 100000"), syscall.SIGKILL)
	must(t, err)
	t.Cleanup(func() { holding.Signal(syscall.SIGKILL); <-holding.Done() })
	t.Cleanup(func() {
		if t.Failed() { // nobody who waits for the mount would end
			w.app.signalProgram(t, "mount-files", syscall.SIGKILL)
		}
	})
	farmtest.Eventually(t, "files are open", func() error { _, err := os.Stat(filepath.Join(data, "holds")); return err })
	w.all.More(t, "files are written")
	return w
}

// end ends both nodes, when what was acknowledged is there.
func (w *stuckWorld) end(t *testing.T) {
	t.Helper()
	w.app.await(t, "running", running)
	w.all.More(t, "files are written at last")
	w.all.End()
	for _, name := range w.all.Written() {
		if got, err := os.ReadFile(filepath.Join(w.data, "files", name)); err != nil || string(got) != farmtest.FileText(name) {
			t.Errorf("%s was acknowledged, and is %q, %v", name, got, err)
		}
	}
	failed := w.all.Failed()
	t.Logf("%d files were written, %d were not: %.200v", len(w.all.Written()), len(failed), failed)
	w.app.end(t)
	w.files.end(t)
}

// TestStuckMount: GlusterFS's client, whose connection breaks while it opens its files again, does not notice the next
// one; and one that is stopped says nothing at all. Either is noticed, something is done, and the hooks know.
func TestStuckMount(t *testing.T) {
	var b *breaker
	w := newStuckWorld(t, func(files *webNode) { b = newBreaker(t, files.path("state/brick.sock")) })
	app, all := w.app, w.all
	told := func() int {
		return len(slices.DeleteFunc(app.delivered(t), func(e string) bool { return e != "mount-stuck app1" }))
	}
	for tries := 1; told() == 0; tries++ {
		if tries > 5 {
			t.Fatal("the client was not brought to hang; so it is not known what would have been done about it")
		}
		before := len(all.Written())
		b.armed.Store(true)
		b.cut()
		broken := time.Now()
		farmtest.Eventually(t, "files are written again, or something was done about it", func() error {
			if b.armed.Load() || told() == 0 && len(all.Written()) < before+20 {
				return errors.New("not yet")
			}
			return nil
		})
		t.Logf("the connection broke while files were opened again: after %v the hooks know of %d", time.Since(broken).Round(time.Second), told())
	}
	all.More(t, "files are written after another connection was made")
	app.await(t, "running", running)

	app.signalProgram(t, "mount-files", syscall.SIGSTOP)
	stopped := time.Now()
	limit := time.NewTimer(3 * time.Minute)
	defer limit.Stop()
	for !strings.Contains(app.read(t, "sidecar.log"), `"done": "remount"`) {
		select {
		case <-time.After(time.Second):
		case <-limit.C:
			t.Fatal("the client was stopped, and nobody did anything about it")
		}
	}
	t.Logf("the client was stopped: it was mounted anew after %v", time.Since(stopped).Round(time.Second))
	w.end(t)
}

// TestMountUnderKills: whatever is killed on the way to the storage, also while it comes back, files are written
// again. A connection is not made anew more often than something is killed.
func TestMountUnderKills(t *testing.T) {
	w := newStuckWorld(t, func(*webNode) {})
	const rounds, seed = 24, 1
	random := rand.New(rand.NewPCG(seed, seed))
	for n := range rounds {
		switch random.IntN(3) {
		case 0:
			w.app.killProgram(t, "door-files")
		case 1:
			w.files.killProgram(t, "gate")
		case 2:
			w.files.killProgram(t, "brick")
		}
		time.Sleep(time.Duration(random.IntN(5000)) * time.Millisecond) // such as while the client connects, after 3 s
		if n%6 == 5 {
			w.all.More(t, "files are written again")
		}
	}
	w.end(t)
	log := w.app.read(t, "sidecar.log")
	if remounted := strings.Count(log, `"done": "remount"`); remounted > 0 {
		t.Errorf("it was mounted anew %d times", remounted)
	}
	t.Logf("%d kills; another connection was made %d times for want of an answer", rounds, strings.Count(log, `"done": "reconnect"`))
}
