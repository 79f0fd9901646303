package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/enrol"
	"farmhand/internal/farmtest"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
)

// place is a member with that name at free ports.
func place(t *testing.T, name string) Member {
	t.Helper()
	for {
		first := farmtest.FreePort(t)
		m := Member{
			Name: name, Address: first.Addr().String(), ClientPort: first.Port(),
			PeerPort: farmtest.FreePort(t).Port(), JoinPort: farmtest.FreePort(t).Port(),
		}
		if m.ClientPort != m.PeerPort && m.PeerPort != m.JoinPort && m.JoinPort != m.ClientPort {
			return m // they are free at addresses of their own, so two may be the same
		}
	}
}

func scalerToken(t *testing.T, d Dir, m Member) (token enrol.ScalerToken) {
	t.Helper()
	must(t, d.With(func(c *registry.Client, config Config) (err error) {
		token, _, err = d.NewScalerToken(soonContext(t), c, &config, m, time.Hour)
		return err
	}))
	return token
}

// joined is the directory of a control node that has joined at d's farm and not
// run yet.
func joined(t *testing.T, d Dir, m Member) Dir {
	t.Helper()
	further := Dir{filepath.Join(t.TempDir(), m.Name)}
	_, err := Join(soonContext(t), scalerToken(t, d, m), further)
	must(t, err)
	return further
}

// names are the members in a directory's registry.yaml.
func names(t *testing.T, d Dir) string {
	t.Helper()
	c, err := d.Config()
	must(t, err)
	return strings.Join(c.each(func(m Member) string { return m.Name }), " ")
}

// awaitNames waits until a directory's registry.yaml lists these members.
func awaitNames(t *testing.T, d Dir, want string) {
	t.Helper()
	ctx := soonContext(t)
	for names(t, d) != want {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s lists %q, not %q", d.Path, names(t, d), want)
		}
	}
}

// writer writes to the registry all the time until the test's end or stop, which
// returns how often it did; nothing of it may be lost, and none may fail.
func writer(t *testing.T, d Dir) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	written, done := 0, make(chan error, 1)
	go func() {
		done <- d.With(func(c *registry.Client, _ Config) error {
			following := make(chan error, 1)
			go func() { following <- c.KeepEndpoints(ctx) }()
			for ctx.Err() == nil {
				// One that is being sent to a member that goes may be one of two: tried
				// again with the same text, so the count is of the texts.
				_, err := c.Append(context.WithoutCancel(ctx), registry.Entry{Kind: "test", Who: "test", Text: "write", Fields: map[string]string{"n": string(rune('0' + written%10))}})
				switch {
				case errors.Is(err, registry.ErrUnavailable):
					continue
				case err != nil:
					return errors.Join(err, errors.New("while writing"))
				}
				written++
			}
			if err := <-following; !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})
	}()
	return func() int {
		cancel()
		must(t, <-done)
		return written
	}
}

func count(t *testing.T, d Dir, kind string) (n int) {
	t.Helper()
	must(t, d.With(func(c *registry.Client, _ Config) error {
		entries, err := c.Entries(soonContext(t), 0)
		for _, e := range entries {
			if e.Kind == kind {
				n++
			}
		}
		return err
	}))
	return n
}

