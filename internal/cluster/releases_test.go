package cluster

import (
	"strings"
	"testing"
)

// TestReleases: what nodes get, and what cannot be.
func TestReleases(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	one := func(version string) Release {
		return Release{Version: version, Object: ReleaseObject("web", version, sum), SHA256: sum, Size: 10, Files: 1}
	}
	r := &Releases{Roles: map[string]*RoleReleases{"web": {
		Current: "v1", Nodes: map[string]string{"web2": "v2", "web3": "gone"}, Versions: []Release{one("v3"), one("v2"), one("v1")},
	}}}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if r, err = DecodeReleases(data); err != nil {
		t.Fatal(err)
	}
	for node, want := range map[string]string{"web1": "v1", "web2": "v2", "web3": ""} {
		if got, ok := r.Roles["web"].For(node); got.Version != want || ok != (want != "") {
			t.Errorf("%s is to have %q", node, got.Version)
		}
	}
	if _, ok := r.Roles["none"].For("web1"); ok {
		t.Error("a role without releases has one")
	}
	for _, wrong := range []func(*Release){
		func(r *Release) { r.Version = "../v1" }, func(r *Release) { r.Version = ".v1" }, func(r *Release) { r.SHA256 = "x" },
		func(r *Release) { r.Size = 0 }, func(r *Release) { r.Object = "backups/x" },
	} {
		bad := one("v1")
		wrong(&bad)
		data, err := (&Releases{Roles: map[string]*RoleReleases{"web": {Versions: []Release{bad}}}}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeReleases(data); err == nil {
			t.Errorf("taken: %+v", bad)
		}
	}
	kept, dropped := Kept(r.Roles["web"].Versions, 1, "v1")
	if len(kept) != 2 || kept[0].Version != "v3" || kept[1].Version != "v1" || len(dropped) != 1 {
		t.Errorf("kept %+v", kept)
	}
}
