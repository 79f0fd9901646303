package farmtest_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/farmtest"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", farmtest.FreePort(t).String())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn) // until the link ends it
				_ = conn.Close()
			}()
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return l.Addr().String()
}

func dial(t *testing.T, l *farmtest.Link) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// say sends text and returns what came back within limit.
func say(t *testing.T, conn net.Conn, text string, limit time.Duration) (string, error) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	n, err := io.ReadFull(conn, got)
	return string(got[:n]), err
}

const plenty = 20 * time.Second

func TestLinkForwardsAndIsCutAndRestored(t *testing.T) {
	l := farmtest.NewLink(t, echo(t))
	conn := dial(t, l)
	if got, err := say(t, conn, "hello", plenty); err != nil || got != "hello" {
		t.Fatalf("whole link: %q, %v", got, err)
	}
	if n := l.Connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	l.Cut()
	if _, err := say(t, conn, "hello", plenty); err == nil {
		t.Error("a cut link still answers")
	}
	if _, err := net.Dial("tcp", l.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a cut link answers a new connection with %v, want a refusal", err)
	}
	l.Restore()
	if got, err := say(t, dial(t, l), "again", plenty); err != nil || got != "again" {
		t.Fatalf("restored link: %q, %v", got, err)
	}
}

func TestStalledLinkKeepsConnectionsAndBytes(t *testing.T) {
	l := farmtest.NewLink(t, echo(t))
	conn := dial(t, l)
	l.Stall()
	if got, err := say(t, conn, "held", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("stalled link: %q, %v", got, err)
	}
	l.Restore()
	if got, err := say(t, conn, "more", plenty); err != nil || got != "held" {
		t.Fatalf("after the stall: %q, %v; want what was held first", got, err)
	}
}

func TestResetLinkBreaksConnections(t *testing.T) {
	l := farmtest.NewLink(t, echo(t))
	conn := dial(t, l)
	if _, err := say(t, conn, "x", plenty); err != nil {
		t.Fatal(err)
	}
	l.Reset()
	if err := conn.SetReadDeadline(time.Now().Add(plenty)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read on a reset link: %v", err)
	}
	if _, err := say(t, dial(t, l), "x", plenty); err != nil {
		t.Errorf("new connection after a reset: %v", err)
	}
}

func TestLinkDropsAfterSoManyBytes(t *testing.T) {
	l := farmtest.NewLink(t, echo(t))
	l.DropAfter(3)
	got, err := say(t, dial(t, l), "hello", plenty)
	if got != "hel" || err == nil {
		t.Errorf("got %q, %v; want 3 bytes and an error", got, err)
	}
}

func TestSlowLinkTakesItsTime(t *testing.T) {
	l := farmtest.NewLink(t, echo(t))
	l.Slow(0, 64<<10)
	started := time.Now()
	big := string(bytes.Repeat([]byte("x"), 16<<10))
	if got, err := say(t, dial(t, l), big, plenty); err != nil || got != big {
		t.Fatalf("slow link: %d bytes, %v", len(got), err)
	}
	if took := time.Since(started); took < 250*time.Millisecond {
		t.Errorf("16 KiB at 64 KiB/s took %v", took)
	}
}

func TestLinkToNowhereResets(t *testing.T) {
	l := farmtest.NewLink(t, farmtest.FreePort(t).String())
	conn, err := net.Dial("tcp", l.Addr())
	if err == nil {
		defer conn.Close() // reset
		if err := conn.SetReadDeadline(time.Now().Add(plenty)); err != nil {
			t.Fatal(err)
		}
		_, err = conn.Read(make([]byte, 1))
	}
	// The reset may come while the connection is still being reported as made.
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a link to nowhere: %v, want a reset", err)
	}
}

func TestAddressesAreNotGivenTwice(t *testing.T) {
	seen := map[string]bool{}
	for i := range 1000 {
		n := 1 + i%4
		a := farmtest.AddressBlock(n)
		for range n {
			if !a.IsLoopback() || seen[a.String()] {
				t.Fatalf("%v is no loopback address or was given before", a)
			}
			seen[a.String()] = true
			a = a.Next()
		}
	}
}
