package farmtest

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
)

// Options says which servers a test wants.
type Options struct {
	// Flavor defaults to MariaDB.
	Flavor farm.Flavor
	// Replicas is the number of replicas; 0 means only a primary.
	Replicas int
	// Delay holds every replica's applier back, in whole seconds.
	Delay time.Duration
	// ExtraArgs are added to every server's command line.
	ExtraArgs []string
}

// Farm is a running primary with its replicas. Its methods that take a test
// fail it when they cannot do what they say.
type Farm struct {
	servers []*Server // the first is the primary
	epoch   farm.Epoch

	semiSync bool
	plain    []string // the servers' arguments without those of semi-synchronous replication
}

// startLimit bounds every wait of this package; a busy machine may be slow.
const startLimit = 2 * time.Minute

// Start starts the servers and returns when every replica replicates. They
// are killed and their data is removed when the test ends. Every server has
// its own loopback address and a free port, the accounts App and Monitor, and
// server ids from 1 (the primary).
func Start(t testing.TB, options Options) *Farm {
	t.Helper()
	if options.Flavor == farm.UnknownFlavor {
		options.Flavor = farm.MariaDB
	}
	inst := Need(t, options.Flavor)
	dir := ShortDir(t)
	f := &Farm{epoch: 1, servers: make([]*Server, 1+options.Replicas)}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()

	for i := range f.servers {
		name := "primary"
		if i > 0 {
			name = fmt.Sprintf("replica%d", i)
		}
		place := FreePort(t)
		f.servers[i] = &Server{name: name, inst: inst, config: dbserver.Config{
			Dir:         filepath.Join(dir, name),
			Address:     place.Addr(),
			Port:        place.Port(),
			Socket:      filepath.Join(dir, name+".sock"),
			ServerID:    uint32(i + 1),
			RedoLog:     RedoLog,
			ReadOnly:    i > 0,
			ExtraArgs:   append(Frugal(options.Flavor), options.ExtraArgs...),
			ParentDeath: syscall.SIGKILL,
		}}
	}
	t.Cleanup(f.kill)
	source := dbserver.Source{
		Address: f.servers[0].address(), User: Replicator.User, Password: Replicator.Password, Delay: options.Delay,
	}
	primaryUp := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	for i, s := range f.servers {
		group.Go(func() error {
			if err := CopyTemplate(inst, s.config.Dir); err != nil {
				return err
			}
			if err := s.start(ctx); err != nil {
				return err
			}
			if i == 0 {
				close(primaryUp)
				return nil
			}
			select {
			case <-primaryUp:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			s.follows = true
			if err := s.running().Follow(ctx, source); err != nil {
				return err
			}
			return s.running().AwaitFollowing(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("farmtest: %v", err)
	}
	return f
}

func (f *Farm) kill() {
	for _, s := range f.servers {
		if r := s.running(); r != nil {
			r.Kill()
		}
	}
}

// Primary is the server that the replicas follow.
func (f *Farm) Primary() *Server { return f.servers[0] }

// Replica is the i-th replica, from 0.
func (f *Farm) Replica(i int) *Server { return f.servers[1+i] }

// Replicas are all replicas.
func (f *Farm) Replicas() []*Server { return f.servers[1:] }

// Servers are all servers, the primary first.
func (f *Farm) Servers() []*Server { return f.servers }

// Topology describes the farm as the topology file of a cluster named
// "default", every replica serving. The epoch is 1 until Promote raises it.
func (f *Farm) Topology() farm.Topology {
	primary := f.Primary().Describe()
	cluster := farm.Cluster{Epoch: f.epoch, Primary: &primary}
	for _, s := range f.Replicas() {
		replica := s.Describe()
		replica.State = farm.Serving
		replica.Weight = 100
		cluster.Replicas = append(cluster.Replicas, replica)
	}
	return farm.Topology{Version: 1, Written: time.Now().UTC(), Clusters: map[string]farm.Cluster{"default": cluster}}
}

// SetDelay holds every replica's applier back by delay, in whole seconds.
func (f *Farm) SetDelay(t testing.TB, delay time.Duration) {
	t.Helper()
	for _, s := range f.Replicas() {
		s.SetDelay(t, delay)
	}
}

// WaitCaughtUp returns when every replica that runs has applied all that the
// primary has committed.
func (f *Farm) WaitCaughtUp(t testing.TB) {
	t.Helper()
	position := f.Primary().Position(t)
	for _, s := range f.Replicas() {
		if s.Alive() {
			s.WaitPosition(t, position)
		}
	}
}
