// Package providertest has what every provider promises, as a test, and a provider
// in memory for tests of those that use one.
package providertest

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

// Spec is a web node's or a database server's.
func Spec(kind farmfile.RoleKind, role string, number int) provider.Spec {
	s := provider.Spec{Name: fmt.Sprint(role, number), RoleName: role, Cluster: "db", Token: "farmhand-join-x", Asked: time.Now(), Role: farmfile.Role{Kind: kind}}
	switch kind {
	case farmfile.MySQLKind:
		s.Role.Parameters.MySQL = &farmfile.MySQL{Flavor: farmfile.MariaDB, Port: 3306, BufferPool: 8 << 20}
	case farmfile.StorageServerKind:
		s.Role.Parameters.StorageServer = &farmfile.StorageServer{Port: 24010, Program: "glusterfsd"}
	case farmfile.WebKind:
		s.Role.Parameters.Web = &farmfile.Web{Database: "db", Proxy: farmfile.Proxy{TCP: "127.0.0.1:3306", Consistency: "farm", MaxLag: 10_000_000_000}}
	}
	return s
}

// Contract tests a provider that has no instances yet. again returns the provider as
// a scaler finds it that begins now; made changes what is launched into what this
// provider has.
func Contract(t *testing.T, p provider.Provider, again func() provider.Provider, made ...func(*provider.Spec)) {
	ctx := t.Context()
	spec := func(kind farmfile.RoleKind, role string, number int) provider.Spec {
		s := Spec(kind, role, number)
		for _, change := range made {
			change(&s)
		}
		return s
	}
	list := func(p provider.Provider) map[string]provider.Instance {
		t.Helper()
		all, err := p.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		byName := map[string]provider.Instance{}
		for n, i := range all {
			if n > 0 && all[n-1].Name >= i.Name {
				t.Errorf("%s is listed after %s", i.Name, all[n-1].Name)
			}
			byName[i.Name] = i
		}
		return byName
	}
	if all := list(p); len(all) != 0 {
		t.Fatalf("a new provider has %v", all)
	}
	const many = 4
	var launches sync.WaitGroup
	for n := range many {
		launches.Go(func() {
			s := spec(farmfile.MySQLKind, "db", n+1)
			s.Slot = n + 1
			i, err := p.Launch(ctx, s)
			if err != nil || i.Name != s.Name || i.RoleName != "db" || i.Kind != farmfile.MySQLKind || i.State != provider.Running || i.Launched.IsZero() {
				t.Errorf("launched %+v, %v", i, err)
			}
		})
	}
	launches.Wait()
	if _, err := p.Launch(ctx, spec(farmfile.MySQLKind, "db", 1)); !errors.Is(err, provider.ErrExists) {
		t.Errorf("launched twice: %v", err)
	}
	for name, s := range map[string]provider.Spec{
		"without a token":   {Name: "db9", RoleName: "db", Cluster: "db", Role: spec(farmfile.MySQLKind, "db", 9).Role},
		"by another's name": {Name: "secrets", RoleName: "db", Cluster: "db", Token: "x", Role: spec(farmfile.MySQLKind, "db", 9).Role},
	} {
		if _, err := p.Launch(ctx, s); err == nil {
			t.Errorf("launched %s", name)
		}
	}
	all := list(again())
	taken := map[netip.Addr]string{}
	for name, i := range all {
		if other, twice := taken[i.Address]; twice || !i.Address.IsValid() {
			t.Errorf("%s and %q are both at %v", name, other, i.Address)
		}
		taken[i.Address] = name
		if name != fmt.Sprint("db", i.Slot) {
			t.Errorf("%s has slot %d", name, i.Slot)
		}
	}
	if len(all) != many {
		t.Errorf("%d instances are listed", len(all))
	}
	// What it can take while it runs, it has taken when Configure returns.
	other := spec(farmfile.MySQLKind, "db", 1)
	other.Role.Hooks.TimeLimit, other.Role.Storage.Size = 77_000_000_000, 16<<20
	now, err := provider.ConfigurationOf(other.Role)
	if err != nil {
		t.Fatal(err)
	}
	if changes := all["db1"].Configuration.Changes(now); len(changes) != 2 {
		t.Errorf("it runs by %v", all["db1"].Configuration)
	}
	for range 2 {
		if err := again().Configure(ctx, other); err != nil {
			t.Error(err)
		}
		if changes := list(again())["db1"].Configuration.Changes(now); len(changes) != 1 || changes[0].Live {
			t.Errorf("configured, it differs in %v", changes)
		}
	}
	if err := p.Configure(ctx, spec(farmfile.MySQLKind, "db", 99)); err == nil {
		t.Error("an instance that there is not was configured")
	}
	// By whom it is terminated makes no difference, nor how often.
	for range 2 {
		if err := again().Terminate(ctx, "db2"); err != nil {
			t.Error(err)
		}
	}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if err := p.Terminate(ctx, "db3"); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if all := list(p); len(all) != many-2 || all["db2"].Name != "" || all["db1"].State != provider.Running {
		t.Errorf("after two were terminated: %+v", all)
	}
	if _, err := p.Launch(ctx, spec(farmfile.MySQLKind, "db", 2)); err != nil {
		t.Errorf("a name that is free again: %v", err)
	}
	for name := range list(p) {
		if err := p.Terminate(ctx, name); err != nil {
			t.Error(err)
		}
	}
	if all := list(again()); len(all) != 0 {
		t.Errorf("after all were terminated: %+v", all)
	}
}
