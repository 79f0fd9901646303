package farmchaos

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The farm's nodes are in network namespaces of their own, on one bridge that
// is in a namespace too: nothing of it is reachable from outside, and each directed
// edge between two nodes can be cut without a word to either.
const (
	hubAddress  = "10.77.0.254"
	scalerNode  = "scaler"
	scalerAddr  = "10.77.0.250"
	firstServer = "10.77.0.1"
	nobodysMAC  = "02:00:00:00:00:fe"
)

// inside is the environment's word that this process is in the hub's namespace;
// its value is the prefix of all namespaces' names.
const inside = "FARMHAND_CHAOS_NAMESPACE"

// network is the hub and the nodes on it.
type network struct {
	t      testing.TB
	prefix string
}

// enter runs the test binary again in a new namespace, and returns false there;
// true means that all was done and has the outcome.
func enter() (code int, done bool) {
	if os.Getenv(inside) != "" {
		return 0, false
	}
	prefix := fmt.Sprintf("fh%x", os.Getpid())
	if err := ip("netns", "add", prefix); err != nil {
		fmt.Fprintln(os.Stderr, "farmchaos: no network namespaces here:", err)
		return 0, false
	}
	defer func() { _ = ip("netns", "del", prefix) }()
	for _, c := range [][]string{
		{"-n", prefix, "link", "set", "lo", "up"},
		{"-n", prefix, "link", "add", "br0", "type", "bridge"},
		{"-n", prefix, "addr", "add", hubAddress + "/24", "dev", "br0"},
		{"-n", prefix, "link", "set", "br0", "up"},
	} {
		if err := ip(c...); err != nil {
			fmt.Fprintln(os.Stderr, "farmchaos:", err)
			return 1, true
		}
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", prefix, os.Args[0]}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"="+prefix)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		return ended.ExitCode(), true
	case err != nil:
		fmt.Fprintln(os.Stderr, "farmchaos:", err)
		return 1, true
	}
	return 0, true
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func newNetwork(t testing.TB) *network {
	prefix := os.Getenv(inside)
	if prefix == "" {
		t.Skip("needs network namespaces: root, and a kernel that lets it make them")
	}
	return &network{t, prefix}
}

func (n *network) name(node string) string { return n.prefix + "-" + node }

// launcher writes the program that starts a node's sidecar in its own namespace,
// which it makes.
func (n *network) launcher(dir string) string {
	path := filepath.Join(dir, "launcher")
	text := fmt.Sprintf(`#!/bin/sh
# launcher NAME ADDRESS PROGRAM ARGUMENT…
set -e
name=$1 address=$2 ns=%s-$1; shift 2
if ! ip netns exec "$ns" true 2>/dev/null; then
  ip netns add "$ns"
  ip -n "$ns" link set lo up
  port=v$(echo "$address" | tr -d .)
  ip -n "$ns" link add eth0 type veth peer name "$port" netns %s
  ip -n "$ns" addr add "$address/24" dev eth0
  ip -n "$ns" link set eth0 up
  ip -n %s link set "$port" master br0 up
fi
exec ip netns exec "$ns" "$@"
`, n.prefix, n.prefix, n.prefix)
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// cut lets nothing more pass from one node to another: what is sent goes to a hardware
// address that nobody has. mend ends it.
func (n *network) cut(from string, to netip.Addr) {
	if err := ip("-n", n.name(from), "neigh", "replace", to.String(), "lladdr", nobodysMAC, "nud", "permanent", "dev", "eth0"); err != nil {
		n.t.Error(err)
	}
}

func (n *network) mend(from string, to netip.Addr) {
	if err := ip("-n", n.name(from), "neigh", "del", to.String(), "dev", "eth0"); err != nil {
		n.t.Error(err)
	}
}

// removeAll deletes the namespaces of all nodes.
func (n *network) removeAll() {
	text, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		n.t.Error(err)
		return
	}
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(name, n.prefix+"-") {
			if err := ip("netns", "del", name); err != nil {
				n.t.Error(err)
			}
		}
	}
}
