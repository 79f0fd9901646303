package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farmtest"
	"farmhand/internal/objects"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

// siteFile is a farm with releases; %s is their store.
const siteFile = `
name: shop
roles:
  db: {kind: mysql, storage: {keep: false}}
  web:
    kind: web
    count: 3
    parameters:
      http: {port: 8081, document_root: "{directory}/site/current"}
      release: {store: %s, keep: 2}
policies: {failover: {quiet: 0}}
`

// ordered has a node's release be what the record says, unless the node is late or refuses it.
func (n *nodes) ordered(s provider.Spec, v registry.Value) error {
	all, err := cluster.DecodeReleases(v.Data)
	if err != nil || v.Lost != nil || s.Role.Kind != farmfile.WebKind {
		return err
	}
	of := all.Roles[s.RoleName]
	if of == nil {
		return nil
	}
	wanted, _ := of.For(s.Name)
	n.mu.Lock()
	defer n.mu.Unlock()
	before := ""
	if has := n.has[s.Name]; has != nil {
		before = has.Version
	}
	r := &cluster.ReleaseReport{Version: wanted.Version, Attempt: of.Attempt}
	switch {
	case n.late[s.Name] && !of.Back:
		r.Version, r.Doing = before, "fetching"
	case wanted.Version == n.refused && s.Name == "web2":
		r.Version, r.Refused, r.Why = before, wanted.Version, "it answers 500"
	}
	n.has[s.Name] = r
	return nil
}

// release is what a node says of its release; nil for a node without.
func (n *nodes) release(name string) *cluster.ReleaseReport {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.has[name]
}

// delay has a node be late, or not any more.
func (n *nodes) delay(name string, late bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.late[name] = late
}

// versions are what the web nodes say that they have.
func (f *farmOf) versions() string {
	var all []string
	for i := 1; i <= 3; i++ {
		has := ""
		if r := f.nodes.release(fmt.Sprint("web", i)); r != nil {
			has = r.Version
		}
		all = append(all, has)
	}
	return strings.Join(all, " ")
}

// release is the operation's arguments for a new version.
func releaseArgs(version string) map[string]string {
	sum := strings.Repeat(fmt.Sprintf("%02x", version[len(version)-1]), 32)
	return ReleaseArgs("web", cluster.Release{Version: version, Object: cluster.ReleaseObject("web", version, sum), SHA256: sum, Size: 1, Files: 1})
}

func (f *farmOf) beginRelease(args map[string]string, what string) string {
	f.t.Helper()
	var id string
	f.with(func(client *registry.Client) error {
		o, err := client.Ask(f.t.Context(), registry.Operation{Kind: OpRelease, Args: args, By: "test"})
		id = o.ID
		return err
	})
	f.until(id, what)
	return id
}