// TestOneBecomesThree while a client writes, and goes on without the first; that
// is replaced.
func TestOneBecomesThree(t *testing.T) {
	a := made(t, 1)[0]
	stopA := run(t, a)
	home := filepath.Join(t.TempDir(), "node")
	before, err := enrol.Join(soonContext(t), token(t, a, "web-1"), "web-1", home)
	must(t, err)
	text, err := os.ReadFile(a.ConfigFile())
	must(t, err)
	must(t, os.WriteFile(a.ConfigFile(), append([]byte("# the operator's own\n"), text...), 0o600))
	stop := writer(t, a)

	b := joined(t, a, place(t, "b"))
	if got := names(t, a); got != "a" {
		t.Errorf("one that has not started is listed already: %s", got)
	}
	run(t, b)
	c := joined(t, b, place(t, "c")) // at any of them
	run(t, c)
	for _, d := range []Dir{a, b, c} {
		awaitNames(t, d, "a b c")
		if s, err := d.seat(); err != nil || s != seated {
			t.Errorf("%s: seat %q, %v", d.Path, s, err)
		}
	}
	text, err = os.ReadFile(a.ConfigFile())
	must(t, err)
	if !strings.HasPrefix(string(text), "# the operator's own\n") || !strings.Contains(string(text), "election: 500ms") {
		t.Errorf("the operator's own was not kept:\n%s", text)
	}
	after, err := enrol.Renew(soonContext(t), home)
	must(t, err)
	if len(before.Endpoints) != 1 || len(after.Endpoints) != 3 || len(after.Scalers) != 3 {
		t.Errorf("the node knew %+v and knows %+v", before, after)
	}
	wrote := stop()
	if there := count(t, b, "test"); wrote == 0 || there < wrote {
		t.Errorf("%d writes were acknowledged, %d are there", wrote, there)
	}
	t.Logf("%d writes while it grew", wrote)

	// The first is gone for good. Who knew it only by the time it was alone is told
	// by its file, which was kept.
	stop = writer(t, b)
	must(t, stopA())
	must(t, os.RemoveAll(a.Path))
	if _, err := enrol.Renew(soonContext(t), home); err != nil {
		t.Errorf("the node's renewal without the first: %v", err)
	}
	must(t, b.With(func(client *registry.Client, _ Config) error { return Remove(soonContext(t), client, "a") }))
	awaitNames(t, b, "b c")
	awaitNames(t, c, "b c")
	again := joined(t, c, place(t, "a"))
	run(t, again)
	for _, d := range []Dir{again, b, c} {
		awaitNames(t, d, "a b c")
	}
	wrote += stop()
	if there := count(t, again, "test"); there < wrote {
		t.Errorf("%d writes were acknowledged, %d are there", wrote, there)
	}
	if joins := count(t, again, "control-node-joined"); joins != 3 {
		t.Errorf("%d joins are in the journal", joins)
	}
}

// TestTokenOfAControlNode: one control node, once, by its name, at its place, until
// its end, and at its farm.
func TestTokenOfAControlNode(t *testing.T) {
	d := made(t, 1)[0]
	run(t, d)
	ctx := soonContext(t)
	b := place(t, "b")
	good := scalerToken(t, d, b)
	into := func() Dir { return Dir{filepath.Join(t.TempDir(), "new")} }

	text, err := good.Encode()
	must(t, err)
	if parsed, err := enrol.ParseScalerToken(text + "\n"); err != nil || parsed.Secret != good.Secret || parsed.Place != good.Place || !slices.Equal(parsed.Addresses, good.Addresses) {
		t.Errorf("read back: %+v, %v", parsed, err)
	}
	if _, err := enrol.ParseToken(text); err == nil || !strings.Contains(err.Error(), "scaler join") {
		t.Errorf("as a node's token: %v", err)
	}
	forNode, err := token(t, d, "web-1").Encode()
	must(t, err)
	if _, err := enrol.ParseScalerToken(forNode); err == nil || !strings.Contains(err.Error(), "sidecar join") {
		t.Errorf("a node's token: %v", err)
	}

	wrong := good
	wrong.Fingerprint = strings.Repeat("ab", 32)
	var other *pki.WrongAuthorityError
	if _, err := Join(ctx, wrong, into()); !errors.As(err, &other) {
		t.Errorf("at another farm: %v", err)
	}
	for what, change := range map[string]func(*enrol.ScalerToken){
		"another name":    func(s *enrol.ScalerToken) { s.Names = "c" },
		"another address": func(s *enrol.ScalerToken) { s.Address = "127.0.0.99" },
		"another port":    func(s *enrol.ScalerToken) { s.PeerPort = farmtest.FreePort(t).Port() },
		"another secret":  func(s *enrol.ScalerToken) { s.Secret = strings.Repeat("0", len(s.Secret)) },
	} {
		forged, home := good, into()
		change(&forged)
		if _, err := Join(ctx, forged, home); refusal(err) != http.StatusForbidden {
			t.Errorf("with %s: %v", what, err)
		}
		if _, err := os.Stat(home.server().Key); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("with %s a key is left: %v", what, err)
		}
	}
	elsewhere := good
	elsewhere.Address = "192.0.2.1" // not this machine's
	if _, err := Join(ctx, elsewhere, into()); err == nil || !strings.Contains(err.Error(), "nothing was told") {
		t.Errorf("on another machine: %v", err)
	}
	// As a node, with the secret of a control node.
	if _, err := enrol.Join(ctx, good.Token, "b", filepath.Join(t.TempDir(), "node")); refusal(err) != http.StatusForbidden {
		t.Errorf("as a node: %v", err)
	}
	home := into()
	_, err = Join(ctx, good, home)
	must(t, err)
	for _, name := range []string{"ca.key", "server.key", "control.key", "registry.yaml"} {
		info, err := os.Stat(filepath.Join(home.Path, name))
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if _, err := Join(ctx, good, into()); refusal(err) != http.StatusForbidden {
		t.Errorf("a second time: %v", err)
	}
	if _, err := Join(ctx, good, home); err == nil {
		t.Error("over a control node that is there")
	}
	must(t, d.With(func(c *registry.Client, config Config) error {
		taken := b
		if _, _, err := d.NewScalerToken(ctx, c, &config, taken, time.Hour); !errors.Is(err, registry.ErrNameTaken) {
			t.Errorf("a token for a name that is taken: %v", err)
		}
		taken.Name = "c"
		if _, _, err := d.NewScalerToken(ctx, c, &config, taken, time.Hour); !errors.Is(err, registry.ErrNameTaken) {
			t.Errorf("a token for a place that is taken: %v", err)
		}
		taken.Address = "0.0.0.0"
		if _, _, err := d.NewScalerToken(ctx, c, &config, taken, time.Hour); err == nil {
			t.Error("a token for every address")
		}
		// Expired, by the clock of who admits.
		late := place(t, "late").record()
		id, secret, expires, err := c.AddScalerToken(ctx, late, registry.MinToken)
		must(t, err)
		if err := c.SpendScalerToken(ctx, id, secret, late, expires); !errors.Is(err, registry.ErrTokenUnfit) {
			t.Errorf("an expired token: %v", err)
		}
		return nil
	}))
}

