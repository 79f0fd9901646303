package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/enrol"
	"farmhand/internal/farmtest"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

func TestMain(m *testing.M) {
	os.Exit(farmtest.Leakless{M: m, Patience: farmtest.EtcdPatience}.Run())
}

const limit = time.Minute

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func soonContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("the test took too long"))
	t.Cleanup(cancel)
	return ctx
}

// made makes the directories of a farm of n control nodes on free ports.
func made(t *testing.T, n int) []Dir {
	t.Helper()
	c := Default()
	c.Farm = "shop"
	c.Etcd.Heartbeat, c.Etcd.Election = service.Duration(50*time.Millisecond), service.Duration(500*time.Millisecond)
	for i := range n {
		// Three ports of one address.
		first := farmtest.FreePort(t)
		m := Member{Name: string(rune('a' + i)), Address: first.Addr().String(), ClientPort: first.Port()}
		m.PeerPort, m.JoinPort = farmtest.FreePort(t).Port(), farmtest.FreePort(t).Port()
		c.Members = append(c.Members, m)
	}
	dirs, err := Init(Dir{filepath.Join(t.TempDir(), "registry")}, c, time.Now())
	must(t, err)
	return dirs
}

// run runs a control node until the test's end or stop, and waits until it is
// ready.
func run(t *testing.T, d Dir) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan Running, 1), make(chan error, 1)
	go func() { done <- Run(ctx, d, testLog(t), func(r Running) { ready <- r }) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("it ended: %v", err)
	case <-time.After(limit):
		t.Fatalf("it is not ready after %v", limit)
	}
	return stop
}

func token(t *testing.T, d Dir, names string) (token enrol.Token) {
	t.Helper()
	must(t, d.With(func(c *registry.Client, config Config) (err error) {
		token, _, err = d.NewToken(soonContext(t), c, &config, "web", names, time.Hour)
		return err
	}))
	return token
}

func refusal(err error) int {
	var r *enrol.RefusedError
	if errors.As(err, &r) {
		return r.Status
	}
	return 0
}

