package monitor_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/monitor"
)

var _ auth.Directory = (*monitor.Monitor)(nil)

func (w *watched) accounts(user string) []auth.Account {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	accounts, err := w.Accounts(ctx, user)
	if err != nil {
		w.t.Fatalf("accounts of %q: %v", user, err)
	}
	return accounts
}

func TestAccountsOfMariaDB(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	w := watch(t, clusterOf(f))
	w.awaitSound()
	const hash = "*E56A114692FE0DE073F9A1DD68A00EEB9703F3F1" // of "hello"
	name := "o'br\\ien ☃"
	f.Primary().Exec(
		t,
		"INSTALL SONAME 'auth_ed25519'",
		"CREATE USER `"+name+"`@`10.%` IDENTIFIED BY PASSWORD '"+hash+"'",
		"CREATE USER two@`%` IDENTIFIED VIA ed25519 USING PASSWORD('x') OR mysql_native_password USING '"+hash+"'",
		"CREATE USER locked@`%` IDENTIFIED BY PASSWORD '"+hash+"' ACCOUNT LOCK",
		"CREATE USER expired@`%` IDENTIFIED BY PASSWORD '"+hash+"' PASSWORD EXPIRE",
		"CREATE USER open@localhost",
		"CREATE ROLE arole",
	)
	native := func(user, host, secret string) auth.Account {
		return auth.Account{User: user, Host: host, Plugin: "mysql_native_password", AuthString: []byte(secret)}
	}
	if got, want := w.accounts(name), []auth.Account{native(name, "10.%", hash)}; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	two := w.accounts("two")
	if len(two) != 2 || two[0].Plugin != "ed25519" || len(two[0].AuthString) != 43 || !reflect.DeepEqual(two[1], native("two", "%", hash)) {
		t.Errorf("two ways: %+v", two)
	}
	locked, expired := native("locked", "%", hash), native("expired", "%", hash)
	locked.Locked, expired.PasswordExpired = true, true
	for _, want := range []auth.Account{locked, expired, native("open", "localhost", "")} {
		if got := w.accounts(want.User); len(got) != 1 || got[0].Locked != want.Locked || got[0].PasswordExpired != want.PasswordExpired ||
			got[0].Plugin != want.Plugin || string(got[0].AuthString) != string(want.AuthString) {
			t.Errorf("%s: %+v, want %+v", want.User, got, want)
		}
	}
	for _, nobody := range []string{"arole", "nobody", "TWO", "two ", strings.Repeat("x", 10_000), strings.Repeat("☃", 150), "\xff\x00", "\x00", "🐬", "' OR 1=1 -- "} {
		if got := w.accounts(nobody); len(got) != 0 {
			t.Errorf("%.20q has accounts: %+v", nobody, got)
		}
	}
	f.Primary().Exec(t, "CREATE USER ''@localhost IDENTIFIED BY PASSWORD '"+hash+"'")
	if got := w.accounts("nobody"); len(got) != 1 || got[0].User != "" {
		t.Errorf("the anonymous account: %+v", got)
	}
	if got := w.accounts(""); len(got) != 1 {
		t.Errorf("the anonymous account by its name: %+v", got)
	}

	// Dropped and changed accounts count from the next look-up on.
	f.Primary().Exec(t, "DROP USER two@`%`", "SET PASSWORD FOR locked@`%` = ''", "DROP USER ''@localhost")
	if got := w.accounts("two"); len(got) != 0 {
		t.Errorf("a dropped account: %+v", got)
	}
	if got := w.accounts("locked"); len(got) != 1 || len(got[0].AuthString) != 0 {
		t.Errorf("a changed password: %+v", got)
	}

	// An account that may only see the view.
	f.Primary().Exec(t, "REVOKE SELECT ON mysql.global_priv FROM "+farmtest.Monitor.User)
	if got, want := w.accounts(name), []auth.Account{native(name, "10.%", hash)}; !reflect.DeepEqual(got, want) {
		t.Errorf("by the view: %+v, want %+v", got, want)
	}
	if got := w.accounts("expired"); len(got) != 1 || !got[0].PasswordExpired {
		t.Errorf("by the view: %+v", got)
	}
	if got := w.accounts("arole"); len(got) != 0 {
		t.Errorf("a role by the view: %+v", got)
	}
	f.Primary().Exec(t, "REVOKE SELECT ON mysql.user FROM "+farmtest.Monitor.User)
	if _, err := w.Accounts(context.Background(), "two"); err == nil || !strings.Contains(err.Error(), "grant SELECT") {
		t.Errorf("without privileges: %v", err)
	}
}