// TestAuthorityKey goes to who has spent a token and to nobody else.
func TestAuthorityKey(t *testing.T) {
	d := made(t, 1)[0]
	run(t, d)
	ctx := soonContext(t)
	m := place(t, "b")
	home := joined(t, d, m)
	ask := enrol.ScalerToken{Token: enrol.Token{Addresses: []string{mustMember(t, d).at(mustMember(t, d).JoinPort)}}}
	if _, err := enrol.AskAuthority(ctx, ask, home.server()); err != nil {
		t.Errorf("again, while it is on its way in: %v", err)
	}
	node := filepath.Join(t.TempDir(), "node")
	_, err := enrol.Join(ctx, token(t, d, "web-1"), "web-1", node)
	must(t, err)
	for what, files := range map[string]pki.Files{
		"a node": enrol.Files(node), "the administrator": home.control(), "one that has joined long since": d.server(),
	} {
		if reply, err := enrol.AskAuthority(ctx, ask, files); refusal(err) != http.StatusForbidden || reply.Key != "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	// By its name, but with another key than the token was spent for.
	authority, err := pki.ReadAuthority(d.Path)
	must(t, err)
	double := Dir{filepath.Join(t.TempDir(), "double")}
	must(t, double.fill(authority, m, "", time.Now()))
	if _, err := enrol.AskAuthority(ctx, ask, double.server()); refusal(err) != http.StatusForbidden {
		t.Errorf("with another key: %v", err)
	}
	run(t, home)
	if _, err := enrol.AskAuthority(ctx, ask, home.server()); refusal(err) != http.StatusForbidden {
		t.Errorf("after it has joined: %v", err)
	}
}

func mustMember(t *testing.T, d Dir) Member {
	t.Helper()
	_, m, err := d.load()
	must(t, err)
	return m
}

// TestMemberThatNeverStarts is waited for by nobody: neither one that has joined and
// is not run, nor one that was made a learner and is gone.
func TestMemberThatNeverStarts(t *testing.T) {
	d := made(t, 1)[0]
	run(t, d)
	ctx := soonContext(t)
	joined(t, d, place(t, "b"))
	ghost := place(t, "ghost")
	joined(t, d, ghost)
	must(t, d.With(func(c *registry.Client, config Config) error {
		members, err := takeSeat(ctx, c, ghost, zap.NewNop())
		must(t, err)
		if again, err := takeSeat(ctx, c, ghost, zap.NewNop()); err != nil || !slices.Equal(members, again) || len(again) != 2 {
			t.Errorf("taken again: %v, %v", again, err)
		}
		for range 10 {
			_, err := c.Append(ctx, registry.Entry{Kind: "test", Who: "test", Text: "write"})
			must(t, err)
		}
		if node, err := enrol.Join(ctx, token(t, d, "web-1"), "web-1", filepath.Join(t.TempDir(), "node")); err != nil || len(node.Endpoints) != 1 {
			t.Errorf("a node is told of %v, %v", node.Endpoints, err)
		}
		return nil
	}))
	// Nor is it in the way of another.
	other := joined(t, d, place(t, "c"))
	run(t, other)
	awaitNames(t, d, "a c")
	must(t, d.With(func(c *registry.Client, _ Config) error {
		must(t, Remove(ctx, c, "ghost"))
		must(t, Remove(ctx, c, "b"))
		if err := Remove(ctx, c, "b"); !errors.Is(err, registry.ErrUnknownScaler) {
			t.Errorf("removed again: %v", err)
		}
		seats, err := c.Seats(ctx)
		if len(seats) != 2 {
			t.Errorf("the seats are %+v", seats)
		}
		return err
	}))
}

// TestRemovedOneEnds, and the last one cannot be removed.
func TestRemovedOneEnds(t *testing.T) {
	d := made(t, 1)[0]
	run(t, d)
	ctx := soonContext(t)
	other := joined(t, d, place(t, "b"))
	ready, ended := make(chan Running, 1), make(chan error, 1)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ended <- Run(running, other, zap.NewNop(), func(r Running) { ready <- r }) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	must(t, d.With(func(c *registry.Client, _ Config) error { return Remove(ctx, c, "b") }))
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended as if it had been asked to")
		}
		t.Logf("it ended with: %v", err)
	case <-ctx.Done():
		t.Fatal("the removed one goes on")
	}
	if err := Run(ctx, other, zap.NewNop(), func(Running) { t.Error("it runs again") }); err == nil {
		t.Error("it was started again")
	}
	must(t, d.With(func(c *registry.Client, _ Config) error {
		if err := Remove(ctx, c, "a"); err == nil {
			t.Error("the last one was removed")
		}
		return nil
	}))
}

