package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"farmhand/internal/etcdserver"
	"farmhand/internal/farmtest"
	"farmhand/internal/pki"
)

// limit is how long anything may take here.
const limit = time.Minute

func TestMain(m *testing.M) {
	end := func() error {
		if shared != nil {
			shared.close()
		}
		return nil
	}
	os.Exit(farmtest.Leakless{M: m, End: end, Patience: farmtest.EtcdPatience}.Run())
}

// cluster is real etcd servers of a farm of their own.
type cluster struct {
	dir       string
	authority *pki.Authority
	members   []etcdserver.Member
	servers   []*etcdserver.Server // nil while stopped
}

var (
	shared   *cluster
	sharedMu sync.Mutex
	farms    atomic.Int32
)

// one is the server that most tests share, each with a farm of its own.
func one(t *testing.T) *cluster {
	t.Helper()
	sharedMu.Lock()
	defer sharedMu.Unlock()
	if shared == nil {
		dir, err := os.MkdirTemp("", "registry")
		must(t, err)
		shared = start(t, dir, 1)
	}
	return shared
}

// newCluster starts n servers that end with the test.
func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	c := start(t, filepath.Join(t.TempDir(), "farm"), n)
	t.Cleanup(c.close)
	return c
}

func start(t *testing.T, dir string, n int) *cluster {
	t.Helper()
	authority, err := pki.NewAuthority("test", time.Now())
	must(t, err)
	c := &cluster{dir: dir, authority: authority, servers: make([]*etcdserver.Server, n)}
	// The links' addresses are in the certificate as well: all that this process
	// gives out next to each other.
	var hosts []string
	near := farmtest.Address().As4()
	for near[3] = 1; near[3] < 100; near[3]++ {
		hosts = append(hosts, netip.AddrFrom4(near).String())
	}
	for i := range n {
		clients, peers := farmtest.FreePort(t), farmtest.FreePort(t)
		c.members = append(c.members, etcdserver.Member{Name: string(rune('a' + i)), Clients: clients.String(), Peers: peers.String()})
	}
	for _, m := range c.members {
		c.files(t, m.Name, func(key *ecdsa.PublicKey) (*x509.Certificate, error) {
			return authority.Server(key, "member:"+m.Name, hosts, time.Now())
		})
	}
	// They wait for each other.
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { c.start(t, i) })
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	client := c.admin(t, "test")
	must(t, client.Secure(ctx))
	must(t, client.Secure(ctx)) // as a second scaler does
	must(t, client.RequireSecured(ctx))
	return c
}

// start starts one server, again or for the first time. It may run in any
// goroutine.
func (c *cluster) start(t *testing.T, i int) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	m := c.members[i]
	server, err := etcdserver.Start(ctx, etcdserver.Options{
		Farm: "test", Name: m.Name, Members: c.members, Dir: filepath.Join(c.dir, "data-"+m.Name), Files: pki.In(filepath.Join(c.dir, "keys", m.Name), m.Name),
		Quota: 64 << 20, History: time.Hour, Heartbeat: 50 * time.Millisecond, Election: 500 * time.Millisecond,
		LogLevel: zapcore.DPanicLevel, Log: zap.NewNop(),
	})
	if err != nil {
		t.Errorf("start %s: %v", m.Name, err)
		return
	}
	c.servers[i] = server
}

func (c *cluster) stop(i int) {
	if c.servers[i] != nil {
		c.servers[i].Close()
		c.servers[i] = nil
	}
}

func (c *cluster) close() {
	for i := range c.servers {
		c.stop(i)
	}
	_ = os.RemoveAll(c.dir) // of a temporary directory
}

// files makes a key and has it signed.
func (c *cluster) files(t *testing.T, name string, sign func(*ecdsa.PublicKey) (*x509.Certificate, error)) pki.Files {
	t.Helper()
	dir := filepath.Join(c.dir, "keys", name)
	files := pki.In(dir, name)
	if _, err := os.Stat(files.Key); err == nil {
		return files
	}
	key, err := pki.NewKey()
	must(t, err)
	cert, err := sign(&key.PublicKey)
	must(t, err)
	must(t, pki.MakeDir(dir))
	must(t, pki.WriteKey(files.Key, key))
	must(t, pki.WriteCertificate(files.Certificate, cert))
	must(t, pki.WriteCertificate(files.Authority, c.authority.Certificate()))
	return files
}

func (c *cluster) endpoints() []string {
	var all []string
	for _, m := range c.members {
		all = append(all, m.Clients)
	}
	return all
}

// as is a client under a name, by the endpoints or, where none are given, by
// all.
func (c *cluster) as(t *testing.T, farm, name string, endpoints ...string) *Client {
	t.Helper()
	if len(endpoints) == 0 {
		endpoints = c.endpoints()
	}
	files := c.files(t, name, func(key *ecdsa.PublicKey) (*x509.Certificate, error) {
		return c.authority.Client(key, name, time.Now())
	})
	client, err := Open(Options{Farm: farm, Endpoints: endpoints, Files: files})
	must(t, err)
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func (c *cluster) admin(t *testing.T, farm string, endpoints ...string) *Client {
	t.Helper()
	return c.as(t, farm, Administrator, endpoints...)
}

// link is a link to the first server.
func (c *cluster) link(t *testing.T) *farmtest.Link {
	t.Helper()
	return farmtest.NewLink(t, c.members[0].Clients)
}

// newFarm is a name for a farm, and nodes' names with it, that no other test
// uses.
func newFarm() string { return fmt.Sprintf("farm%d", farms.Add(1)) }

func soonContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("the test took too long"))
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// soon waits for a value from c.
func soon[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case value, ok := <-c:
		if !ok {
			t.Fatalf("no %s: it ended", what)
		}
		return value
	case <-time.After(limit):
		t.Fatalf("no %s within %v", what, limit)
		panic("unreachable")
	}
}

// running runs f until the test's end or until stop, which returns f's error.
func running(t *testing.T, f func(context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return soon(t, done, "end of what runs")
	})
	t.Cleanup(func() { _ = stop() }) // its error is the test's business where it calls stop itself
	return stop
}
