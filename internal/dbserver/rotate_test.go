package dbserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/mysqladmin"
)

// login tries an account by TCP; nil if it is accepted.
func login(t *testing.T, s *farmtest.Server, user, password string) error {
	t.Helper()
	conn, err := mysqladmin.Dial(t.Context(), mysqladmin.Target{Network: "tcp", Address: s.Addr(), User: user, Password: password})
	if err != nil {
		return err
	}
	if _, err := conn.Query(t.Context(), "SELECT 1"); err != nil {
		t.Error(err)
	}
	return conn.Close()
}

// TestAPasswordIsRotated: on the primary and, by the binlog, on a replica, an account
// takes the old password, both, and then the new one alone. A replica goes on with
// either, and each step can be repeated.
func TestAPasswordIsRotated(t *testing.T) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) {
			if flavor == farm.MySQL {
				farmtest.Long(t)
			}
			f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
			accepts := func(what string, a dbserver.Account, old, next bool, nextPassword string) {
				t.Helper()
				f.WaitCaughtUp(t)
				for _, s := range f.Servers() {
					for password, want := range map[string]bool{a.Password: old, nextPassword: next} {
						if err := login(t, s, a.User, password); err == nil != want || err != nil && mysqladmin.Code(err) != 1045 {
							t.Errorf("%s: on %s accepted is %v, want %v: %v", what, s.Name(), err == nil, want, err)
						}
					}
				}
			}
			for _, a := range []dbserver.Account{farmtest.Replicator, farmtest.Monitor} {
				const next = "it's a \\new one"
				accepts("before", a, true, false, next)
				for range 2 {
					f.Primary().Exec(t, dbserver.AcceptBoth(flavor, a, next)...)
					if flavor == farm.MySQL {
						break // a second time it would keep the new one twice
					}
				}
				accepts("both", a, true, true, next)
				// A receiver that connects anew proves itself with either.
				f.Replica(0).StopReplication(t)
				f.Replica(0).StartReplication(t)
				for range 2 {
					f.Primary().Exec(t, dbserver.AcceptOnly(flavor, dbserver.Account{User: a.User, Password: next})...)
				}
				accepts("the new one alone", a, false, true, next)
				f.Primary().Exec(t, dbserver.AcceptBoth(flavor, dbserver.Account{User: a.User, Password: next}, a.Password)...)
				f.Primary().Exec(t, dbserver.AcceptOnly(flavor, a)...)
				accepts("back again", a, true, false, next)
			}
			for _, event := range f.Primary().Query(t, "SHOW BINLOG EVENTS") {
				if info := event.String("Info"); strings.Contains(info, "ALTER USER") && strings.Contains(info, "new one") {
					t.Errorf("a password stands in the binlog: %s", info)
				}
			}
			if err := manyLogins(t, f.Primary()); err != nil {
				t.Error(err)
			}
		})
	}
}

// manyLogins proves that one whose first way is refused is no failed login, of which a
// server may have enough.
func manyLogins(t *testing.T, s *farmtest.Server) error {
	a := farmtest.Monitor
	s.Exec(t, dbserver.AcceptBoth(s.Flavor(), a, "other")...)
	before := s.Counter(t, "Aborted_connects")
	for range 20 {
		if err := login(t, s, a.User, a.Password); err != nil {
			return err
		}
	}
	if after := s.Counter(t, "Aborted_connects"); after != before {
		return fmt.Errorf("%d logins with the old password count as failed", after-before)
	}
	s.Exec(t, dbserver.AcceptOnly(s.Flavor(), dbserver.Account{User: a.User, Password: "other"})...)
	if err := login(t, s, a.User, a.Password); mysqladmin.Code(err) != 1045 || errors.Is(err, context.Canceled) {
		return fmt.Errorf("the old password: %w", err)
	}
	return nil
}
