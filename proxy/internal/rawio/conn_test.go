package rawio_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"farmhand/proxy/internal/rawio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sockets are two ends of a connection, the first of them wrapped, adopted, or accepted
// by a listener of Listen's, and settled or unsettled after that.
func sockets(t testing.TB, network string) (wrapped, plain net.Conn) {
	t.Helper()
	how := strings.Fields(network)
	switch {
	case slices.Contains(how, "accepted"):
		plain, wrapped = connect(t, how[0], rawio.Listen)
	case slices.Contains(how, "adopted"):
		wrapped, plain = ends(t, network)
		wrapped = rawio.Adopt(wrapped)
	default:
		wrapped, plain = ends(t, network)
		wrapped = rawio.Wrap(wrapped)
	}
	t.Cleanup(func() { _ = wrapped.Close() })
	if c, ok := wrapped.(interface{ Settle() error }); ok && slices.Contains(how, "settled") {
		if err := c.Settle(); err != nil {
			t.Fatal(err)
		}
	}
	if c, ok := wrapped.(interface{ Unsettle() error }); ok && slices.Contains(how, "unsettled") {
		if err := c.Unsettle(); err != nil {
			t.Fatal(err)
		}
	}
	return wrapped, plain
}

// ends are two ends of a connection, which the test's end closes.
func ends(t testing.TB, network string) (a, b net.Conn) {
	t.Helper()
	network, _, _ = strings.Cut(network, " ")
	return connect(t, network, func(l net.Listener) (net.Listener, error) { return l, nil })
}

// connect connects two ends by a listener that wrap may change.
func connect(t testing.TB, network string, wrap func(net.Listener) (net.Listener, error)) (a, b net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if l, err = wrap(l); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	dialed, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other := <-accepted
	t.Cleanup(func() {
		_ = dialed.Close()
		_ = other.Close()
	})
	return dialed, other
}

func eachNetwork(t *testing.T, run func(t *testing.T, network string)) {
	for _, network := range []string{"tcp", "unix", "tcp accepted", "unix accepted", "tcp accepted settled", "unix accepted settled", "tcp adopted", "unix adopted unsettled", "tcp accepted settled unsettled"} {
		t.Run(network, func(t *testing.T) { run(t, network) })
	}
}

// noise is n bytes that are the same for the same seed.
func noise(seed uint64, n int) []byte {
	x := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(x.Uint32())
	}
	return b
}

// TestBothWaysAtOnce moves much in both directions at the same time, in pieces
// of every size, so that both sides meet full and empty buffers.
func TestBothWaysAtOnce(t *testing.T) {
	eachNetwork(t, func(t *testing.T, network string) {
		a, b := sockets(t, network)
		const size = 2 << 20
		var wg sync.WaitGroup
		for i, ends := range [][2]net.Conn{{a, b}, {b, a}} {
			want := noise(uint64(i), size)
			wg.Go(func() {
				x := rand.New(rand.NewPCG(uint64(i), 7))
				for rest := want; len(rest) > 0; {
					n := min(len(rest), 1+x.IntN(1<<(1+x.IntN(19))))
					if written, err := ends[0].Write(rest[:n]); err != nil || written != n {
						t.Errorf("wrote %d of %d: %v", written, n, err)
						return
					}
					rest = rest[n:]
				}
			})
			wg.Go(func() {
				x := rand.New(rand.NewPCG(uint64(i), 8))
				got := make([]byte, size)
				for have := 0; have < size; {
					n, err := ends[1].Read(got[have:min(size, have+1+x.IntN(1<<17))])
					if err != nil {
						t.Errorf("after %d bytes: %v", have, err)
						return
					}
					have += n
				}
				if !bytes.Equal(got, want) {
					t.Error("what arrived is not what was sent")
				}
			})
		}
		wg.Wait()
	})
}

