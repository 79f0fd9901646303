package frontend

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/internal/farmtest"
)

func tcp(address string) Spec   { return Spec{Network: "tcp", Address: address} }
func socketAt(path string) Spec { return Spec{Network: "unix", Address: path, Mode: 0o660} }

func listen(t *testing.T, specs ...Spec) *Listeners {
	t.Helper()
	l, err := Listen(t.Context(), specs, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// serving serves listeners until the test ends, by telling each client a name.
func serving(t *testing.T, l *Listeners, name string) (done chan error) {
	t.Helper()
	done = make(chan error, 1)
	go func() {
		done <- l.Serve(context.Background(), func() Trusted { return Trusted{} }, func(err error) { t.Error(err) },
			func(_ context.Context, client *Accepted) Step {
				_, _ = io.WriteString(client, name) // the client may be gone
				return Step{}
			})
		done <- nil
	}()
	t.Cleanup(func() {
		l.Stop()
		for range 2 {
			select {
			case <-done:
			case <-time.After(patience):
				t.Error("the listeners do not stop")
			}
		}
	})
	return done
}

func mustSay(t *testing.T, address, want string) {
	t.Helper()
	if said := mustEnd(t, dialRaw(t, address)); string(said) != want {
		t.Errorf("%s says %q, want %q", address, said, want)
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(farmtest.ShortDir(t), "a.sock")
	for _, mode := range []fs.FileMode{0o600, 0o660, 0o666, 0o777} {
		spec := socketAt(path)
		spec.Mode = mode
		l, err := Listen(t.Context(), []Spec{tcp("127.0.0.1:0"), tcp("[::1]:0"), spec}, nil)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != fs.ModeSocket|mode {
			t.Errorf("mode %v, %v; want %v", info.Mode(), err, mode)
		}
		serving(t, l, "hello")
		for _, a := range l.Addrs() {
			if strings.HasSuffix(a.String(), ":0") {
				t.Errorf("%v is not the real port", a)
			}
			mustSay(t, a.String(), "hello")
		}
		for range 2 {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket's file stays: %v", err)
		}
	}
}

// Those that have connected before anybody accepts are all accepted, however many.
func TestAQueueOfClients(t *testing.T) {
	l := listen(t, tcp("127.0.0.1:0"))
	clients := make([]net.Conn, 200)
	for i := range clients {
		clients[i] = dialRaw(t, l.Addrs()[0].String())
	}
	serving(t, l, "hello")
	for i, c := range clients {
		if said := mustEnd(t, c); string(said) != "hello" {
			t.Fatalf("client %d is told %q", i, said)
		}
	}
}

func TestServeEnds(t *testing.T) {
	serve := func(ctx context.Context, l *Listeners) chan error {
		done := make(chan error, 1)
		go func() {
			done <- l.Serve(ctx, func() Trusted { return Trusted{} }, func(err error) { t.Error(err) }, func(context.Context, *Accepted) Step { return Step{} })
		}()
		return done
	}
	l := listen(t, tcp("127.0.0.1:0"))
	done := serve(t.Context(), l)
	l.Stop()
	l.Stop()
	if err := wait(t, "end", done); err != nil {
		t.Errorf("after Stop: %v", err)
	}
	if err := wait(t, "end", serve(t.Context(), l)); err != nil {
		t.Errorf("after Stop, again: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	done = serve(ctx, listen(t, tcp("127.0.0.1:0")))
	cancel(cause)
	if err := wait(t, "end", done); !errors.Is(err, cause) {
		t.Errorf("after the end of the context: %v", err)
	}
}

// A client's credentials and transport are known when it is accepted.
func TestAccepted(t *testing.T) {
	path := filepath.Join(farmtest.ShortDir(t), "a.sock")
	l := listen(t, tcp("127.0.0.1:0"), socketAt(path))
	clients := make(chan *Accepted, 1)
	inherited := make(chan bool, 2)
	done := make(chan error, 1)
	go func() {
		done <- l.Serve(t.Context(), func() Trusted { return Trusted{} }, func(err error) { t.Error(err) }, func(_ context.Context, c *Accepted) Step {
			raw, err := c.Conn.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Error(err)
				return Step{}
			}
			_ = raw.Control(func(fd uintptr) {
				on, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
				after, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
				atOnce, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY)
				inherited <- on == 1 && after == 15 && atOnce == 1
			})
			clients <- c
			return Step{}
		})
	}()
	conn := dialRaw(t, l.Addrs()[0].String())
	c := wait(t, "client", clients)
	if c.Transport != TCP || c.Transport.String() != "tcp" || c.Peer != nil || c.Remote().String() != conn.LocalAddr().String() || !c.Loopback() {
		t.Errorf("%+v", c)
	}
	if !wait(t, "the socket's options", inherited) {
		t.Error("the kernel does not look after a TCP client, or has small packets wait")
	}
	dialRaw(t, path)
	c = wait(t, "client", clients)
	if c.Transport != Unix || c.Transport.String() != "unix" || c.Peer == nil || c.Remote().IsValid() || !c.Loopback() {
		t.Fatalf("%+v", c)
	}
	if *c.Peer != (Credentials{int32(os.Getpid()), uint32(os.Getuid()), uint32(os.Getgid())}) {
		t.Errorf("credentials %+v", c.Peer)
	}
	l.Stop()
	if err := wait(t, "end", done); err != nil {
		t.Error(err)
	}
}

// A socket file is removed if nobody listens on it, and nothing else is.
func TestListenUnixFile(t *testing.T) {
	dir := farmtest.ShortDir(t)
	stale := filepath.Join(dir, "stale.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	serving(t, listen(t, socketAt(stale)), "new")
	mustSay(t, stale, "new")

	_, err = Listen(t.Context(), []Spec{socketAt(stale)}, nil)
	if !errors.Is(err, errAnswers) || !strings.Contains(err.Error(), stale) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("a socket that is in use: %v", err)
	}
	mustSay(t, stale, "new")

	file, directory, link := filepath.Join(dir, "file"), filepath.Join(dir, "directory"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("precious"), 0o600), os.Mkdir(directory, 0o700), os.Symlink(stale, link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, directory, link} {
		_, err := Listen(t.Context(), []Spec{socketAt(path)}, nil)
		if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
	for path, want := range map[string]string{
		"relative.sock":                      "not absolute",
		filepath.Join(dir, "no", "a.sock"):   "make its directory first",
		filepath.Join(file, "a.sock"):        "directory",
		"/" + strings.Repeat("x", 107):       "108 bytes",
		filepath.Join(dir, "\x00", "a.sock"): "invalid",
	} {
		if _, err := Listen(t.Context(), []Spec{socketAt(path)}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", path, err, want)
		}
	}
}

// A file that another has put in its place is not the socket's to remove.
func TestCloseLeavesOthersFile(t *testing.T) {
	path := filepath.Join(farmtest.ShortDir(t), "a.sock")
	l := listen(t, socketAt(path))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	serving(t, listen(t, socketAt(path)), "new")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustSay(t, path, "new")
}

// Of several addresses all are listened to or none is; whoever has the one that
// is taken is named, and not one with the same port elsewhere.
func TestListenPortTaken(t *testing.T) {
	port := farmtest.FreePort(t)
	elsewhere := listen(t, tcp(net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port.Port())))))
	path := filepath.Join(farmtest.ShortDir(t), "a.sock")
	holder := listen(t, tcp(port.String()))
	_, err := Listen(t.Context(), []Spec{socketAt(path), tcp(port.String())}, nil)
	if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), port.String()) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the other socket stays: %v", err)
	}
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
	if who := tcpHolder(port.String()); who != "" {
		t.Errorf("%s is said to listen on %v, where nobody does", who, port)
	}
	for _, address := range []string{elsewhere.Addrs()[0].String(), ":" + strconv.Itoa(int(port.Port())), net.JoinHostPort("0.0.0.0", strconv.Itoa(int(port.Port())))} {
		if who := tcpHolder(address); !strings.Contains(who, strconv.Itoa(os.Getpid())) {
			t.Errorf("%q is said to listen on %s", who, address)
		}
	}
	listen(t, tcp(port.String()))
	for _, address := range []string{"no port", "127.0.0.1:70000", "host.invalid:1", "192.0.2.1:0"} {
		if _, err := Listen(t.Context(), []Spec{tcp(address)}, nil); err == nil || !strings.Contains(err.Error(), "tcp "+address) {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := Listen(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "no address") {
		t.Errorf("no address: %v", err)
	}
	if _, err := Listen(t.Context(), []Spec{{Network: "udp", Address: "127.0.0.1:0"}}, nil); err == nil || !strings.Contains(err.Error(), `unknown network "udp"`) {
		t.Errorf("another network: %v", err)
	}
}

func TestKernelAddress(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the examples are of a little-endian machine")
	}
	for text, want := range map[string]string{
		"0100007F:0CEA":                         "127.0.0.1:3306",
		"00000000:0050":                         "0.0.0.0:80",
		"B80D0120000000000000000001000000:0CEA": "[2001:db8::1]:3306",
		"00000000000000000000000000000000:FFFF": "[::]:65535",
		"0000000000000000FFFF00000100007F:0001": "127.0.0.1:1",
		"":                                      "", "0100007F": "", "0100007F:10000": "", "01007F:0001": "", "xx00007F:0001": "", "0100007F0100007F:0001": "",
	} {
		if got, ok := kernelAddress(text); ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: %v, %t; want %q", text, got, ok, want)
		}
	}
}

// Sockets that systemd passes are taken where they are asked for; a unix
// socket's file stays systemd's.
func TestActivated(t *testing.T) {
	path := filepath.Join(farmtest.ShortDir(t), "a.sock")
	open := func(network, address string) *os.File {
		t.Helper()
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if l, ok := l.(*net.UnixListener); ok {
			l.SetUnlinkOnClose(false)
		}
		file, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	port := farmtest.FreePort(t).String()
	inherited, err := Activated([]*os.File{open("tcp", port), open("unix", path)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(t.Context(), []Spec{socketAt(path), tcp("127.0.0.1:0"), tcp(port)}, inherited)
	if err != nil {
		t.Fatal(err)
	}
	serving(t, l, "activated")
	mustSay(t, path, "activated")
	mustSay(t, port, "activated")
	mustSay(t, l.Addrs()[1].String(), "activated")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("systemd's file is gone: %v", err)
	}
	plain, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Activated([]*os.File{plain}); err == nil || !strings.Contains(err.Error(), plain.Name()) {
		t.Errorf("a file for a socket: %v", err)
	}
	if err := plain.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Error("the file stays open")
	}
}
