package frontend

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// dialAs connects to a unix socket as another user, which one thread is for as
// long as that takes.
func dialAs(t *testing.T, path string, uid int) net.Conn {
	t.Helper()
	type dialed struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialed, 1)
	go func() {
		runtime.LockOSThread()
		become := func(uid int) error { // the effective user alone, so that there is a way back
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
				return errno
			}
			return nil
		}
		conn, err := func() (net.Conn, error) {
			if err := become(uid); err != nil {
				return nil, err
			}
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			file := os.NewFile(uintptr(fd), path)
			defer file.Close()
			if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
				return nil, err
			}
			return net.FileConn(file)
		}()
		if back := become(0); back != nil {
			err = errors.Join(err, back) // and the thread, still locked, ends with the goroutine
		} else {
			runtime.UnlockOSThread()
		}
		done <- dialed{conn, err}
	}()
	d := wait(t, "a connection", done)
	if d.err != nil {
		t.Fatal(d.err)
	}
	return d.conn
}
