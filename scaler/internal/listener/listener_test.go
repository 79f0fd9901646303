package listener_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"farmhand/internal/farmtest"
	"farmhand/scaler/internal/listener"
)

func TestListenerOfAPortIsNamed(t *testing.T) {
	address := farmtest.FreePort(t)
	if _, ok, err := listener.TCP(address); ok || err != nil {
		t.Fatalf("nobody listens on %v: ok %v, %v", address, ok, err)
	}
	for name, at := range map[string]string{
		"at the address":  address.String(),
		"at every one":    netip.AddrPortFrom(netip.IPv4Unspecified(), address.Port()).String(),
		"at every one, 6": netip.AddrPortFrom(netip.IPv6Unspecified(), address.Port()).String(),
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", at)
			if err != nil {
				t.Skipf("cannot listen on %s: %v", at, err)
			}
			defer func() { _ = l.Close() }()
			who, ok, err := listener.TCP(address)
			if err != nil || !ok || who.PID != os.Getpid() {
				t.Errorf("listener is %v, %v, %v; want this process, %d", who, ok, err, os.Getpid())
			}
			if !strings.Contains(who.String(), filepath.Base(os.Args[0])) {
				t.Errorf("%v does not name the command", who)
			}
		})
	}
}

func TestListenerOfASocketIsNamed(t *testing.T) {
	dir := farmtest.ShortDir(t)
	path := filepath.Join(dir, "s.sock")
	if _, ok, err := listener.Unix(path); ok || err != nil {
		t.Fatalf("nobody listens on %s: ok %v, %v", path, ok, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	link := dir + "-link"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(link) }()
	for _, p := range []string{path, filepath.Join(link, "s.sock")} {
		if who, ok, err := listener.Unix(p); err != nil || !ok || who.PID != os.Getpid() {
			t.Errorf("listener of %s is %v, %v, %v; want this process", p, who, ok, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := listener.Unix(path); ok || err != nil {
		t.Errorf("a closed socket has a listener: %v, %v", ok, err)
	}
}