// TestNodesJoin: from a token to a membership, and what goes wrong on the way.
func TestNodesJoin(t *testing.T) {
	d := made(t, 1)[0]
	run(t, d)
	ctx := soonContext(t)
	good := token(t, d, "web-*")
	home := filepath.Join(t.TempDir(), "node")

	// The wrong farm is told nothing: the token is whole afterwards.
	wrong := good
	wrong.Fingerprint = strings.Repeat("ab", 32)
	var other *pki.WrongAuthorityError
	if _, err := enrol.Join(ctx, wrong, "web-1", home); !errors.As(err, &other) {
		t.Errorf("with a wrong fingerprint: %v", err)
	}
	if _, err := enrol.Join(ctx, good, "db-1", home); refusal(err) != http.StatusForbidden || !strings.Contains(err.Error(), "web-*") {
		t.Errorf("with a wrong name: %v", err)
	}
	forged := good
	forged.Secret = strings.Repeat("0", len(good.Secret))
	if _, err := enrol.Join(ctx, forged, "web-1", home); refusal(err) != http.StatusForbidden {
		t.Errorf("with a wrong secret: %v", err)
	}
	if _, err := os.Stat(enrol.Files(home).Key); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what failed has left a key: %v", err)
	}
	node, err := enrol.Join(ctx, good, "web-1", home)
	must(t, err)
	if node.Name != "web-1" || node.Role != "web" || node.Farm != "shop" {
		t.Errorf("joined as %+v", node)
	}
	files, err := os.ReadDir(home)
	must(t, err)
	for _, f := range files {
		info, err := f.Info()
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
	if _, err := enrol.Join(ctx, good, "web-2", filepath.Join(t.TempDir(), "node")); refusal(err) != http.StatusForbidden {
		t.Errorf("with a spent token: %v", err)
	}
	if _, err := enrol.Join(ctx, token(t, d, "web-*"), "web-1", filepath.Join(t.TempDir(), "node")); refusal(err) != http.StatusConflict {
		t.Errorf("with a name that is taken: %v", err)
	}
	if _, err := enrol.Join(ctx, token(t, d, "web-*"), "web-3", home); err == nil {
		t.Error("a node's directory was used for another")
	}

	// The certificate is one of the registry's, and is renewed.
	open := func() *registry.Client {
		c, err := registry.Open(registry.Options{Farm: node.Farm, Endpoints: node.Endpoints, Files: enrol.RegistryFiles(home)})
		must(t, err)
		return c
	}
	client := open()
	defer func() { must(t, client.Close()) }()
	_, err = client.Append(ctx, registry.Entry{Kind: "host-up", Who: "?", Text: "here"})
	must(t, err)
	before, err := pki.ReadCertificate(enrol.Files(home).Certificate)
	must(t, err)
	_, err = enrol.Renew(ctx, home)
	must(t, err)
	after, err := pki.ReadCertificate(enrol.Files(home).Certificate)
	must(t, err)
	if after.SerialNumber.Cmp(before.SerialNumber) == 0 || after.Subject.CommonName != "web-1" {
		t.Errorf("after the renewal the certificate is %v of %s", after.SerialNumber, after.Subject)
	}
	renewed := open()
	_, err = renewed.Members(ctx)
	must(t, errors.Join(err, renewed.Close()))

	// And by itself, when two thirds of its time have passed.
	authority, err := pki.ReadAuthority(d.Path)
	must(t, err)
	key, err := pki.ReadKey(enrol.Files(home).Key)
	must(t, err)
	old, err := authority.Client(&key.PublicKey, "web-1", time.Now().Add(-25*24*time.Hour))
	must(t, err)
	must(t, pki.WriteCertificate(enrol.Files(home).Certificate, old))
	keeping, stop := context.WithCancel(ctx)
	outcome := make(chan error, 1)
	if err := enrol.KeepRenewed(keeping, home, func(err error) { outcome <- err; stop() }); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	must(t, <-outcome)
	if after, err = pki.ReadCertificate(enrol.Files(home).Certificate); err != nil || time.Until(pki.RenewAt(after)) < 10*24*time.Hour {
		t.Errorf("it is to be renewed again at %v, %v", pki.RenewAt(after), err)
	}

	// An expelled node renews nothing.
	must(t, d.With(func(c *registry.Client, _ Config) error { return c.Expel(ctx, "web-1", pki.NodeLife) }))
	if _, err := enrol.Renew(ctx, home); refusal(err) != http.StatusForbidden {
		t.Errorf("an expelled node's renewal: %v", err)
	}

	// What the journal says; strangers' attempts are not in it.
	must(t, d.With(func(c *registry.Client, _ Config) error {
		entries, err := c.Entries(ctx, 0)
		kinds := []string{}
		for _, e := range entries {
			kinds = append(kinds, e.Kind)
		}
		want := []string{"join-refused", "node-joined", "join-refused", "host-up", "certificate-renewed", "certificate-renewed", "join-refused"}
		if !slices.Equal(kinds, want) {
			t.Errorf("the journal is %v, not %v", kinds, want)
		}
		return err
	}))
}

// TestEndpointIsBounded: what a stranger can send, and how often.
func TestEndpointIsBounded(t *testing.T) {
	d := made(t, 1)[0]
	run(t, d)
	c, m, err := d.load()
	must(t, err)
	config, err := d.control().ClientTLS()
	must(t, err)
	stranger := config.Clone()
	stranger.GetClientCertificate = nil
	post := func(config *tls.Config, path string, body []byte) (int, string) {
		t.Helper()
		transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
		request, err := http.NewRequestWithContext(soonContext(t), http.MethodPost, "https://"+c.joins()[0]+path, bytes.NewReader(body))
		must(t, err)
		response, err := transport.RoundTrip(request)
		must(t, err)
		text, err := io.ReadAll(response.Body)
		must(t, errors.Join(err, response.Body.Close()))
		return response.StatusCode, string(text)
	}
	for _, try := range []struct {
		what   string
		path   string
		config *tls.Config
		body   string
		status int
	}{
		{"rubbish", enrol.JoinPath, stranger, "rubbish", 400},
		{"too much", enrol.JoinPath, stranger, `{"name":"` + strings.Repeat("x", enrol.MaxBody) + `"}`, 400},
		{"the administrator's name", enrol.JoinPath, stranger, `{"name":"root"}`, 400},
		{"no certificate request", enrol.JoinPath, stranger, `{"name":"web-1"}`, 400},
		{"a renewal of nobody's", enrol.RenewPath, stranger, `{}`, 401},
		{"a renewal of the administrator's", enrol.RenewPath, config, `{}`, 403},
		{"another path", "/v1/other", stranger, `{}`, 404},
	} {
		if status, text := post(try.config, try.path, []byte(try.body)); status != try.status {
			t.Errorf("%s: %d %s", try.what, status, text)
		}
	}
	limited := false
	for range 3 * addressBurst {
		status, _ := post(stranger, enrol.JoinPath, []byte("rubbish"))
		if limited = status == http.StatusTooManyRequests; limited {
			break
		}
	}
	if !limited {
		t.Error("an address may ask as often as it likes")
	}
	if m.Name != "a" {
		t.Errorf("the member is %+v", m)
	}
}

