package frontend

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"farmhand/internal/farmtest"
)

// predecessor is a side that waits for a successor.
type predecessor struct {
	*Listeners
	control string
	specs   []Spec
	warned  chan error
	over    chan bool // what Serve returned
}

func startPredecessor(t *testing.T) *predecessor {
	t.Helper()
	dir := farmtest.ShortDir(t)
	p := &predecessor{
		control: filepath.Join(dir, "control.sock"), specs: []Spec{tcp(farmtest.FreePort(t).String()), socketAt(filepath.Join(dir, "p.sock"))},
		warned: make(chan error, 10), over: make(chan bool, 1),
	}
	var err error
	if p.Listeners, err = Listen(t.Context(), p.specs, nil); err != nil {
		t.Fatal(err)
	}
	serving(t, p.Listeners, "old")
	p.wait(t)
	return p
}

// wait has the predecessor wait for a successor.
func (p *predecessor) wait(t *testing.T) {
	t.Helper()
	h, err := NewHandover(t.Context(), p.control, p.Listeners)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(p.control); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the control socket: %v, %v", info, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.over <- h.Serve(ctx, func(err error) { p.warned <- err })
	}()
	t.Cleanup(func() {
		cancel()
		wait(t, "the hand-over's end", ended)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// mustServe fails the test unless both sockets answer so.
func (p *predecessor) mustServe(t *testing.T, want string) {
	t.Helper()
	for _, spec := range p.specs {
		mustSay(t, spec.Address, want)
	}
}

// Clients that come all the while are all served, by one or the other.
func TestHandover(t *testing.T) {
	p := startPredecessor(t)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for _, spec := range p.specs {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := net.Dial(spec.Network, spec.Address)
				if err != nil {
					t.Errorf("refused: %v", err)
					return
				}
				said, err := io.ReadAll(conn)
				conn.Close()
				if err != nil || string(said) != "old" && string(said) != "new" {
					t.Errorf("%q, %v", said, err)
				}
			}
		})
	}
	taken, err := TakeOver(t.Context(), p.control)
	if err != nil {
		t.Fatal(err)
	}
	if taken.PID != os.Getpid() || len(taken.Inherited) != len(p.specs) {
		t.Errorf("%+v", taken)
	}
	l, err := Listen(t.Context(), p.specs, taken.Inherited)
	if err != nil {
		t.Fatal(err)
	}
	serving(t, l, "new")
	if err := taken.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !wait(t, "the predecessor's end", p.over) {
		t.Error("the predecessor does not know that it is over")
	}
	if err := errors.Join(p.Close(), taken.Close()); err != nil {
		t.Error(err)
	}
	p.mustServe(t, "new")
	close(stop)
	clients.Wait()
	if _, err := os.Lstat(p.control); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the control socket's file stays: %v", err)
	}
	next, err := NewHandover(t.Context(), p.control, l)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(next.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(p.specs[1].Address); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket's file stays: %v", err)
	}
}

