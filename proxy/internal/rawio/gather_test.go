package rawio_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// TestGather: a read that waits gets many bytes at once, one byte is enough again when that
// is taken back, also for a read that waits already, and an end wakes as ever.
func TestGather(t *testing.T) {
	eachNetwork(t, func(t *testing.T, network string) {
		c, peer := sockets(t, network)
		g, ok := c.(interface{ Gather(n int) error })
		if !ok {
			t.Skip("not on this system")
		}
		gather := func(n int) {
			t.Helper()
			if err := g.Gather(n); err != nil {
				t.Fatal(err)
			}
		}
		send := func(n int) {
			t.Helper()
			if _, err := peer.Write(make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
		const piece, pieces = 1000, 20
		type result struct {
			n   int
			err error
		}
		results := make(chan result, 1)
		b := make([]byte, 2*piece*pieces)
		read := func() {
			go func() {
				n, err := c.Read(b)
				results <- result{n, err}
			}()
			time.Sleep(5 * time.Millisecond) // until it waits, most of the time
		}

		gather(piece * pieces)
		most := 0
		for try := 0; try < 100 && most < piece*pieces; try++ {
			read()
			for range pieces {
				send(piece)
			}
			got := <-results
			if got.err != nil {
				t.Fatal(got.err)
			}
			most = max(most, got.n)
			gather(1)
			for got.n < piece*pieces { // of a read that did not wait
				n, err := c.Read(b)
				if err != nil {
					t.Fatal(err)
				}
				got.n += n
			}
			gather(piece * pieces)
		}
		if strings.HasPrefix(network, "tcp") && most < piece*pieces {
			t.Errorf("no read of 100 waited for more than %d bytes", most)
		}

		read()
		send(piece)
		gather(1)
		if got := <-results; got.n != piece || got.err != nil {
			t.Errorf("%d bytes, %v", got.n, got.err)
		}

		gather(piece * pieces)
		read()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if got := <-results; !errors.Is(got.err, net.ErrClosed) {
			t.Errorf("%d bytes, %v", got.n, got.err)
		}
		if err := g.Gather(1); err == nil {
			t.Error("one that is closed takes it")
		}
	})
}
