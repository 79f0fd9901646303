package farmtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
)

// semiSync are the settings of semi-synchronous replication, by flavor: an
// acknowledged commit is in the relay log of at least one replica, however long
// that takes.
var semiSync = map[farm.Flavor]struct{ primary, replica []string }{
	farm.MariaDB: {
		primary: []string{"rpl_semi_sync_master_timeout=3600000", "rpl_semi_sync_master_wait_point=AFTER_SYNC", "rpl_semi_sync_master_enabled=ON"},
		replica: []string{"rpl_semi_sync_slave_enabled=ON"},
	},
	farm.MySQL: {
		primary: []string{"rpl_semi_sync_source_timeout=3600000", "rpl_semi_sync_source_wait_point=AFTER_SYNC", "rpl_semi_sync_source_enabled=ON"},
		replica: []string{"rpl_semi_sync_replica_enabled=ON"},
	},
}

// SemiSync makes commits wait for a replica's acknowledgement from now on, over
// restarts and changes of primary too: what was acknowledged survives the loss
// of the primary. It is for farms whose replicas all run.
func (f *Farm) SemiSync(t testing.TB) {
	t.Helper()
	f.semiSync = true
	f.plain = slices.Clone(f.Primary().config.ExtraArgs)
	for _, s := range f.Replicas() {
		f.acknowledge(t, s)
		s.StopReplication(t)
		s.StartReplication(t)
	}
	f.wait(t, f.Primary())
}

// acknowledge makes a server one that acknowledges, once it follows anew.
func (f *Farm) acknowledge(t testing.TB, s *Server) {
	t.Helper()
	if f.semiSync {
		f.configure(t, s, semiSync[s.Flavor()].replica)
	}
}

// wait makes a server one that waits for acknowledgements.
func (f *Farm) wait(t testing.TB, s *Server) {
	t.Helper()
	if f.semiSync {
		f.configure(t, s, semiSync[s.Flavor()].primary)
	}
}

// configure gives a server settings now, if it runs, and at its next starts.
func (f *Farm) configure(t testing.TB, s *Server, settings []string) {
	t.Helper()
	args := slices.Clone(f.plain)
	for _, setting := range settings {
		if s.Alive() {
			s.Exec(t, "SET GLOBAL "+setting)
		}
		args = append(args, "--"+setting)
	}
	s.config.ExtraArgs = args
}

// Promote makes the replica that has received the most the primary, after the
// primary was killed. Every server keeps its name and address; Primary, Replicas
// and Topology, whose epoch rises, say what each is. The other replicas must
// follow the new primary next (Follow); the old primary does not run, and has
// what nobody acknowledged: see Rebuild.
func (f *Farm) Promote(t testing.TB) {
	t.Helper()
	if f.Primary().Alive() {
		t.Fatal("farmtest: promote: the primary runs")
	}
	ctx, cancel := limit()
	defer cancel()
	best := 0
	var most mysqladmin.Channel
	for i, s := range f.Replicas() {
		channel, err := s.appliedAll(ctx)
		if err != nil {
			t.Fatalf("farmtest: promote: %s: %v", s.name, err)
		}
		if i == 0 || channel.Received.Contains(most.Received) {
			best, most = 1+i, channel
		}
	}
	s := f.servers[best]
	f.wait(t, s)
	s.config.ReadOnly = false
	s.Lead(t)
	f.servers[0], f.servers[best] = f.servers[best], f.servers[0]
	f.epoch++
}

// appliedAll waits until a replica has applied all that it has received.
func (s *Server) appliedAll(ctx context.Context) (mysqladmin.Channel, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		channel, ok, err := s.running().Replication(ctx)
		if err != nil || !ok {
			return channel, errors.Join(err, ctx.Err())
		}
		state, err := s.running().State(ctx)
		if err != nil || state.Applied.Contains(channel.Received) {
			return channel, err
		}
		select {
		case <-ctx.Done():
			return channel, fmt.Errorf("it has received %v and applied %v", channel.Received, state.Applied)
		case <-tick.C:
		}
	}
}

// Rebuild gives a replica that does not run the data of another one, which is
// stopped meanwhile, and starts it; Follow must come next.
func (f *Farm) Rebuild(t testing.TB, s, from *Server) {
	t.Helper()
	from.Stop(t)
	if err := os.RemoveAll(s.config.Dir); err != nil {
		t.Fatalf("farmtest: rebuild %s: %v", s.name, err)
	}
	if err := os.CopyFS(s.config.Dir, os.DirFS(from.config.Dir)); err != nil {
		t.Fatalf("farmtest: rebuild %s: %v", s.name, err)
	}
	// Each MySQL server makes its own UUID when it finds none.
	for _, own := range []string{"process.json", "data/auto.cnf"} {
		if err := os.Remove(filepath.Join(s.config.Dir, own)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("farmtest: rebuild %s: %v", s.name, err)
		}
	}
	from.Restart(t)
	s.follows, s.config.ReadOnly = false, true
	f.acknowledge(t, s)
	s.Restart(t)
}