func TestLimiterForgetsAddresses(t *testing.T) {
	l := newLimiter()
	now := time.Now()
	for i := range 3 * addressesKnown {
		release, ok := l.enter(fmt.Sprint(i), now)
		if !ok {
			t.Fatalf("address %d is refused at its first request", i)
		}
		release()
	}
	if n := len(l.addresses); n > addressesKnown {
		t.Errorf("%d addresses are kept", n)
	}
	var held []func()
	for i := range maxConcurrent {
		release, ok := l.enter(fmt.Sprint("held", i), now)
		if !ok {
			t.Fatalf("request %d is refused", i)
		}
		held = append(held, release)
	}
	if _, ok := l.enter("one more", now); ok {
		t.Error("more than the bound are worked on at a time")
	}
	held[0]()
	if _, ok := l.enter("one more", now); !ok {
		t.Error("a place that became free is not given away")
	}
}

// TestThreeControlNodes: the same configuration on each makes one registry, and
// a node joins at those that are there.
func TestThreeControlNodes(t *testing.T) {
	dirs := made(t, 3)
	var stops [3]func() error
	var all sync.WaitGroup
	for i, d := range dirs {
		all.Go(func() { stops[i] = run(t, d) })
	}
	all.Wait()
	if t.Failed() {
		return
	}
	text := token(t, dirs[1], "web-1")
	must(t, stops[0]())
	home := filepath.Join(t.TempDir(), "node")
	if _, err := enrol.Join(soonContext(t), text, "web-1", home); err != nil {
		t.Errorf("with one of three stopped: %v", err)
	}
}

// TestExternal: a registry that somebody else runs; it must be secured.
func TestExternal(t *testing.T) {
	d := made(t, 1)[0]
	run(t, d)
	c, m, err := d.load()
	must(t, err)
	second := Dir{filepath.Join(t.TempDir(), "second")}
	must(t, os.CopyFS(second.Path, os.DirFS(d.Path)))
	must(t, os.RemoveAll(second.data()))
	must(t, os.Chmod(second.Path, 0o700))
	for _, key := range []string{"ca.key", "server.key", "control.key"} {
		must(t, os.Chmod(filepath.Join(second.Path, key), 0o600))
	}
	ports := farmtest.FreePort(t).Port()
	config := fmt.Sprintf("farm: shop\nmembers:\n  - name: a\n    address: %q\n    join_port: %d\nexternal:\n  endpoints: [%q]\n", m.Address, ports, c.endpoints()[0])
	must(t, os.WriteFile(second.ConfigFile(), []byte(config), 0o600))
	run(t, second)
	node, err := enrol.Join(soonContext(t), token(t, second, "web-1"), "web-1", filepath.Join(t.TempDir(), "node"))
	must(t, err)
	if !slices.Equal(node.Endpoints, c.endpoints()) {
		t.Errorf("the node finds the registry at %v", node.Endpoints)
	}
	if _, err := os.Stat(second.data()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an etcd was embedded all the same: %v", err)
	}
}

// TestInitChangesNothing: what exists is left as it is.
func TestInitChangesNothing(t *testing.T) {
	d := made(t, 1)[0]
	before, err := os.ReadFile(filepath.Join(d.Path, "ca.crt"))
	must(t, err)
	c, _, err := d.load()
	must(t, err)
	if _, err := Init(d, c, time.Now()); err == nil {
		t.Error("a registry was made over another")
	}
	after, err := os.ReadFile(filepath.Join(d.Path, "ca.crt"))
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the authority was replaced")
	}
}

// TestRunHoldsItsDirectory: not two at a time, and the certificates are renewed
// at the start when it is time.
func TestRunHoldsItsDirectory(t *testing.T) {
	d := made(t, 1)[0]
	authority, err := pki.ReadAuthority(d.Path)
	must(t, err)
	_, m, err := d.load()
	must(t, err)
	must(t, d.certify(authority, m, time.Now().Add(-200*24*time.Hour))) // long expired
	run(t, d)
	if at, err := d.renewAt(); err != nil || time.Until(at) < 10*24*time.Hour {
		t.Errorf("the next renewal is at %v, %v", at, err)
	}
	if err := Run(soonContext(t), d, zap.NewNop(), func(Running) { t.Error("a second one runs") }); !errors.Is(err, ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
}

func testLog(*testing.T) *zap.Logger { return zap.NewNop() }
