package frontend

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that should happen at once.
const patience = 20 * time.Second

// wait returns what comes out of a channel, which must be soon.
func wait[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
		panic("not reached")
	}
}

// scripted is a connection of which each Read gives one chunk, and then io.EOF.
// The methods that it lacks are nil.
type scripted struct {
	net.Conn
	chunks [][]byte
	reads  int
	given  int // bytes
}

func (s *scripted) Read(b []byte) (int, error) {
	s.reads++
	if len(s.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.chunks[0])
	s.given += n
	if s.chunks[0] = s.chunks[0][n:]; len(s.chunks[0]) == 0 {
		s.chunks = s.chunks[1:]
	}
	return n, nil
}

// Close implements net.Conn.
func (s *scripted) Close() error { return nil }

// inPieces cuts b into chunks of size bytes.
func inPieces(b []byte, size int) (chunks [][]byte) {
	for len(b) > size {
		chunks, b = append(chunks, b[:size]), b[size:]
	}
	return append(chunks, b)
}

// mustEnd fails the test unless the other end closes the connection, and
// returns what it said before.
func mustEnd(t testing.TB, conn net.Conn) []byte {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	_, err := io.Copy(&said, conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the other end does not close; it said % x", said.Bytes())
	}
	return said.Bytes()
}

// connected returns the two ends of a TCP connection with a deadline.
func connected(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	for _, end := range []net.Conn{a, b} {
		if err := end.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}
