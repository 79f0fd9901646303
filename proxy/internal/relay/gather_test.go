package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"farmhand/proxy/internal/rawio"
	"farmhand/proxy/internal/wire"
)

// told is a connection that keeps what it is told.
type told struct {
	net.Conn
	mu    sync.Mutex
	sizes []int
	err   error
}

func (c *told) Gather(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes = append(c.sizes, n)
	return c.err
}

// TestWhenReadsGather: from a size on, until one waits too long, then after the same
// size again, and not after the response.
func TestWhenReadsGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &told{}
		expect := func(what string, sizes ...int) {
			t.Helper()
			synctest.Wait()
			conn.mu.Lock()
			defer conn.mu.Unlock()
			if !slices.Equal(conn.sizes, sizes) {
				t.Errorf("%s: it is told %v, expected %v", what, conn.sizes, sizes)
			}
			conn.sizes = nil
		}
		g := gather(conn)
		g.begin(gatherFrom)
		expect("the first read", gatherSize)
		for range 10 {
			time.Sleep(gatherTick * 9 / 10)
			g.end()
			g.begin(gatherFrom)
		}
		expect("reads that do not wait long")
		time.Sleep(3 * gatherTick)
		expect("one that does", 1)
		g.end()
		g.begin(2*gatherFrom - 1)
		expect("not enough since then")
		g.end()
		g.begin(2 * gatherFrom)
		expect("enough", gatherSize)
		g.end()
		time.Sleep(10 * gatherTick)
		expect("the client is slow, and no read waits")
		g.mu.Lock()
		if g.runs {
			t.Error("the timer rings for a client that is slow")
		}
		g.mu.Unlock()
		g.begin(2*gatherFrom + 1)
		time.Sleep(3 * gatherTick)
		expect("a read waits again", 1)
		g.end()
		g.begin(3*gatherFrom + 1)
		expect("and later one does not", gatherSize)
		g.end()
		g.stop()
		expect("the end", 1)
		g.stop()
		time.Sleep(10 * gatherTick)
		expect("once is enough")

		conn.err = net.ErrClosed
		g = gather(conn)
		g.begin(gatherFrom)
		expect("a connection that cannot", gatherSize)
		g.end()
		g.begin(gatherFrom + 1)
		g.stop()
		expect("is not told all the time")
	})
}

// TestNothingWaitsForMore sends the end of a large response, or what comes before that, in
// less than a read waits for, on a connection that is used again.
func TestNothingWaitsForMore(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near = rawio.Adopt(near)
	defer near.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	toClient, client := net.Pipe()
	defer client.Close()
	if err := errors.Join(near.SetDeadline(time.Now().Add(time.Minute)), client.SetDeadline(time.Now().Add(time.Minute))); err != nil {
		t.Fatal(err)
	}
	from, to := wire.NewConn(near), wire.NewConn(toClient)
	one := make(chan error, 1)
	begin := func() {
		go func() {
			var tr wire.Tracker
			tr.Begin(wire.ComQuery, wire.ClientDeprecateEOF)
			_, err := Response(from, to, &tr, forwarding{})
			from.Idle()
			one <- err
		}()
	}
	pass := func(b []byte) {
		t.Helper()
		go server.Write(b) // the client misses what this does not
		got := make([]byte, len(b))
		if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, b) {
			t.Fatal("what arrived is not what was sent: ", err)
		}
	}
	large := rows(1000, 1000, 5)
	for range 3 {
		begin()
		pass(large.begin)
		for range large.times {
			pass(large.piece)
		}
		pass(large.piece[:100_000]) // a pause in a row
		pass(large.piece[100_000:])
		pass(large.end)
		if err := <-one; err != nil {
			t.Fatal(err)
		}
		begin()
		pass(slices.Concat(large.begin, large.end))
		if err := <-one; err != nil {
			t.Fatal(err)
		}
	}

	begin()
	pass(large.begin)
	for range large.times {
		pass(large.piece)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	var lost *ServerError
	if err := <-one; !errors.As(err, &lost) || !errors.Is(err, io.EOF) {
		t.Errorf("the server is gone: %v", err)
	}
}
