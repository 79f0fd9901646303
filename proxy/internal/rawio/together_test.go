//go:build linux

package rawio_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"farmhand/proxy/internal/rawio"
)

// written is told of a WriteSoon.
type written struct {
	n    int
	err  error
	told chan struct{}
}

func (w *written) Wrote(n int, err error) {
	w.n, w.err = n, err
	close(w.told)
}

// whileTelling has f called by the poller while it tells of input.
func whileTelling(t *testing.T, network string, f func()) {
	t.Helper()
	c, peer := sockets(t, network)
	done := make(chan struct{})
	if !c.(*rawio.Socket).Notify(func() {
		f()
		close(done)
	}) {
		t.Fatal("there is something to read already")
	}
	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	mustBeTold(t, "the input", done)
}

// TestWriteSoon: each socket gets its own bytes, whole or as far as there is room, and
// errors are those of who has them; through an io_uring and without one.
func TestWriteSoon(t *testing.T) {
	for _, way := range []struct {
		name string
		ring bool
	}{{"together", true}, {"one by one", false}} {
		for _, network := range []string{"tcp accepted", "unix accepted"} {
			t.Run(way.name+", "+network, func(t *testing.T) {
				rawio.AllowRings(t, way.ring)
				const count = 300 // more than go in one call
				var all []*rawio.Socket
				var peers []net.Conn
				var results []*written
				for range count {
					c, peer := sockets(t, network)
					all, peers = append(all, c.(*rawio.Socket)), append(peers, peer)
					results = append(results, &written{told: make(chan struct{})})
				}
				text := func(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8), 'x'}, 1+i) }
				const full, gone, expired, closed = 17, 130, 131, 299
				big := bytes.Repeat([]byte("full"), 4<<20)
				if err := peers[gone].Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadAll(all[gone]); err != nil { // the end has come
					t.Fatal(err)
				}
				for limit := time.Now().Add(patience); ; { // over TCP one is sent before that is known
					if _, err := all[gone].Write([]byte("x")); err != nil {
						break
					}
					if time.Now().After(limit) {
						t.Fatal("who has gone can still be written to")
					}
				}
				if err := all[expired].SetWriteDeadline(time.Unix(1, 0)); err != nil {
					t.Fatal(err)
				}
				if err := all[closed].Close(); err != nil {
					t.Fatal(err)
				}
				data := make([][]byte, count)
				for i := range data {
					if data[i] = text(i); i == full {
						data[i] = big
					}
				}
				whileTelling(t, network, func() {
					for i, s := range all {
						if ok := s.WriteSoon(data[i], results[i]); ok != (i != expired && i != closed) {
							t.Errorf("socket %d: %v", i, ok)
						}
					}
				})
				for i, w := range results {
					if i == expired || i == closed {
						continue
					}
					mustBeTold(t, "a write", w.told)
					switch i {
					case gone:
						if w.n != 0 || !errors.Is(w.err, syscall.EPIPE) && !errors.Is(w.err, syscall.ECONNRESET) {
							t.Errorf("to one who has gone: %d, %v", w.n, w.err)
						}
					case full:
						if w.err != nil || w.n <= 0 || w.n >= len(big) {
							t.Errorf("%d bytes of %d, %v", w.n, len(big), w.err)
						}
						// The rest, as the caller would.
						wrote := make(chan error, 1)
						go func() { _, err := all[i].Write(big[w.n:]); wrote <- err }()
						mustRead(t, peers[i], big)
						if err := <-wrote; err != nil {
							t.Error(err)
						}
					default:
						if w.err != nil || w.n != len(data[i]) {
							t.Errorf("socket %d: %d bytes of %d, %v", i, w.n, len(data[i]), w.err)
						}
						mustRead(t, peers[i], data[i])
					}
				}
				has, why := false, rawio.Alone()
				whileTelling(t, network, func() { has = rawio.HasRing() })
				switch {
				case has == (why != nil):
					t.Errorf("there is a ring: %v, and why not: %v", has, why)
				case has && !way.ring:
					t.Error("there is a ring")
				case !has && way.ring:
					t.Skip("the kernel gives us no io_uring: " + why.Error())
				}
			})
		}
	}
}

func mustRead(t *testing.T, from net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if err := from.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(from, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d have come, %v", n, len(want), err)
	}
}

// TestWriteSoonOfOthers: where the poller tells of nothing, nothing is left to it.
func TestWriteSoonOfOthers(t *testing.T) {
	c, _ := sockets(t, "tcp accepted")
	if c.(*rawio.Socket).WriteSoon([]byte("x"), &written{}) {
		t.Error("it is left to a poller that may sleep")
	}
}

// TestWriteSoonAgain: who is told of a write may leave the next one to the poller.
func TestWriteSoonAgain(t *testing.T) {
	a, peerA := sockets(t, "tcp accepted")
	b, peerB := sockets(t, "tcp accepted")
	const rounds = 1000
	left := []*again{{socket: a.(*rawio.Socket), left: rounds}, {socket: b.(*rawio.Socket), left: rounds}}
	whileTelling(t, "tcp accepted", func() {
		for _, w := range left {
			w.socket.WriteSoon([]byte("again"), w)
		}
	})
	for _, peer := range []net.Conn{peerA, peerB} {
		mustRead(t, peer, bytes.Repeat([]byte("again"), rounds))
	}
}

type again struct {
	socket *rawio.Socket
	left   int
}

func (w *again) Wrote(n int, err error) {
	if w.left--; w.left > 0 && err == nil && n == 5 {
		w.socket.WriteSoon([]byte("again"), w)
	}
}

// TestAnswersComeFirst: what is sent goes out before what takes longer is begun and before
// connections are closed, whichever was asked for first; an address is free at once.
func TestAnswersComeFirst(t *testing.T) {
	closed, peer := sockets(t, "tcp accepted")
	other, _ := sockets(t, "tcp accepted")
	listener := listen(t)
	var order []string
	all := make(chan struct{})
	open := func() bool {
		if err := peer.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Error(err)
		}
		_, err := peer.Read(make([]byte, 1))
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	whileTelling(t, "tcp accepted", func() {
		if err := errors.Join(closed.Close(), listener.Close()); err != nil {
			t.Error(err)
		}
		if again, err := net.Listen("tcp", listener.Addr().String()); err != nil || again.Close() != nil {
			t.Errorf("the address of a closed listener: %v", err)
		}
		rawio.Lastly(func() {
			if order = append(order, "last"); !open() {
				t.Error("a connection was closed before")
			}
			close(all)
		})
		if !other.(*rawio.Socket).WriteSoon([]byte("x"), told(func() { order = append(order, "written") })) {
			t.Error("nothing can be written")
		}
		rawio.Soon(func() { order = append(order, "soon") })
	})
	mustBeTold(t, "what comes last", all)
	mustEnd(t, peer)
	if got := strings.Join(order, ", "); got != "soon, written, last" {
		t.Errorf("in this order: %s", got)
	}
}

// told is a function that is told of a WriteSoon.
type told func()

func (f told) Wrote(int, error) { f() }

// mustEnd reads the end of what peer sends.
func mustEnd(t *testing.T, peer net.Conn) {
	t.Helper()
	if err := peer.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := peer.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v instead of the end", n, err)
	}
}