// A successor that goes before it is ready has changed nothing.
func TestHandoverGivenUp(t *testing.T) {
	p := startPredecessor(t)
	for _, listened := range []bool{false, true} {
		taken, err := TakeOver(t.Context(), p.control)
		if err != nil {
			t.Fatal(err)
		}
		if listened {
			l, err := Listen(t.Context(), append(p.specs, tcp("no port")), taken.Inherited)
			if err == nil {
				t.Error("listens all the same", l.Close())
			}
		} else {
			for _, i := range taken.Inherited {
				if err := i.File.Close(); err != nil {
					t.Error(err)
				}
			}
		}
		for range 2 {
			if err := taken.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := wait(t, "a warning", p.warned); !strings.Contains(err.Error(), "goes on serving") || !strings.Contains(err.Error(), "did not get ready") {
			t.Error(err)
		}
		p.mustServe(t, "old")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(p.specs[1].Address); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is taken for a successor's: %v", err)
	}
}

// What is no successor costs its own connection and nothing else.
func TestHandoverGarbage(t *testing.T) {
	p := startPredecessor(t)
	for name, said := range map[string]string{
		"nothing": "", "half a hello": helloLine[:8], "another version": strings.Replace(helloLine, "1", "2", 1), "HTTP": "GET / HTTP/1.1\r\n\r\n",
		"a line without end": strings.Repeat("x", 1000), "ready at once": readyLine, "NULs": "\x00\x00\x00\n",
	} {
		conn := dialRaw(t, p.control)
		if _, err := io.WriteString(conn, said); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil && !errors.Is(err, unix.ENOTCONN) {
			t.Fatal(err)
		}
		if got := mustEnd(t, conn); len(got) > 0 {
			t.Errorf("%s is answered: %q", name, got)
		}
		if err := wait(t, "a warning", p.warned); !strings.Contains(err.Error(), "goes on serving") || len(err.Error()) > 500 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// After the offer as well.
	conn := dialRaw(t, p.control)
	if _, err := io.WriteString(conn, helloLine+"steady\n"); err != nil {
		t.Fatal(err)
	}
	mustEnd(t, conn)
	if err := wait(t, "a warning", p.warned); !strings.Contains(err.Error(), `"steady\n"`) {
		t.Error(err)
	}
	p.mustServe(t, "old")
	if len(p.over) > 0 {
		t.Error("the predecessor has given up")
	}
}

// An offer that cannot be right is refused, whatever comes with it, and no
// descriptor of it stays open.
func TestTakeOverGarbage(t *testing.T) {
	path := filepath.Join(farmtest.ShortDir(t), "control.sock")
	if _, err := TakeOver(t.Context(), path); !errors.Is(err, ErrNoPredecessor) {
		t.Errorf("nobody there: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, test := range []struct {
		name, offer string
		descriptors int
		want        string
	}{
		{"nothing", "", 0, "EOF"},
		{"half an offer", `{"pid":1`, 0, "EOF"},
		{"half an offer with a descriptor", `{"pid":1`, 1, "EOF"},
		{"no JSON", "PROXY\n", 0, "offer"},
		{"no JSON with a descriptor", "PROXY\n", 1, "offer"},
		{"another type", `{"pid":"1"}` + "\n", 0, "offer"},
		{"more than it sends", `{"pid":1,"sockets":[{"network":"tcp","address":":1"},{}]}` + "\n", 1, "offers 2 sockets and sends 1"},
		{"fewer than it sends", `{"pid":1,"sockets":[]}` + "\n", 2, "offers 0 sockets and sends 2"},
		{"too much", strings.Repeat("x", 2*maxOffer), 1, "more than fits"},
	} {
		t.Run(test.name, func(t *testing.T) {
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			served := make(chan error, 1)
			go func() {
				served <- func() error {
					defer write.Close()
					conn, err := l.AcceptUnix()
					if err != nil {
						return err
					}
					defer conn.Close()
					hello := make([]byte, len(helloLine))
					if _, err := io.ReadFull(conn, hello); err != nil || string(hello) != helloLine {
						return errors.Join(err, errors.New(string(hello)))
					}
					var rights []byte
					for i := range test.descriptors {
						if i == 0 {
							rights = unix.UnixRights(append([]int{int(write.Fd())}, make([]int, test.descriptors-1)...)...)
						}
					}
					if test.offer != "" {
						_, _, _ = conn.WriteMsgUnix([]byte(test.offer), rights, nil) // the other end may leave early
					}
					return nil
				}()
			}()
			taken, err := TakeOver(t.Context(), path)
			if err == nil || taken != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if err := wait(t, "the other side", served); err != nil {
				t.Error(err)
			}
			// The pipe ends when its last writer is closed.
			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, read)
				ended <- err
			}()
			if err := wait(t, "the descriptors' end", ended); err != nil {
				t.Error(err)
			}
		})
	}
}

// The end of the context ends a take-over from a process that says nothing.
func TestTakeOverContext(t *testing.T) {
	path := filepath.Join(farmtest.ShortDir(t), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := TakeOver(ctx, path)
		done <- err
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	if err := wait(t, "the end", done); err == nil || errors.Is(err, ErrNoPredecessor) {
		t.Error(err)
	}
}

// A predecessor that does not answer Ready goes on if it listens still; one that
// is gone has left everything.
func TestReady(t *testing.T) {
	for _, alive := range []bool{false, true} {
		path := filepath.Join(farmtest.ShortDir(t), "control.sock")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		served := make(chan error, 1)
		go func() {
			conn, err := l.Accept()
			if err == nil {
				_, err = io.ReadFull(conn, make([]byte, len(helloLine)))
			}
			if err == nil {
				_, err = io.WriteString(conn, `{"pid":5,"sockets":[]}`+"\n")
			}
			if !alive {
				err = errors.Join(err, l.Close())
			}
			if conn != nil {
				conn.Close()
			}
			served <- err
		}()
		taken, err := TakeOver(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if err := wait(t, "the predecessor", served); err != nil {
			t.Fatal(err)
		}
		err = taken.Ready(t.Context())
		if alive && (err == nil || !strings.Contains(err.Error(), "did not let go")) || !alive && err != nil {
			t.Errorf("alive: %t: %v", alive, err)
		}
	}
}

// Only this user and root may ask for the sockets.
func TestHandoverOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to connect as another user")
	}
	p := startPredecessor(t)
	// Others reach the socket only if its owner lets them.
	dir := filepath.Dir(p.control)
	if err := errors.Join(os.Chmod(p.control, 0o666), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	conn := dialAs(t, p.control, 65534)
	defer conn.Close()
	if _, err := io.WriteString(conn, helloLine); err != nil && !errors.Is(err, unix.EPIPE) {
		t.Fatal(err)
	}
	if err := wait(t, "a warning", p.warned); !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Error(err)
	}
	p.mustServe(t, "old")
}
