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

	"farmhand/internal/farmtest"
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
	if !testing.Short() {
		if err := farmtest.PrepareS3(); err != nil {
			fmt.Fprintln(os.Stderr, "farmchaos: no S3 server:", err)
		}
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

// nodes are all that there may ever be. Their namespaces are made before any process
// is: what a namespace of mounts that is made later holds, others do not see.
var nodes = []string{scalerNode, "scaler2", "scaler3", "web1", "db1", "db2", "db3", "db4", "db5", "db6", "db7", "db8", "db9"}

func newNetwork(t testing.TB) *network {
	prefix := os.Getenv(inside)
	if prefix == "" {
		t.Skip("needs network namespaces: root, and a kernel that lets it make them")
	}
	n := &network{t, prefix}
	for i, node := range nodes {
		name, port := n.name(node), fmt.Sprintf("port%d", i)
		for _, c := range [][]string{
			{"netns", "add", name},
			{"-n", name, "link", "set", "lo", "up"},
			{"-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", prefix},
			{"-n", name, "link", "set", "eth0", "up"},
			{"-n", prefix, "link", "set", port, "master", "br0", "up"},
		} {
			if err := ip(c...); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

func (n *network) name(node string) string { return n.prefix + "-" + node }

// launcher writes the program that starts a node's processes in its namespace, which
// gets the node's address.
func (n *network) launcher(dir string) string {
	path := filepath.Join(dir, "launcher")
	text := fmt.Sprintf(`#!/bin/sh
# launcher NAME ADDRESS PROGRAM ARGUMENT…
set -e
node=$1 ns=%[1]s-$1 address=$2; shift 2
ip -n "$ns" addr replace "$address/24" dev eth0
# The node's disk, if it has one, is mounted in its own namespace of mounts.
if [ -d "%[2]s/disk-$node" ]; then
	exec ip netns exec "$ns" sh -c 'mkdir -p "$0" && mount --bind "$1" "$0" && shift && exec "$@"' "%[2]s/farm/$node/mysql" "%[2]s/disk-$node" "$@"
fi
exec ip netns exec "$ns" "$@"
`, n.prefix, dir)
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

// remove deletes the namespaces; their processes have ended.
func (n *network) remove() {
	for _, node := range nodes {
		if err := ip("netns", "del", n.name(node)); err != nil {
			n.t.Error(err)
		}
	}
}
