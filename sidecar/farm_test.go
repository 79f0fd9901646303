package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/registry"
	"farmhand/internal/report"
	"farmhand/internal/topology"
	"farmhand/sidecar/internal/member"
)

// TestNodeOfAFarm: it joins by a token, follows the registry, is killed, loses the
// registry, and is expelled.
func TestNodeOfAFarm(t *testing.T) {
	f := newFarm(t)
	n := newFarmNode(t, f, "web1")
	n.hook(t, "new-primary", "10-note", `echo "$FARMHAND_HOST $FARMHAND_FIELD_EPOCH" >>`+n.path("primaries"))
	n.start(t)
	n.await(t, "the want of an assignment", func(r report.Report) bool {
		return r.State == report.Starting && strings.Contains(r.Detail, "no assignment for cluster db")
	})
	f.awaitMembers(t, "web1")
	if _, err := os.Stat(n.path("token")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the token that is spent is there: %v", err)
	}

	// The topology follows the registry, at once.
	told := f.reports(t, "web1")
	serial := uint64(0)
	var took []time.Duration
	primary, replica, primaries := "db2", "db1", ""
	for range 20 {
		primary, replica = replica, primary
		serial++
		began := time.Now()
		f.assign(t, serial, primary, replica)
		for {
			if r := soon(t, told, "report that the topology is written"); r.Serial == serial && r.Epoch == f.epoch {
				break
			}
		}
		took = append(took, time.Since(began))
		got, err := topology.Read(n.topology)
		must(t, err)
		if c := got.Clusters["db"]; c.Epoch != f.epoch || c.Primary.Name != primary || len(c.Replicas) != 1 || c.Replicas[0].Name != replica || c.Replicas[0].Weight != 50 {
			t.Fatalf("the topology is %+v", c)
		}
		// One that is the primary for a moment only may be passed over.
		primaries += fmt.Sprintf("%s %d\n", primary, f.epoch)
		farmtest.Eventually(t, "the hooks were told of every primary", func() error {
			text, err := os.ReadFile(n.path("primaries")) // the first of them makes it
			if string(text) != primaries {
				return fmt.Errorf("%q, %v", text, err)
			}
			return nil
		})
	}
	slices.Sort(took)
	t.Logf("from the call that writes the assignment to the report that the topology is written: median %v, worst of %d %v", took[len(took)/2], len(took), took[len(took)-1])
	if took[len(took)/2] > 2*time.Second {
		t.Errorf("%v", took)
	}
	n.await(t, "running", running)
	r := soon(t, told, "report")
	for r.State != "running" || r.Load[cluster.LoadProcessors] == 0 {
		r = soon(t, told, "report of a running node with its load")
	}
	// What happened to the node is in the farm's journal.
	farmtest.Eventually(t, "the farm's journal has its host-up", func() error {
		entries, err := f.admin.Entries(t.Context(), 0)
		if err == nil && !slices.ContainsFunc(entries, func(e registry.Entry) bool {
			return e.Kind == "host-up" && e.Who == "web1" && e.Node && e.Fields["address"] == "10.0.0.1"
		}) {
			err = fmt.Errorf("%+v", entries)
		}
		return err
	})

	// Killed, it comes back under its name once its lease has lapsed.
	must(t, n.cmd.Process.Kill())
	_ = n.cmd.Wait() // it was killed
	f.assign(t, 21, "db1", "db2")
	n.start(t)
	f.awaitTopology(t, n)
	farmtest.Eventually(t, "it is a member again", func() error {
		if log := n.read(t, "sidecar.log"); !strings.Contains(log, `"state": "member"`) {
			return errors.New(log)
		}
		return nil
	})
	before := len(n.delivered(t))

	// Without the registry it goes on.
	f.stop(t)
	n.await(t, "the loss of the registry", func(r report.Report) bool {
		return r.State == report.Running && strings.Contains(r.Detail, registry.ErrUnavailable.Error())
	})
	f.start(t)
	f.assign(t, 22, "db2", "db1")
	f.awaitTopology(t, n)
	n.await(t, "all well", running)
	for _, event := range n.delivered(t)[before:] {
		// Its own lease lapsed meanwhile, but nobody had given it up.
		if event == "host-down web1" {
			t.Errorf("the hooks were told of a host that is gone: %v", n.delivered(t)[before:])
		}
	}

	// Expelled, it ends.
	f.run(t, "registry", "expel", f.dir, "web1")
	n.await(t, "stopped", func(r report.Report) bool { return r.State == report.Stopped })
	if err := n.cmd.Wait(); err == nil {
		t.Error("a node that was expelled ends without an error")
	}
	if log := n.read(t, "sidecar.log"); !strings.Contains(log, member.ErrExpelled.Error()) {
		t.Errorf("it says\n%s", log)
	}
	f.awaitMembers(t)
	n.start(t)
	n.await(t, "stopped again", func(r report.Report) bool { return r.State == report.Stopped })
}

