package localfarm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"farmhand/scaler/internal/listener"
	"farmhand/scaler/internal/provider"
)

// checkPlaces says of every address and socket that the farm is to have and that is
// taken who has it. Where an instance runs already, it is the farm's own.
func (r *run) checkPlaces() error {
	instances, err := r.local.List(context.Background())
	if err != nil {
		return err
	}
	running := map[string]bool{}
	for _, i := range instances {
		if i.State == provider.Running {
			running[i.RoleName] = true
		}
	}
	var problems []error
	check := func(place, what, advice string) {
		address, ok, err := listenAddress(place)
		if ok {
			err = free(address, what, advice)
		}
		problems = append(problems, err)
	}
	for name, role := range r.Farm.Roles {
		// What a launcher starts may be in another network.
		if running[name] || r.Farm.Provider.Parameters.Local.Launcher != "" {
			continue
		}
		switch p := role.Parameters; {
		case p.Web != nil:
			check(p.Web.Proxy.TCP, "the proxy", "stop it, or choose another port with --port")
			check(p.Web.Proxy.Admin, "the proxy's metrics", "stop it, or choose another address with --admin")
			if p.Web.Proxy.Unix != "" {
				problems = append(problems, checkSocket(p.Web.Proxy.Unix))
			}
		case p.MySQL != nil:
			at := r.Farm.Provider.Parameters.Local.FirstAddress.Addr
			for range role.Count.Min {
				check(netip.AddrPortFrom(at, uint16(p.MySQL.Port)).String(), "a database server", "stop it, or choose other addresses with --addresses-from")
				at = at.Next()
			}
		}
	}
	if _, err := os.Stat(r.Dir.Control().ConfigFile()); err != nil { // of one that is there, its own configuration says more
		for _, port := range []uint16{r.Control.ClientPort, r.Control.PeerPort, r.Control.JoinPort} {
			check(net.JoinHostPort(r.Control.Address, strconv.Itoa(int(port))), "the registry", "stop it, or choose another address with --control-address")
		}
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

func checkSocket(socket string) error {
	const advice = `choose another path with --socket, or none with --socket ""`
	who, taken, err := listener.Unix(socket)
	if err != nil {
		return err
	}
	if taken {
		return fmt.Errorf("the proxy cannot listen on %s: it is taken by %v; stop it, or %s", socket, who, advice)
	}
	dir := filepath.Dir(socket)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("the socket's directory cannot be made: %w; make it with: sudo install -d -o %d %s, or %s", err, os.Getuid(), dir, advice)
	}
	probe, err := os.CreateTemp(dir, ".farmhand")
	if err != nil {
		return fmt.Errorf("the proxy cannot make its socket in %s: %w; allow it with: sudo install -d -o %d %s, or %s", dir, err, os.Getuid(), dir, advice)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}