// TestLostDataIsNotMadeUpFor: a member must not come back without what it promised.
func TestLostDataIsNotMadeUpFor(t *testing.T) {
	d := made(t, 1)[0]
	must(t, run(t, d)())
	must(t, os.RemoveAll(d.data()))
	if err := Run(soonContext(t), d, zap.NewNop(), func(Running) { t.Error("it runs") }); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("without its data: %v", err)
	}
}

func TestMembersAreReplaced(t *testing.T) {
	for _, text := range []string{
		"farm: x\nmembers:\n  - name: a\n    address: b\n\n# kept\netcd:\n  quota: 1\n",
		"farm: x\nmembers:\n- name: a\n  address: b\n\n# kept\netcd:\n  quota: 1\n",
		"farm: x\nmembers: [{name: a, address: b}]\n\n# kept\netcd:\n  quota: 1\n",
	} {
		if got, want := replaceMembers(text, "members: []\n"), "farm: x\nmembers: []\n\n# kept\netcd:\n  quota: 1\n"; got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
	d := made(t, 1)[0]
	c, err := d.Config()
	must(t, err)
	must(t, os.WriteFile(d.ConfigFile(), []byte(`"farm": shop
"members": [{name: a, address: 127.0.0.1}]
`), 0o600))
	c.Members = append(c.Members, place(t, "b"))
	if text, err := d.withMembers(&c); err == nil {
		t.Errorf("it became %s", text)
	}
	for _, m := range c.Members {
		if got, err := readMember(m.record()); err != nil || got != m {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
	}
	if _, err := json.Marshal(c.Members[0].record()); err != nil {
		t.Error(err)
	}
}
