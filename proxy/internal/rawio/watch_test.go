//go:build linux

package rawio_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"farmhand/proxy/internal/rawio"
)

// instant is what a watched connection is read by.
type instant interface {
	net.Conn
	ReadNow(b []byte) (int, error)
}

// watched is a connection that is watched, and tells of each call.
func watched(t *testing.T, network string) (c instant, peer net.Conn, w *rawio.Watched, told chan bool) {
	t.Helper()
	conn, peer := sockets(t, network)
	told = make(chan bool, 100)
	w, err := rawio.Watch(conn, func(ended bool) { told <- ended })
	if err != nil {
		t.Fatal(err)
	}
	return conn.(instant), peer, w, told
}

// until reads what is told of until there are n bytes or an error.
func until(t *testing.T, c instant, told chan bool, n int) (string, error) {
	t.Helper()
	var got []byte
	b := make([]byte, 3) // so that there is more than fits
	limit := time.After(patience)
	for {
		for {
			m, err := c.ReadNow(b)
			got = append(got, b[:m]...)
			if err != nil || len(got) >= n {
				return string(got), err
			}
			if m == 0 {
				break
			}
		}
		select {
		case <-told:
		case <-limit:
			t.Fatalf("not told; %q so far", got)
		}
	}
}

// TestWatch: answers, an end, a close by another and a deadline are told, whether an
// answer is expected or not.
func TestWatch(t *testing.T) {
	for _, network := range []string{"tcp adopted", "unix adopted", "tcp accepted"} {
		t.Run(network, func(t *testing.T) {
			c, peer, w, told := watched(t, network)
			for i, expects := range []bool{true, false, true} {
				w.Expect(expects)
				if i == 2 {
					time.Sleep(20 * time.Millisecond) // the poller has given up waiting for it
				}
				if _, err := c.Write([]byte("what?")); err != nil {
					t.Fatal(err)
				}
				question := make([]byte, 5)
				if _, err := io.ReadFull(peer, question); err != nil {
					t.Fatal(err)
				}
				if _, err := peer.Write([]byte("a long answer")); err != nil {
					t.Fatal(err)
				}
				if got, err := until(t, c, told, 13); got != "a long answer" || err != nil {
					t.Fatalf("%q, %v", got, err)
				}
			}
			if _, err := peer.Write([]byte("bye")); err != nil {
				t.Fatal(err)
			}
			if err := peer.Close(); err != nil {
				t.Fatal(err)
			}
			if got, err := until(t, c, told, 100); got != "bye" || !errors.Is(err, io.EOF) {
				t.Errorf("the end: %q, %v", got, err)
			}
			w.End()
		})
	}
	for name, x := range map[string]struct {
		do   func(net.Conn) error
		want error
	}{
		"closed":   {func(c net.Conn) error { return c.Close() }, net.ErrClosed},
		"deadline": {func(c net.Conn) error { return c.SetDeadline(time.Now().Add(5 * time.Millisecond)) }, os.ErrDeadlineExceeded},
		"past":     {func(c net.Conn) error { return c.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, w, told := watched(t, "tcp adopted")
			w.Expect(true)
			if err := x.do(c); err != nil {
				t.Fatal(err)
			}
			if got, err := until(t, c, told, 1); got != "" || !errors.Is(err, x.want) {
				t.Errorf("%q, %v", got, err)
			}
			w.End()
		})
	}
}

// TestAWatchThatHasEnded: it is told of nothing, and the connection is like any other,
// settled or not, and may be watched again.
func TestAWatchThatHasEnded(t *testing.T) {
	c, peer, w, told := watched(t, "tcp adopted")
	w.End()
	for round := range 6 {
		if _, err := peer.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		var err error
		if s := c.(*rawio.Socket); round%2 == 0 {
			err = s.Settle()
		} else {
			err = s.Unsettle()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(told) > 0 {
		t.Error("told after the end")
	}
	if err := c.(*rawio.Socket).Settle(); err != nil {
		t.Fatal(err)
	}
	again := make(chan bool, 100)
	second, err := rawio.Watch(c, func(ended bool) { again <- ended })
	if err != nil {
		t.Fatal(err)
	}
	w.End() // the first one's, once more, which is nobody's
	if _, err := peer.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	if got, err := until(t, c, again, 1); got != "y" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	second.End()
	if _, err := rawio.Watch(peer, func(bool) {}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("of a plain connection: %v", err)
	}
}

// TestDeadlinesMoveToo: what was set holds whoever watches the socket.
func TestDeadlinesMoveToo(t *testing.T) {
	c, _ := sockets(t, "tcp adopted")
	s := c.(*rawio.Socket)
	if err := s.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Unsettle(), s.Settle(), s.Unsettle()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if err := errors.Join(s.Settle(), s.SetReadDeadline(time.Time{}), s.Unsettle(), s.Close()); err != nil {
		t.Error(err)
	}
	if err := s.Unsettle(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestSoon: what is left for when all is told runs after what was told with it, and at
// once where nothing is told.
func TestSoon(t *testing.T) {
	ran := false
	rawio.Soon(func() { ran = true })
	if !ran {
		t.Error("it was not called, though nothing was told")
	}
	const many = 20
	var conns, peers []net.Conn
	for range many {
		c, peer := sockets(t, "tcp accepted")
		conns, peers = append(conns, c), append(peers, peer)
	}
	var mu sync.Mutex
	gathered, calls := 0, 0
	var done sync.WaitGroup
	done.Add(many)
	flush := func() {
		mu.Lock()
		defer mu.Unlock()
		calls++
		for range gathered {
			done.Done()
		}
		gathered = 0
	}
	for _, c := range conns {
		later := c.(*rawio.Socket).Notify(func() {
			mu.Lock()
			gathered++
			first := gathered == 1
			mu.Unlock()
			if first {
				rawio.Soon(flush)
			}
		})
		if !later {
			t.Fatal("there is input already")
		}
	}
	for _, p := range peers {
		if _, err := p.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	done.Wait()
	t.Logf("%d were told, and seen to in %d batches", many, calls)
}

// TestServe: many are accepted at once, and the deadline ends it; then it goes on.
func TestServe(t *testing.T) {
	l := listen(t)
	for range 2 {
		const clients = 200
		var taken atomic.Int32
		var all sync.WaitGroup
		all.Add(clients)
		ended := make(chan error, 1)
		go func() {
			ended <- rawio.Serve(l, func(c net.Conn) {
				taken.Add(1)
				_ = c.Close()
				all.Done()
			})
		}()
		for range clients {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		all.Wait()
		deadlined := l.(interface{ SetDeadline(time.Time) error })
		if err := deadlined.SetDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("it ended by %v", err)
		}
		if err := deadlined.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if taken.Load() != clients {
			t.Errorf("%d of %d were taken", taken.Load(), clients)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- rawio.Serve(l, func(net.Conn) {}) }()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("it ended by %v", err)
	}
}
