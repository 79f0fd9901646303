package backend

import (
	"errors"
	"io"
	"net"
	"syscall"
	"unsafe"
)

// errUnexpectedData is what an idle connection with something to read is broken
// by: the server said something that nobody asked for (a shutdown notice).
var errUnexpectedData = errors.New("unexpected data from an idle connection")

// alive looks, without waiting, whether the peer has closed an idle connection.
func alive(conn net.Conn) error {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var state error
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		// It never waits, so the scheduler need not know.
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		switch {
		case e == syscall.EAGAIN || e == syscall.EINTR:
		case e != 0:
			state = e
		case n > 0:
			state = errUnexpectedData
		default:
			state = io.EOF
		}
		return true
	})
	return errors.Join(err, state)
}

// Alive looks, without waiting, whether the server has closed the connection
// or said something unasked. The connection must be between commands.
func (c *Conn) Alive() error {
	if len(c.Buffered()) > 0 {
		return errUnexpectedData
	}
	return alive(c.raw)
}
