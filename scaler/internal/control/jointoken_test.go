package control

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/internal/enrol"
	"farmhand/internal/farmtest"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
)

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