// TestNodeLeavesInOrder: its members are told of it at once.
func TestNodeLeavesInOrder(t *testing.T) {
	f := newFarm(t)
	one, two := newFarmNode(t, f, "web1"), newFarmNode(t, f, "web2")
	f.assign(t, 1, "db1", "db2")
	one.start(t)
	two.start(t)
	one.awaitDelivered(t, "host-up db1", "host-up db2", "host-up web1", "host-up web2", "new-primary db1")
	two.end(t)
	one.awaitDelivered(t, "host-up db1", "host-up db2", "host-up web1", "host-up web2", "new-primary db1", "host-down web2")
	f.awaitMembers(t, "web1")
	one.end(t)
	f.awaitMembers(t)
}

// TestNodeThatCannotJoin: it waits for the scaler, and ends if that refuses it.
func TestNodeThatCannotJoin(t *testing.T) {
	f := newFarm(t)
	n := newFarmNode(t, f, "web1")
	f.stop(t)
	n.start(t)
	farmtest.Eventually(t, "it waits", func() error {
		if log := n.read(t, "sidecar.log"); !strings.Contains(log, "cannot join the farm yet") {
			return errors.New(log)
		}
		return nil
	})
	f.start(t)
	f.awaitMembers(t, "web1")
	n.end(t)

	// Its certificate is of another name.
	n.configure(t, "web2", "")
	if out, err := sidecar("run", n.config); err == nil || !strings.Contains(out, `is of the node "web1", the configuration is of "web2"`) {
		t.Errorf("%v: %s", err, out)
	}
	// A token for another name.
	other := newFarmNode(t, f, "web3")
	other.configure(t, "web4", "")
	if out, err := sidecar("run", other.config); err == nil || !strings.Contains(out, "the scaler refused") {
		t.Errorf("%v: %s", err, out)
	}
	// No token at all.
	must(t, os.Remove(other.path("token")))
	if out, err := sidecar("run", other.config); err == nil || !strings.Contains(out, "no such file") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestUntil is what a database server that leads depends on.
func TestUntil(t *testing.T) {
	f := newFarm(t)
	dir := filepath.Join(t.TempDir(), "node")
	token := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(token, []byte(f.run(t, "registry", "token", f.dir, "--role", "mysql", "--name", "db1")), 0o600))
	must(t, member.Join(t.Context(), dir, token, "db1", zap.NewNop()))
	m, err := member.Open(member.Options{Dir: dir, Lease: 2 * time.Second, Log: zap.NewNop()})
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	if until := m.Until(); !until.IsZero() {
		t.Errorf("before it is one, it is a member until %v", until)
	}
	ended := make(chan error, 1)
	inBackground(t, func(ctx context.Context) { ended <- m.Run(ctx) })
	await := func(what string, is func(time.Time) bool) {
		t.Helper()
		farmtest.Eventually(t, what, func() error {
			if until := m.Until(); !is(until) {
				return fmt.Errorf("until %v, now %v", until, time.Now())
			}
			return nil
		})
	}
	sure := func(until time.Time) bool { return time.Until(until) > 0 }
	await("it is a member", sure)
	first := m.Until()
	await("it stays one", func(until time.Time) bool { return until.After(first.Add(2 * time.Second)) })
	f.stop(t)
	await("its lease has lapsed", func(until time.Time) bool { return !sure(until) })
	f.start(t)
	await("it is one again", sure)
	f.run(t, "registry", "expel", f.dir, "db1")
	// Before it is said to have been expelled, which may be a mistake.
	await("it is none", time.Time.IsZero)
	if len(ended) > 0 {
		t.Error("the end came without a doubt")
	}
	if err := soon(t, ended, "end"); !errors.Is(err, member.ErrExpelled) || !errors.Is(err, registry.ErrDenied) {
		t.Errorf("%v", err)
	}
}

