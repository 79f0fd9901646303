//go:build linux

package rawio_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"farmhand/proxy/internal/rawio"
)

// patience bounds every wait for something that should happen at once.
const patience = 20 * time.Second

// notified arranges for a channel to be closed when a read would give something.
func notified(t *testing.T, s *rawio.Socket) (told chan struct{}, later bool) {
	t.Helper()
	told = make(chan struct{})
	var calls atomic.Int32
	later = s.Notify(func() {
		if calls.Add(1) > 1 {
			t.Error("told twice")
			return
		}
		close(told)
	})
	return told, later
}

func mustBeTold(t *testing.T, what string, told chan struct{}) {
	t.Helper()
	select {
	case <-told:
	case <-time.After(patience):
		t.Fatalf("not told: %s", what)
	}
}

// TestNotify: input, an end, a deadline and a close are told, each once, whether
// they come later or are there already; what was read is not told again.
func TestNotify(t *testing.T) {
	for _, network := range []string{"tcp accepted", "unix accepted"} {
		t.Run(network, func(t *testing.T) {
			for name, x := range map[string]struct {
				do   func(s *rawio.Socket, peer net.Conn) error
				want error
			}{
				"input": {func(_ *rawio.Socket, peer net.Conn) error { _, err := peer.Write([]byte("x")); return err }, nil},
				"the peer closed its half": {func(_ *rawio.Socket, peer net.Conn) error {
					return peer.(interface{ CloseWrite() error }).CloseWrite()
				}, io.EOF},
				"the peer closed": {func(_ *rawio.Socket, peer net.Conn) error { return peer.Close() }, io.EOF},
				"a deadline":      {func(s *rawio.Socket, _ net.Conn) error { return s.SetReadDeadline(time.Now().Add(time.Millisecond)) }, os.ErrDeadlineExceeded},
				"a deadline past": {func(s *rawio.Socket, _ net.Conn) error { return s.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
				"a deadline put forward": {func(s *rawio.Socket, _ net.Conn) error {
					return errors.Join(s.SetReadDeadline(time.Now().Add(time.Hour)), s.SetReadDeadline(time.Now().Add(time.Millisecond)))
				}, os.ErrDeadlineExceeded},
				"closed": {func(s *rawio.Socket, _ net.Conn) error { return s.Close() }, net.ErrClosed},
			} {
				t.Run(name, func(t *testing.T) {
					c, peer := sockets(t, network)
					s := c.(*rawio.Socket)
					if _, err := peer.Write([]byte("read before")); err != nil {
						t.Fatal(err)
					}
					if n, err := s.Read(make([]byte, 100)); n != 11 || err != nil {
						t.Fatal(n, err)
					}
					told, later := notified(t, s)
					if !later {
						t.Fatal("there is something already, though nothing came")
					}
					select {
					case <-told:
						t.Fatal("told, though nothing came")
					case <-time.After(5 * time.Millisecond):
					}
					if err := x.do(s, peer); err != nil {
						t.Fatal(err)
					}
					mustBeTold(t, name, told)
					if _, later := notified(t, s); later {
						t.Error("there is nothing, though nobody has read")
					}
					if _, err := s.Read(make([]byte, 1)); !errors.Is(err, x.want) {
						t.Errorf("%v, want %v", err, x.want)
					}
				})
			}
		})
	}
}

// TestSettle: what was told, and the deadlines, are not lost by it.
func TestSettle(t *testing.T) {
	for _, network := range []string{"tcp accepted", "unix accepted"} {
		t.Run(network, func(t *testing.T) {
			c, peer := sockets(t, network)
			s := c.(*rawio.Socket)
			if _, err := peer.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if n, err := s.Read(make([]byte, 2)); n != 2 || err != nil {
				t.Fatal(n, err)
			}
			if err := s.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if err := s.Settle(); err != nil {
				t.Fatal(err)
			}
			in := make([]byte, 10)
			if n, err := s.Read(in); string(in[:n]) != "llo" || err != nil {
				t.Fatalf("%q, %v", in[:n], err)
			}
			if _, err := s.Read(in); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the deadline that there was: %v", err)
			}
			if err := s.SetReadDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(5*time.Millisecond, func() { _ = peer.(interface{ CloseWrite() error }).CloseWrite() })
			if err := s.Wait(); err != nil {
				t.Error(err)
			}
			if _, err := s.Read(in); !errors.Is(err, io.EOF) {
				t.Errorf("the end: %v", err)
			}
			if _, err := s.Write([]byte("bye")); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if said, err := io.ReadAll(peer); string(said) != "bye" || err != nil {
				t.Errorf("%q, %v", said, err)
			}
			if err := s.Settle(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

// TestADeadlineThatIsPutOff: the later one counts.
func TestADeadlineThatIsPutOff(t *testing.T) {
	c, peer := sockets(t, "tcp accepted")
	if err := errors.Join(c.SetDeadline(time.Now().Add(5*time.Millisecond)), c.SetDeadline(time.Now().Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(30*time.Millisecond, func() { _, _ = peer.Write([]byte("x")) })
	if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("the deadline of reads ends a write: %v", err)
	}
}

// TestNoEndIsForgotten: a peer that says something and closes its half, in one go
// or not, before or while it is read, is heard to the end; so are those after it,
// who have the same descriptor.
func TestNoEndIsForgotten(t *testing.T) {
	for _, network := range []string{"tcp accepted", "unix accepted"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			x := rand.New(rand.NewPCG(1, 2))
			pause := func() {
				switch x.IntN(4) {
				case 0:
					time.Sleep(time.Duration(x.IntN(300)) * time.Microsecond)
				case 1:
					runtime.Gosched()
				}
			}
			for round := range 300 {
				c, peer := sockets(t, network)
				said := noise(uint64(round), 1+x.IntN(200))
				read := make(chan []byte, 1)
				go func() {
					var got []byte
					in := make([]byte, 1+len(said)*2/3)
					for {
						n, err := c.Read(in)
						got = append(got, in[:n]...)
						if err != nil {
							if !errors.Is(err, io.EOF) {
								t.Error(err)
							}
							read <- got
							return
						}
					}
				}()
				pause()
				for rest := said; len(rest) > 0; {
					n := 1 + x.IntN(len(rest))
					if _, err := peer.Write(rest[:n]); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
					pause()
				}
				if err := peer.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				select {
				case got := <-read:
					if !bytes.Equal(got, said) {
						t.Fatalf("round %d: %d bytes, want %d", round, len(got), len(said))
					}
				case <-time.After(patience):
					t.Fatalf("round %d: the end is not heard", round)
				}
				if _, err := c.Write(said); err != nil { // the other half
					t.Fatal(err)
				}
				_ = c.Close()
				if got, err := io.ReadAll(peer); err != nil || !bytes.Equal(got, said) {
					t.Fatalf("round %d: %d bytes, %v", round, len(got), err)
				}
				_ = peer.Close()
			}
		})
	}
}

// listen listens on loopback by a listener of Listen's.
func listen(t *testing.T) net.Listener {
	t.Helper()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := rawio.Listen(plain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestManyExchanges: many connections of one poller exchange messages at the same
// time, by every way of waiting.
func TestManyExchanges(t *testing.T) {
	l := listen(t)
	const clients, exchanges = 150, 60
	pool := &sync.Pool{New: func() any { b := make([]byte, 512); return &b }}
	var served sync.WaitGroup
	served.Go(func() {
		for i := range clients {
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			s := c.(*rawio.Socket)
			served.Add(1)
			var echo func()
			echo = func() { // what there is, and is called again for the next
				defer served.Done()
				for {
					buffer, n, err := s.ReadBuffer(pool)
					if err != nil {
						_ = s.Close()
						return
					}
					_, err = s.Write((*buffer)[:n])
					pool.Put(buffer)
					if err != nil {
						t.Error(err)
					}
					switch i % 3 {
					case 0:
						served.Add(1)
						if s.Notify(func() { go echo() }) {
							return
						}
						served.Done()
					case 1:
						if err := s.Wait(); err != nil {
							t.Error(err)
						}
					}
				}
			}
			go echo()
		}
	})
	var asking sync.WaitGroup
	for i := range clients {
		asking.Go(func() {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Error(err)
			}
			x := rand.New(rand.NewPCG(uint64(i), 3))
			for n := range exchanges {
				said := noise(uint64(n), 1+x.IntN(2000))
				got := make([]byte, len(said))
				if _, err := c.Write(said); err != nil {
					t.Error(err)
					return
				}
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, said) {
					t.Errorf("client %d, exchange %d: %v", i, n, err)
					return
				}
			}
		})
	}
	asking.Wait()
	served.Wait()
}

// TestClosedByAnother: a Close while others read and write, and again, ends all of
// it, and gives the descriptor back once nobody uses it.
func TestClosedByAnother(t *testing.T) {
	descriptors := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := 0
	for i := range 100 {
		c, peer := sockets(t, "tcp accepted")
		var over sync.WaitGroup
		over.Go(func() {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a read: %v", err)
			}
		})
		over.Go(func() {
			if _, err := c.Write(make([]byte, 16<<20)); !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("a write: %v", err)
			}
		})
		var first atomic.Int32
		for range 3 {
			over.Go(func() {
				if i%2 == 0 {
					time.Sleep(time.Millisecond)
				}
				if err := c.Close(); err == nil {
					first.Add(1)
				} else if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			})
		}
		over.Wait()
		if first.Load() != 1 {
			t.Errorf("%d have closed it", first.Load())
		}
		_ = peer.Close()
		if i == 10 {
			before = descriptors()
		}
	}
	for limit := time.Now().Add(patience); descriptors() > before+4; { // pollers end a little later
		if time.Now().After(limit) {
			t.Fatalf("%d descriptors, %d before", descriptors(), before)
		}
		time.Sleep(time.Millisecond)
	}
}
