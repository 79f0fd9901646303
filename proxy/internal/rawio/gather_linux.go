package rawio

import (
	"os"
	"syscall"
)

// Gather has reads that wait, from now on and one that does already, wait for n bytes, or for an
// end or an error; 1 takes it back. A read that need not wait gives what there is, as ever. It holds for
// TCP (SO_RCVLOWAT, see tcp(7) and socket(7)): the kernel wakes for less where a window is
// full. A unix socket's reads wait for the first byte all the same.
func (c *Conn) Gather(n int) error { return gather(c.raw, n) }

// Gather is [Conn.Gather].
func (s *Socket) Gather(n int) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	return gather(raw, n)
}

func gather(raw syscall.RawConn, n int) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, n))
	})
	if err != nil {
		return err
	}
	return failed
}
