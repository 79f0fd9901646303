package role

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/load"
)

// newMemcached is a node with a memcached.
func newMemcached(c config.Config, tools Tools) (Role, error) {
	m := c.Memcached
	host, port, err := net.SplitHostPort(m.Listen)
	if err != nil {
		return nil, fmt.Errorf("memcached.listen: %w", err)
	}
	args := []string{
		m.Program, "-l", host, "-p", port, "-U", "0", "-m", strconv.FormatInt(int64(m.Memory)>>20, 10), "-I", strconv.FormatInt(int64(m.MaxItem)>>10, 10) + "k",
		"-c", strconv.Itoa(m.MaxConnections),
	}
	if os.Geteuid() == 0 { // it runs as nobody whom it was not told
		name, err := firstAccount("memcache", "memcached", "nobody")
		if err != nil {
			return nil, err
		}
		args = append(args, "-u", name)
	}
	n, err := newNode(c, tools, &program{
		name: config.MemcachedProgram, args: args, stopSignal: syscall.SIGTERM, stopAfter: 10 * time.Second,
		record: filepath.Join(c.State, "program-"+config.MemcachedProgram+".json"),
	})
	if err != nil {
		return nil, err
	}
	n.check(&check{interval: 2 * time.Second, limit: time.Second, failures: 3, successes: 2, try: answers(m.Listen)})
	n.farm.measures("memcached", load.NewMemcached(m.Listen).Sample)
	return n, nil
}

// firstAccount is the first of the system accounts that there is.
func firstAccount(names ...string) (string, error) {
	for _, name := range names {
		if _, err := user.Lookup(name); err == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("none of the accounts %v is there", names)
}

// answers is a check by memcached's own protocol, with a connection for each try.
func answers(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		client := memcache.New(address)
		client.MaxIdleConns = -1
		client.Timeout = time.Second
		client.DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		err := client.Ping()
		if err = errors.Join(err, client.Close()); err != nil {
			return fmt.Errorf("memcached at %s: %w", address, err)
		}
		return nil
	}
}