// TestAReleaseIsRolledOut by one leader and the next, is taken back where a node refuses it or a person says so, and
// again by a rollback.
func TestAReleaseIsRolledOut(t *testing.T) {
	farmtest.Long(t)
	f := newFarmOf(t, 3, fmt.Sprintf(siteFile, filepath.Join(t.TempDir(), "store")))
	v := f.await("that the farm has come up", func(v *View) bool {
		ready := 0
		for _, n := range v.Nodes {
			if n.RoleName == "web" && n.Size == "ready" {
				ready++
			}
		}
		return serving(3)(v) && ready == 3
	})
	done := func(args map[string]string, versions string) {
		t.Helper()
		if o := f.ask(OpRelease, args); o.State != registry.OperationDone || f.versions() != versions {
			t.Fatalf("%v: %+v; they have %s", args, o, f.versions())
		}
	}
	failed := func(args map[string]string, why, versions string) {
		t.Helper()
		if o := f.ask(OpRelease, args); o.State != registry.OperationFailed || !strings.Contains(o.Error, why) || f.versions() != versions {
			t.Errorf("%v: %+v; they have %s", args, o, f.versions())
		}
	}
	failed(map[string]string{"role": "db", "version": "v1"}, "has no releases", "  ")
	failed(map[string]string{"role": "web", "rollback": "true"}, "no version of web", "  ")
	failed(map[string]string{"role": "web", "version": "v1"}, "there are none", "  ")
	done(releaseArgs("v1"), "v1 v1 v1")
	other := releaseArgs("v1")
	other["sha256"] = strings.Repeat("0", 64)
	failed(other, "its code is other code", "v1 v1 v1")

	// The scaler that has begun it is gone in the middle.
	f.nodes.delay("web2", true)
	id := f.beginRelease(releaseArgs("v2"), "web2 does not have v2 yet: fetching")
	if got := f.versions(); got != "v2 v1 v1" {
		t.Errorf("in the middle they have %s", got)
	}
	failed(releaseArgs("v3"), "operation "+id, "v2 v1 v1")
	first := v.Leader
	if first == "c" { // whom with asks
		f.dirs = f.dirs[:2]
	}
	must(t, f.stops[first[0]-'a']())
	f.nodes.delay("web2", false)
	// The next leader's record is not other than the last one's: the node is told again as one would be that tries again.
	f.nodes.retell(t, f)
	if o := f.ended(id); o.State != registry.OperationDone || f.versions() != "v2 v2 v2" {
		t.Fatalf("%+v; they have %s", o, f.versions())
	}
	f.await("that v2 is in force", func(v *View) bool { return v.Leader != first && v.Roles["web"].Release == "v2" })

	// One node refuses the next one.
	f.nodes.mu.Lock()
	f.nodes.refused = "v3"
	f.nodes.mu.Unlock()
	failed(releaseArgs("v3"), "v3 is taken back: web2 refuses it: it answers 500; v2 is in force", "v2 v2 v2")
	// Its name can be given again.
	f.nodes.mu.Lock()
	f.nodes.refused = ""
	f.nodes.mu.Unlock()
	done(releaseArgs("v3"), "v3 v3 v3")

	// A person takes the next one back.
	f.nodes.delay("web3", true)
	id = f.beginRelease(releaseArgs("v4"), "web3 does not have v4 yet")
	if o := f.ask(OpAbort, map[string]string{"id": id}); o.State != registry.OperationDone {
		t.Errorf("abort: %+v", o)
	}
	if o := f.ended(id); o.State != registry.OperationFailed || !strings.Contains(o.Error, "cancelled by test") || f.versions() != "v3 v3 v3" {
		t.Errorf("%+v; they have %s", o, f.versions())
	}
	f.nodes.delay("web3", false)

	done(map[string]string{"role": "web", "rollback": "true", "batch": "3"}, "v2 v2 v2")
	failed(map[string]string{"role": "web", "rollback": "true"}, "no version of web that was in force before v2 is kept", "v2 v2 v2")
	done(map[string]string{"role": "web", "version": "v3"}, "v3 v3 v3")
	f.journaled("release v3 of web: v3 is in force: web1, web2, web3")
}

// retell has web2 hear once more what it is to have, as one that tries again.
func (n *nodes) retell(t *testing.T, f *farmOf) {
	t.Helper()
	record, err := registry.ClusterRecord("db", cluster.ReleasesRecord)
	must(t, err)
	f.with(func(client *registry.Client) error {
		data, err := client.Read(t.Context(), record)
		if err != nil {
			return err
		}
		return n.ordered(provider.Spec{Name: "web2", RoleName: "web", Role: farmfile.Role{Kind: farmfile.WebKind}}, registry.Value{Data: data})
	})
}

// TestOldReleasesAreRemoved: what is not kept goes from the store, and what is new there, or kept, does not.
func TestOldReleasesAreRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	store, err := objects.Open(t.Context(), objects.Config{Directory: dir})
	must(t, err)
	var kept []cluster.Release
	for _, version := range []string{"a", "b", "c"} {
		key := releaseArgs(version)["object"]
		_, err := store.Put(t.Context(), key, strings.NewReader(version), objects.PutOptions{})
		must(t, err)
		if version != "c" {
			old := time.Now().Add(-2 * strayAfter)
			must(t, os.Chtimes(filepath.Join(dir, key), old, old))
		}
		if version == "b" {
			kept = append(kept, cluster.Release{Object: key})
		}
	}
	var said []string
	must(t, tidyStore(t.Context(), "web", dir, kept, func(keys []string) error { said = append(said, keys...); return nil }))
	var got []string
	must(t, store.List(t.Context(), cluster.ReleasePrefix("web"), func(o objects.Object) error { got = append(got, o.Key); return nil }))
	if len(got) != 2 || len(said) != 1 || said[0] != releaseArgs("a")["object"] {
		t.Errorf("left are %v, removed %v", got, said)
	}
}
