package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// scripted is a server that answers every statement with one row, LOAD DATA by
// asking for its file, and "fail" with an error.
type scripted struct {
	sessions, statements, quits, file atomic.Int64
	accepting, ended                  sync.WaitGroup
}

// serve runs it on a listener until the test ends.
func serve(t *testing.T, network, address string) (*scripted, endpoint) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{}
	s.accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.ended.Go(func() {
				defer func() { _ = c.Close() }()
				s.session(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.accepting.Wait()
		s.ended.Wait()
	})
	return s, endpoint{network: network, address: l.Addr().String()}
}

func (s *scripted) session(c net.Conn) {
	s.sessions.Add(1)
	r := bufio.NewReader(c)
	send := func(b []byte) bool {
		_, err := c.Write(b)
		return err == nil
	}
	if !send(greetingPacket("abcdefghijklmnopqrst")) {
		return
	}
	if p, err := readPacket(r); err != nil || !strings.Contains(string(p), user+"\x00\x14") || !send(packet(2, okPacket)) {
		return
	}
	for {
		p, err := readPacket(r)
		if err != nil {
			return
		}
		if p[0] == 1 {
			s.quits.Add(1)
			return
		}
		s.statements.Add(1)
		answer := packets([]byte{1}, []byte("column"), endPacket, []byte{1, 'a'}, endPacket)
		switch {
		case strings.HasPrefix(string(p[1:]), "LOAD"):
			if !send(packets(wantPacket)) {
				return
			}
			for p, err = readPacket(r); err == nil && len(p) > 0; p, err = readPacket(r) {
				s.file.Add(int64(len(p)))
			}
			answer = packets(okPacket)
		case string(p[1:]) == "fail":
			answer = packets(errPacket)
		}
		if !send(answer) {
			return
		}
	}
}

func readPacket(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	p := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)
	_, err := io.ReadFull(r, p)
	return p, err
}

// counted are hooks that say how often they were told.
func counted() (h hooks, begun, ended *int) {
	begun, ended = new(int), new(int)
	return hooks{func() error { *begun++; return nil }, func() error { *ended++; return nil }}, begun, ended
}

func TestLoop(t *testing.T) {
	for name, c := range map[string]struct {
		loop    loop
		network string
	}{
		"one session each":          {loop{clients: 100}, "tcp"},
		"by socket":                 {loop{clients: 3}, "unix"},
		"statements that arrive":    {loop{clients: 3, rate: 500}, "tcp"},
		"that arrive, one at once":  {loop{clients: 3, rate: 500, atOnce: 1}, "tcp"},
		"sessions of one statement": {loop{clients: 3, session: 1}, "tcp"},
		"sessions by socket":        {loop{clients: 3, session: 2}, "unix"},
	} {
		t.Run(name, func(t *testing.T) {
			address := "127.0.0.1:0"
			if c.network == "unix" {
				address = filepath.Join(t.TempDir(), "s")
			}
			server, to := serve(t, c.network, address)
			c.loop.to, c.loop.statements = to, [][]byte{command("SELECT 1"), command("SELECT 2")}
			h, begun, ended := counted()
			w, err := c.loop.run(t.Context(), 200*time.Millisecond, h)
			if err != nil {
				t.Fatal(err)
			}
			if *begun != 1 || *ended != 1 {
				t.Errorf("begun %d times, ended %d times", *begun, *ended)
			}
			sessions, statements := server.sessions.Load(), server.statements.Load()
			if w.units < 1 || int64(w.units) > statements || w.elapsed < 200*time.Millisecond || w.times.total < 1 {
				t.Errorf("%.0f of %d statements in %v, %d times", w.units, statements, w.elapsed, w.times.total)
			}
			if c.loop.session == 0 && sessions != int64(c.loop.clients) {
				t.Errorf("%d sessions of %d clients", sessions, c.loop.clients)
			}
			if n := int64(c.loop.session); n > 0 && (statements > n*sessions || sessions < int64(w.times.total)) {
				t.Errorf("%d statements in %d sessions of %d, %d times", statements, sessions, n, w.times.total)
			}
			server.ended.Wait()
			if quits := server.quits.Load(); quits != server.sessions.Load() {
				t.Errorf("%d of %d sessions ended by a quit", quits, server.sessions.Load())
			}
		})
	}
}

func TestLoopFails(t *testing.T) {
	_, to := serve(t, "tcp", "127.0.0.1:0")
	h, _, _ := counted()
	_, err := loop{to: to, clients: 2, statements: [][]byte{command("fail")}}.run(t.Context(), time.Minute, h)
	if err == nil || !strings.Contains(err.Error(), "error 1064: wrong") {
		t.Errorf("a server's error comes as %v", err)
	}
	reason := errors.New("enough")
	ctx, stop := context.WithCancelCause(t.Context())
	h.begin = func() error { stop(reason); return nil }
	if _, err = (loop{to: to, clients: 2, statements: [][]byte{command("SELECT 1")}}).run(ctx, time.Minute, h); !errors.Is(err, reason) {
		t.Errorf("the end of the context comes as %v", err)
	}
}

func TestClientLoadsFile(t *testing.T) {
	server, to := serve(t, "tcp", "127.0.0.1:0")
	c, err := dial(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	file := []byte(strings.Repeat("0123456789", 20000))
	n, err := c.do(command("LOAD DATA"), file)
	if got := server.file.Load(); err != nil || got != int64(len(file)) || n < got {
		t.Errorf("%d bytes arrived, %d counted, of %d: %v", got, n, len(file), err)
	}
	if _, err := c.do(command("fail"), nil); err == nil || err.Error() != "error 1064: wrong" {
		t.Errorf("a server's error comes as %v", err)
	}
	c.close()
}

func TestForwarder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	here := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, to := serve(t, "tcp", "127.0.0.1:0")
	go func() { // for as long as the tests run: it ends with its process
		if err := forward([]string{here, to.address}); err != nil {
			panic(err)
		}
	}()
	deadline := time.Now().Add(20 * time.Second)
	var c *client
	began := time.Now()
	for c, err = dial(t.Context(), endpoint{network: "tcp", address: here}); err != nil; c, err = dial(t.Context(), endpoint{network: "tcp", address: here}) {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		began = time.Now()
	}
	// Connect and greeting are two round trips, the login is one.
	if took := time.Since(began); took < 3*roundTrip {
		t.Errorf("to log in took %v, want at least three round trips", took)
	}
	began = time.Now()
	if _, err := c.do(command("LOAD DATA"), make([]byte, 8<<20)); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 2*roundTrip {
		t.Errorf("a file took %v, want at least two round trips", took)
	}
	c.close()
}
