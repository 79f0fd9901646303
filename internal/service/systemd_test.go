package service

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNotifier(t *testing.T) {
	for name, socket := range map[string]string{
		"a socket file":      filepath.Join(t.TempDir(), "notify"),
		"an abstract socket": "@farmhand-test-" + strconv.Itoa(os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
			must(t, err)
			defer systemd.Close()
			received := func() string {
				buffer := make([]byte, 1024)
				n, err := systemd.Read(buffer)
				must(t, err)
				return string(buffer[:n])
			}
			n := NewNotifier(socket)
			must(t, n.Ready("serving\nall"))
			if got := received(); got != "READY=1\nSTATUS=serving all" {
				t.Errorf("ready: %q", got)
			}
			var before, after unix.Timespec
			must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &before))
			must(t, n.Reloading())
			must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &after))
			var at int64
			if got := received(); !scan(got, "RELOADING=1\nMONOTONIC_USEC=%d", &at) || at < before.Nano()/1000 || at > after.Nano()/1000 {
				t.Errorf("reloading: %q", got)
			}
			must(t, n.Stopping("3 sessions"))
			if got := received(); got != "STOPPING=1\nSTATUS=3 sessions" {
				t.Errorf("stopping: %q", got)
			}
			must(t, n.Status("2 sessions"))
			if got := received(); got != "STATUS=2 sessions" {
				t.Errorf("status: %q", got)
			}
		})
	}
}

func scan(text, format string, into ...any) bool {
	n, err := fmt.Sscanf(text, format, into...)
	return err == nil && n == len(into)
}

func TestNotifierWithoutSystemd(t *testing.T) {
	if err := NewNotifier("").Ready("serving"); err != nil {
		t.Error(err)
	}
	if err := NewNotifier(filepath.Join(t.TempDir(), "none")).Ready("serving"); err == nil {
		t.Error("a socket that is not there is no error")
	}
}

// playActivated answers one connection on each socket that it was given, with
// the socket's name.
func playActivated() {
	files, err := ActivatedFiles(os.Getenv)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(files))
	for _, f := range files {
		listener, err := net.FileListener(f)
		if err != nil {
			fmt.Println(err)
			return
		}
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			fmt.Println("the descriptor would be inherited", err)
			return
		}
		conn, err := listener.Accept()
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Fprint(conn, f.Name())
		conn.Close()
		listener.Close()
	}
}

func TestActivatedFiles(t *testing.T) {
	// The shell is there because only the process itself knows its id.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), role+"=activated", "LISTEN_FDS=3", "LISTEN_FDNAMES=mysql:mysql.socket")
	var addresses []net.Addr
	for _, network := range []string{"tcp", "unix", "tcp"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "s")
		}
		listener, err := net.Listen(network, address)
		must(t, err)
		defer listener.Close()
		addresses = append(addresses, listener.Addr())
		file, err := listener.(interface{ File() (*os.File, error) }).File()
		must(t, err)
		defer file.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	c := start(t, cmd)
	c.says(t, "3")
	for i, want := range []string{"mysql", "mysql.socket", "unknown"} {
		conn, err := net.Dial(addresses[i].Network(), addresses[i].String())
		must(t, err)
		got, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || string(got) != want {
			t.Errorf("socket %d is %q, %v; want %q", i, got, err, want)
		}
	}
}

func TestActivatedFilesOfAnother(t *testing.T) {
	me := strconv.Itoa(os.Getpid())
	for _, test := range []struct {
		fds, pid string
		fails    bool
	}{
		{"", "", false},
		{"", me, false},
		{"1", "1", false}, // meant for the parent
		{"0", me, false},
		{"x", me, true},
		{"-1", me, true},
		{"99999", me, true},
	} {
		files, err := ActivatedFiles(func(key string) string {
			return map[string]string{"LISTEN_FDS": test.fds, "LISTEN_PID": test.pid}[key]
		})
		if len(files) != 0 || (err != nil) != test.fails {
			t.Errorf("LISTEN_FDS=%s LISTEN_PID=%s: %v, %v", test.fds, test.pid, files, err)
		}
		if err != nil && !strings.Contains(err.Error(), "LISTEN_FDS") {
			t.Errorf("the error does not say what is wrong: %v", err)
		}
	}
}