// TestEndsLikeThePlainConnection holds every way in which a read or a write can
// end against the plain connection's.
func TestEndsLikeThePlainConnection(t *testing.T) {
	for name, x := range map[string]struct {
		do   func(c, peer net.Conn) error
		want error
	}{
		"the peer closed": {func(c, peer net.Conn) error {
			_ = peer.Close()
			_, err := c.Read(make([]byte, 10))
			return err
		}, io.EOF},
		"closed before a read": {func(c, _ net.Conn) error {
			_ = c.Close()
			_, err := c.Read(make([]byte, 10))
			return err
		}, net.ErrClosed},
		"closed before a write": {func(c, _ net.Conn) error {
			_ = c.Close()
			_, err := c.Write([]byte("x"))
			return err
		}, net.ErrClosed},
		"closed during a read": {func(c, _ net.Conn) error {
			time.AfterFunc(20*time.Millisecond, func() { _ = c.Close() })
			_, err := c.Read(make([]byte, 10))
			return err
		}, net.ErrClosed},
		"deadline of a read": {func(c, _ net.Conn) error {
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := c.Read(make([]byte, 10))
			return err
		}, os.ErrDeadlineExceeded},
		"deadline in the past, though there is input": {func(c, peer net.Conn) error {
			if _, err := peer.Write([]byte("x")); err != nil {
				return err
			}
			_ = c.SetReadDeadline(time.Unix(1, 0))
			_, err := c.Read(make([]byte, 10))
			return err
		}, os.ErrDeadlineExceeded},
		"deadline set during a read": {func(c, _ net.Conn) error {
			time.AfterFunc(20*time.Millisecond, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
			_, err := c.Read(make([]byte, 10))
			return err
		}, os.ErrDeadlineExceeded},
		"deadline of a write that nobody reads": {func(c, _ net.Conn) error {
			_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			_, err := c.Write(make([]byte, 32<<20))
			return err
		}, os.ErrDeadlineExceeded},
		"a write to a peer that is gone": {func(c, peer net.Conn) error {
			_ = peer.Close()
			for range 1000 {
				if _, err := c.Write(make([]byte, 1<<16)); err != nil {
					if errors.Is(err, syscall.ECONNRESET) { // TCP says either
						err = syscall.EPIPE
					}
					return err
				}
			}
			return nil
		}, syscall.EPIPE},
		"nothing to read into": {func(c, _ net.Conn) error {
			_, err := c.Read(nil)
			return err
		}, nil},
		"nothing to write": {func(c, _ net.Conn) error {
			_, err := c.Write(nil)
			return err
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			eachNetwork(t, func(t *testing.T, network string) {
				wrapped, peer := sockets(t, network)
				got := x.do(wrapped, peer)
				other, plain := sockets(t, network)
				like := x.do(plain, other)
				if !errors.Is(got, x.want) || !errors.Is(like, x.want) {
					t.Errorf("%v, the plain connection %v, want %v", got, like, x.want)
				}
				timeout := func(err error) bool {
					var e net.Error
					return errors.As(err, &e) && e.Timeout()
				}
				if timeout(got) != timeout(like) {
					t.Errorf("a timeout: %v, the plain connection: %v", timeout(got), timeout(like))
				}
			})
		})
	}
}

func TestAfterADeadlineItGoesOn(t *testing.T) {
	c, peer := sockets(t, "tcp")
	for range 3 {
		if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := peer.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 9)); n != 1 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	a, b := sockets(t, "unix")
	message, in := noise(1, 100), make([]byte, 1000)
	if n := testing.AllocsPerRun(500, func() {
		if _, err := a.Write(message); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(in); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Write(message); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Read(in); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations an exchange", n)
	}
}

func TestWhatIsNoSocketStaysAsItIs(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if rawio.Wrap(a) != a {
		t.Error("a pipe was wrapped")
	}
}

// BenchmarkExchange is a message there and back, over plain and wrapped ends.
func BenchmarkExchange(b *testing.B) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{"plain": func(c net.Conn) net.Conn { return c }, "raw": rawio.Wrap} {
		b.Run(name, func(b *testing.B) {
			x, y := ends(b, "unix")
			x, y = wrap(x), wrap(y)
			defer x.Close()
			defer y.Close()
			go func() {
				buffer := make([]byte, 1000)
				for {
					n, err := y.Read(buffer)
					if err != nil {
						return
					}
					if _, err := y.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
			message, in := make([]byte, 100), make([]byte, 1000)
			for b.Loop() {
				if _, err := x.Write(message); err != nil {
					b.Fatal(err)
				}
				if _, err := x.Read(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
