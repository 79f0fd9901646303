//go:build linux

package rawio_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"farmhand/proxy/internal/rawio"
)

// echo answers each message of the given size with as much.
func echo(peer net.Conn, size int) {
	b := make([]byte, size)
	for {
		if _, err := io.ReadFull(peer, b); err != nil {
			return
		}
		if _, err := peer.Write(b); err != nil {
			return
		}
	}
}

func TestExchange(t *testing.T) {
	eachNetwork(t, func(t *testing.T, network string) {
		for _, size := range []int{1, 100, 60 << 10, 300 << 10} { // the last is more than a socket takes at once
			wrapped, peer := sockets(t, network)
			c := wrapped.(*rawio.Conn)
			go echo(peer, size)
			for round := range 200 {
				out, in := noise(uint64(round), size), make([]byte, size)
				n, sent, err := c.Exchange(out, in)
				for err == nil && sent == nil && n < size {
					var more int
					more, err = c.Read(in[n:])
					n += more
				}
				if sent != nil || err != nil || !bytes.Equal(in, out) {
					t.Fatalf("%d bytes, round %d: %d answered, %v, %v", size, round, n, sent, err)
				}
			}
		}
	})
}

func TestExchangeEndsLikeAWriteAndARead(t *testing.T) {
	for name, x := range map[string]struct {
		do         func(c *rawio.Conn, peer net.Conn) (sent, err error)
		sent, want error
	}{
		"the peer answers nothing and closes": {func(c *rawio.Conn, peer net.Conn) (error, error) {
			go func() {
				_, _ = peer.Read(make([]byte, 10))
				_ = peer.Close()
			}()
			_, sent, err := c.Exchange([]byte("x"), make([]byte, 10))
			return sent, err
		}, nil, io.EOF},
		"closed": {func(c *rawio.Conn, _ net.Conn) (error, error) {
			_ = c.Close()
			_, sent, err := c.Exchange([]byte("x"), make([]byte, 10))
			return sent, err
		}, net.ErrClosed, nil},
		"deadline in the past": {func(c *rawio.Conn, _ net.Conn) (error, error) {
			_ = c.SetDeadline(time.Unix(1, 0))
			_, sent, err := c.Exchange([]byte("x"), make([]byte, 10))
			return sent, err
		}, os.ErrDeadlineExceeded, nil},
		"deadline while it waits": {func(c *rawio.Conn, _ net.Conn) (error, error) {
			time.AfterFunc(20*time.Millisecond, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
			_, sent, err := c.Exchange([]byte("x"), make([]byte, 10))
			return sent, err
		}, nil, os.ErrDeadlineExceeded},
		"closed while it waits": {func(c *rawio.Conn, _ net.Conn) (error, error) {
			time.AfterFunc(20*time.Millisecond, func() { _ = c.Close() })
			_, sent, err := c.Exchange([]byte("x"), make([]byte, 10))
			return sent, err
		}, nil, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			eachNetwork(t, func(t *testing.T, network string) {
				wrapped, peer := sockets(t, network)
				sent, err := x.do(wrapped.(*rawio.Conn), peer)
				if !errors.Is(sent, x.sent) || !errors.Is(err, x.want) {
					t.Errorf("%v, %v; want %v, %v", sent, err, x.sent, x.want)
				}
			})
		})
	}
	wrapped, peer := sockets(t, "unix")
	_ = peer.Close()
	if _, sent, _ := wrapped.(*rawio.Conn).Exchange([]byte("x"), make([]byte, 10)); !errors.Is(sent, syscall.EPIPE) {
		t.Errorf("a write to a peer that is gone: %v", sent)
	}
}

// TestReadBuffer: who waits holds no buffer.
func TestReadBuffer(t *testing.T) {
	eachNetwork(t, func(t *testing.T, network string) {
		made := 0
		pool := &sync.Pool{New: func() any {
			made++
			b := make([]byte, 100)
			return &b
		}}
		wrapped, peer := sockets(t, network)
		c := wrapped.(*rawio.Conn)
		time.AfterFunc(20*time.Millisecond, func() { _, _ = peer.Write([]byte("hello")) })
		b, n, err := c.ReadBuffer(pool)
		if err != nil || string((*b)[:n]) != "hello" {
			t.Fatalf("%d bytes, %v", n, err)
		}
		pool.Put(b)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if b, _, err := c.ReadBuffer(pool); b != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a buffer: %v, %v", b != nil, err)
		}
		_ = c.SetReadDeadline(time.Time{})
		_ = peer.Close()
		if b, _, err := c.ReadBuffer(pool); b != nil || !errors.Is(err, io.EOF) {
			t.Errorf("a buffer: %v, %v", b != nil, err)
		}
		_ = c.Close()
		if b, _, err := c.ReadBuffer(pool); b != nil || !errors.Is(err, net.ErrClosed) {
			t.Errorf("a buffer: %v, %v", b != nil, err)
		}
	})
}
