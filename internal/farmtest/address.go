package farmtest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
)

var addressCount atomic.Uint32

// Address returns an address of 127.0.0.0/8 that no other part of this
// process has been given and that other test processes are unlikely to use:
// 127.A.B.N, with A.B made from the process id.
func Address() netip.Addr { return AddressBlock(1) }

// AddressBlock returns the first of n addresses in a row, at most 100, each
// like Address's.
func AddressBlock(n int) netip.Addr {
	const perNet = 250 // N runs from 1; what does not fit shifts B by an odd step
	for {
		end := addressCount.Add(uint32(n))
		first := end - uint32(n)
		if first/perNet != (end-1)/perNet {
			continue // would go over a net's end
		}
		pid := uint32(os.Getpid())
		third := pid + (first/perNet)*37
		return netip.AddrFrom4([4]byte{127, byte(128 + (pid>>8)&0x7e), byte(third), byte(1 + first%perNet)})
	}
}

// FreePort returns an address of Address with a TCP port on which nobody
// listens.
func FreePort(t testing.TB) netip.AddrPort {
	t.Helper()
	address := Address()
	l, err := net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
	if err != nil {
		t.Fatalf("farmtest: find a free port on %v: %v", address, err)
	}
	port := l.Addr().(*net.TCPAddr).AddrPort()
	if err := l.Close(); err != nil {
		t.Fatalf("farmtest: find a free port on %v: %v", address, err)
	}
	return port
}

// ShortDir returns a new directory with a path short enough for unix sockets
// (t.TempDir's holds the test's name). It is removed when the test ends.
func ShortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "farmtest")
	if err != nil {
		t.Fatalf("farmtest: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(fmt.Errorf("farmtest: clean up: %w", err))
		}
	})
	return dir
}
