package monitor_test

import (
	"errors"
	"strings"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/monitor"
)

var errReset = errors.New("connection reset by peer")

func TestAnAccountThatMayNotSeeReplication(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		f := farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 1})
		w := watch(t, clusterOf(f))
		w.awaitSound()
		privilege := "REPLICA MONITOR"
		if flavor == farm.MySQL {
			privilege = "REPLICATION CLIENT"
		}
		f.Primary().Exec(t, "REVOKE "+privilege+" ON *.* FROM "+farmtest.Monitor.User)
		f.WaitCaughtUp(t)
		// Privileges count from the next connection on.
		f.Replica(0).Restart(t)
		s := w.awaitServer("replica1", "cannot be judged", func(s *monitor.Server) bool {
			return strings.Contains(s.Reason, "grant "+privilege)
		})
		if s.Status != monitor.Up || s.Eligible || s.LagKnown {
			t.Errorf("%+v", s)
		}
		if p := w.View().Primary; !p.Writable || !p.Eligible {
			t.Errorf("the primary needs no replication: %s", p.Reason)
		}
	})
}

func TestAFullPrimaryIsNotDead(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{ExtraArgs: []string{"--max-connections=10"}})
	w := watch(t, clusterOf(f))
	w.awaitSound()
	db := f.Primary().Open(t, farmtest.App)
	for {
		conn, err := db.Conn(t.Context())
		if err != nil {
			if !strings.Contains(err.Error(), "1040") {
				t.Fatal(err)
			}
			break
		}
		t.Cleanup(func() {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	// The probe's new connection finds no room; the kept one still works.
	w.Report("primary", errReset)
	w.awaitServer("primary", "takes writes again", func(s *monitor.Server) bool { return s.Writable })
	p := w.awaitServer("primary", "was probed over the kept connection", func(s *monitor.Server) bool { return s.LastError == "" })
	if !p.Writable || p.Status != monitor.Up {
		t.Errorf("%+v", p)
	}
}

func TestByUnixSocket(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	c := clusterOf(f)
	c.Primary.Address = f.Primary().Socket()
	watch(t, c).awaitSound()
}

func TestAWrongPassword(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{})
	w := watch(t, clusterOf(f), func(c *monitor.Config) { c.Password = "wrong" })
	p := w.awaitServer("primary", "refuses the monitor", func(s *monitor.Server) bool { return s.Status == monitor.Down })
	if p.Writable || p.Eligible || !strings.Contains(p.Reason, "1045") {
		t.Errorf("%+v", p)
	}
}
