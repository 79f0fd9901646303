//go:build linux

package rawio_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

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
		c := wrapped.(interface {
			net.Conn
			ReadBuffer(pool *sync.Pool) (buffer *[]byte, n int, err error)
		})
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
