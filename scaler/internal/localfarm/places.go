package localfarm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"farmhand/scaler/internal/listener"
)

// places are where the proxy takes clients, for people.
func (r *run) places() string {
	text := r.Listen.String()
	if r.Socket != "" {
		text += " and " + r.Socket
	}
	return text
}

// checkPlaces says of every address and socket that is taken who has it.
func (r *run) checkPlaces() error {
	var problems []error
	check := func(address netip.AddrPort, what, advice string) {
		if err := free(address, what, advice); err != nil {
			problems = append(problems, err)
		}
	}
	check(r.Listen, "the proxy", "stop it, or choose another port with --port")
	for _, i := range r.instances {
		check(i.Address, "server "+i.Name, "stop it, or choose other addresses with --addresses-from")
	}
	if r.Admin != "" {
		address, err := netip.ParseAddrPort(r.Admin)
		if err != nil {
			return fmt.Errorf("the address of the proxy's metrics: %w", err)
		}
		check(address, "the proxy's metrics", "stop it, or choose another address with --admin")
	}
	if r.Socket != "" {
		problems = append(problems, r.checkSocket())
	}
	return errors.Join(problems...)
}

func free(address netip.AddrPort, what, advice string) error {
	l, err := net.Listen("tcp", address.String())
	if err == nil {
		return l.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s cannot listen on %v: %w", what, address, err)
	}
	who, known, lerr := listener.TCP(address)
	if lerr != nil || !known {
		return fmt.Errorf("%s cannot listen on %v: it is taken; %s", what, address, advice)
	}
	return fmt.Errorf("%s cannot listen on %v: it is taken by %v; %s", what, address, who, advice)
}

func (r *run) checkSocket() error {
	const advice = `choose another path with --socket, or none with --socket ""`
	who, taken, err := listener.Unix(r.Socket)
	if err != nil {
		return err
	}
	if taken {
		return fmt.Errorf("the proxy cannot listen on %s: it is taken by %v; stop it, or %s", r.Socket, who, advice)
	}
	dir := filepath.Dir(r.Socket)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("the socket's directory cannot be made: %w; make it with: sudo install -d -o %d %s, or %s", err, os.Getuid(), dir, advice)
	}
	probe, err := os.CreateTemp(dir, ".farmhand")
	if err != nil {
		return fmt.Errorf("the proxy cannot make its socket in %s: %w; allow it with: sudo install -d -o %d %s, or %s", dir, err, os.Getuid(), dir, advice)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}