// TestHooksBeforeAHostIsTerminated: a node's hook is run for a departure that stands in the
// registry, once, and the farm is told when it has ended; the host is leaving for
// templates.
func TestHooksBeforeAHostIsTerminated(t *testing.T) {
	f := newFarm(t)
	n := newFarmNode(t, f, "web1")
	n.hook(t, "before-host-terminate", "10-note", `echo "$FARMHAND_HOST $FARMHAND_FIELD_REASON" >>`+n.path("leaving")+`; while ! [ -e `+n.path("go")+` ]; do sleep 0.05; done; exit 3`)
	n.start(t)
	f.awaitMembers(t, "web1")
	f.assign(t, 1, "db1", "db2")
	f.awaitTopology(t, n)
	record, err := registry.ClusterRecord("db", cluster.DeparturesRecord)
	must(t, err)
	d := cluster.Departures{Term: f.term.Number, Hosts: []cluster.Departure{
		{Event: "e1", Host: farm.EventHost{Name: "db2", Role: "replica", Address: "127.0.0.1:2"}, Since: time.Now(), Why: "too many"},
		{Event: "e2", Host: farm.EventHost{Name: "web1", Role: "web", Address: "web1"}, Since: time.Now(), Why: "a test"},
	}}
	data, err := d.Encode()
	must(t, err)
	must(t, f.admin.Write(t.Context(), f.term, record, data))
	farmtest.Eventually(t, "both hooks run", func() error {
		text, err := os.ReadFile(n.path("leaving"))
		if err == nil && (!strings.Contains(string(text), "db2 too many\n") || !strings.Contains(string(text), "web1 a test\n")) {
			err = errors.New(string(text))
		}
		return err
	})
	// Killed meanwhile: they are run again, and the farm is told nothing before.
	must(t, n.cmd.Process.Kill())
	_ = n.cmd.Wait() // it was killed
	n.start(t)
	ended := func() *cluster.HooksReport {
		reports, err := f.admin.Reports(t.Context())
		must(t, err)
		for _, r := range reports {
			if r.Name == cluster.HooksReportName && r.Node == "web1" {
				report, err := cluster.DecodeHooksReport(r.Data)
				must(t, err)
				return report
			}
		}
		return nil
	}
	if r := ended(); r != nil && len(r.Ended) > 0 {
		t.Errorf("before the hooks have ended: %+v", r)
	}
	must(t, os.WriteFile(n.path("go"), nil, 0o644))
	farmtest.Eventually(t, "the farm is told of both", func() error {
		r := ended()
		if _, one := r.Of("e1"); one {
			if end, two := r.Of("e2"); two && end.Failed == 1 {
				return nil
			}
		}
		return fmt.Errorf("%+v", r)
	})
	before := slices.DeleteFunc(n.delivered(t), func(event string) bool { return !strings.HasPrefix(event, "before-host-terminate") })
	if !slices.Equal(slices.Sorted(slices.Values(before)), []string{"before-host-terminate db2", "before-host-terminate web1"}) {
		t.Errorf("delivered: %v", before)
	}
	farmtest.Eventually(t, "the node knows that it leaves", func() error {
		if text := n.read(t, "state/members.json"); !strings.Contains(text, `"leaving"`) {
			return errors.New(text)
		}
		return nil
	})
}