func TestAccountsOfMySQL(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Flavor: farm.MySQL})
	w := watch(t, clusterOf(f))
	w.awaitSound()
	name := "o'br\\ien ☃"
	f.Primary().Exec(
		t,
		"CREATE USER `"+name+"`@`10.%` IDENTIFIED BY 'x'",
		"CREATE USER twice@`%` IDENTIFIED BY 'old'",
		"ALTER USER twice@`%` IDENTIFIED BY 'new' RETAIN CURRENT PASSWORD",
		"CREATE USER locked@`%` IDENTIFIED BY 'x' ACCOUNT LOCK",
		"CREATE USER expired@`%` IDENTIFIED BY 'x' PASSWORD EXPIRE",
	)
	stored := func(user string) string {
		return f.Primary().Query(t, "SELECT HEX(authentication_string) AS h FROM mysql.user WHERE User = "+
			"CONVERT(0x"+fmt.Sprintf("%x", user)+" USING utf8mb4)")[0].String("h")
	}
	got := w.accounts(name)
	if len(got) != 1 || got[0].Host != "10.%" || got[0].Plugin != "caching_sha2_password" ||
		fmt.Sprintf("%X", got[0].AuthString) != stored(name) || len(got[0].AuthString) != 70 {
		t.Errorf("%+v, want %s", got, stored(name))
	}
	if got := w.accounts("twice"); len(got) != 2 || fmt.Sprintf("%X", got[0].AuthString) != stored("twice") ||
		len(got[1].AuthString) != 70 || string(got[0].AuthString) == string(got[1].AuthString) {
		t.Errorf("two passwords: %+v", got)
	}
	if got := w.accounts("locked"); len(got) != 1 || !got[0].Locked || got[0].PasswordExpired {
		t.Errorf("locked: %+v", got)
	}
	if got := w.accounts("expired"); len(got) != 1 || got[0].Locked || !got[0].PasswordExpired {
		t.Errorf("expired: %+v", got)
	}
	for _, nobody := range []string{"nobody", "EXPIRED", strings.Repeat("x", 10_000), strings.Repeat("☃", 150), "\xff\x00", "\x00", "🐬", "' OR 1=1 -- "} {
		if got := w.accounts(nobody); len(got) != 0 {
			t.Errorf("%.20q has accounts: %+v", nobody, got)
		}
	}
}

func TestLookupsShareQueries(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	// A slow link: while one query is under way, the others gather.
	link := farmtest.NewLink(t, f.Primary().Addr())
	c := clusterOf(f)
	c.Primary.Address = link.Addr()
	w := watch(t, c, func(c *monitor.Config) { c.Timeout = 20 * time.Second })
	w.awaitSound()
	w.accounts("app")
	link.Slow(20*time.Millisecond, 0)
	const lookups = 500
	before := w.counter("farmhand_proxy_account_queries_total")
	var wg sync.WaitGroup
	for i := range lookups {
		wg.Go(func() {
			user, want := "app", 1
			if i%2 == 1 {
				user, want = fmt.Sprintf("nobody%d", i), 0
			}
			accounts, err := w.Accounts(context.Background(), user)
			if err != nil || len(accounts) != want {
				t.Errorf("%s: %v, %v", user, accounts, err)
			}
		})
	}
	wg.Wait()
	if n := w.counter("farmhand_proxy_account_queries_total") - before; n > lookups/10 {
		t.Errorf("%v queries for %d look-ups at once", n, lookups)
	}
}

func (w *watched) counter(name string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	w.t.Fatalf("no metric %s", name)
	return 0
}

func TestLookupsOutliveThePrimary(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	w := watch(t, clusterOf(f))
	w.awaitSound()
	w.accounts("app")

	// The directory's idle connection is closed by the server: nobody notices.
	for _, row := range f.Primary().Query(t, "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '"+farmtest.Monitor.User+"'") {
		f.Primary().Exec(t, "KILL "+row.String("ID"))
	}
	w.accounts("app")
	w.awaitSound()

	f.Primary().Kill9(t)
	if got := w.accounts("app"); len(got) != 1 {
		t.Errorf("with the primary just dead: %+v", got)
	}
	if p := w.View().Primary; p.Writable {
		t.Error("the failed look-up told the monitor nothing")
	}
	f.Replica(0).Kill9(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if got, err := w.Accounts(ctx, "app"); err == nil || !strings.Contains(err.Error(), "no server can be asked") {
		t.Errorf("with every server dead: %v, %v", got, err)
	}
	w.stop()
	if _, err := w.Accounts(context.Background(), "app"); err == nil {
		t.Error("an answer after the monitor has stopped")
	}
}
