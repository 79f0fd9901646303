package membership

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

// RegistryOptions are what a Registry needs.
type RegistryOptions struct {
	// Cluster is the name of the cluster of database servers.
	Cluster string
	// Watch and Members are those of the farm's registry.
	Watch   func(context.Context, registry.Record, func(registry.Value) error) error
	Members func(context.Context, func(registry.MembersView) error) error
	Log     *zap.Logger
}

// Registry is the membership that the farm's registry has: the database servers
// are those of the cluster's assignment, the other hosts the farm's members, of which
// those leave that the cluster's departures name.
type Registry struct {
	o                  RegistryOptions
	record, departures registry.Record
}

// NewRegistry returns the source that is the registry.
func NewRegistry(o RegistryOptions) (*Registry, error) {
	record, err := registry.ClusterRecord(o.Cluster, cluster.Record)
	if err != nil {
		return nil, err
	}
	departures, err := registry.ClusterRecord(o.Cluster, cluster.DeparturesRecord)
	return &Registry{o, record, departures}, err
}

// afterGap is how long after a time without the registry a member that is missing
// is still believed to be there: its lease may have lapsed meanwhile only because
// it could not be renewed.
const afterGap = 30 * time.Second

// Run implements [Source].
func (r *Registry) Run(ctx context.Context, observer Observer) error {
	values, departures, views := make(chan registry.Value), make(chan registry.Value), make(chan registry.MembersView)
	group := service.NewGroup(ctx)
	group.Go("assignment", func(ctx context.Context) error {
		return r.o.Watch(ctx, r.record, func(v registry.Value) error { return send(ctx, values, v) })
	})
	group.Go("departures", func(ctx context.Context) error {
		return r.o.Watch(ctx, r.departures, func(v registry.Value) error { return send(ctx, departures, v) })
	})
	group.Go("members", func(ctx context.Context) error {
		return r.o.Members(ctx, func(v registry.MembersView) error { return send(ctx, views, v) })
	})
	group.Go("membership", func(ctx context.Context) error {
		s := &registryState{Registry: r, observer: observer}
		for {
			var late <-chan time.Time
			if s.gapTimer != nil {
				late = s.gapTimer.C
			}
			select {
			case <-ctx.Done():
				return nil
			case v := <-values:
				s.value(v)
			case v := <-departures:
				s.leave(v)
			case v := <-views:
				s.view(v)
			case <-late:
				s.endGap()
			}
			s.tell()
		}
	})
	err := group.Wait()
	if errors.Is(err, registry.ErrDenied) {
		// The node was expelled, or is not what its configuration says. What was known
		// stays; whether the node goes on is for who holds the membership.
		observer.Trouble(err)
		<-ctx.Done()
		return nil
	}
	return err
}

func send[T any](ctx context.Context, c chan<- T, value T) error {
	select {
	case c <- value:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// registryState is what the registry has told.
type registryState struct {
	*Registry
	observer Observer

	assignment *cluster.Assignment // nil before the first
	refused    error               // why the newest assignment is not taken
	lost       error               // why the assignment may be old
	members    *registry.MembersView
	departures *cluster.Departures // nil before the first
	// before are the members from before a gap that are not there again; while the
	// timer runs they count.
	before   []registry.Member
	gapTimer *time.Timer
}

func (s *registryState) value(v registry.Value) {
	s.lost = v.Lost
	switch {
	case v.Lost != nil:
	case v.Data == nil:
		s.refused = fmt.Errorf("the registry has no assignment for cluster %s", s.o.Cluster)
	default:
		a, err := cluster.Decode(v.Data)
		if err == nil && s.assignment != nil && a.Serial != s.assignment.Serial && !a.Newer(s.assignment) {
			err = fmt.Errorf("assignment %d of epoch %d is older than %d of epoch %d, which was seen already", a.Serial, a.Epoch, s.assignment.Serial, s.assignment.Epoch)
		}
		if s.refused = err; err == nil {
			s.assignment = a
		}
	}
}

// leave takes who is on the way out. One that cannot be read changes nothing.
func (s *registryState) leave(v registry.Value) {
	if v.Lost != nil {
		return
	}
	d, err := cluster.DecodeDepartures(v.Data)
	if err != nil {
		s.o.Log.Error("who leaves the farm is not known", zap.Error(err))
		return
	}
	s.departures = d
}

func (s *registryState) view(v registry.MembersView) {
	if s.members != nil && s.members.Lost != nil && v.Lost == nil {
		s.endGap()
		s.before, s.gapTimer = s.members.Members, time.NewTimer(afterGap)
	}
	s.members = &v
}

func (s *registryState) endGap() {
	if s.gapTimer != nil {
		s.gapTimer.Stop()
	}
	s.before, s.gapTimer = nil, nil
}

// tell says what is known by now: nothing before all parts are.
func (s *registryState) tell() {
	if s.assignment != nil && s.members != nil && s.departures != nil {
		members := s.members.Members
		for _, m := range s.before {
			if !has(members, m.Name) {
				members = append(members[:len(members):len(members)], m)
			}
		}
		s.observer.Changed(s.snapshot(s.assignment, members))
	}
	lost := s.lost
	if lost == nil && s.members != nil {
		lost = s.members.Lost
	}
	if err := errors.Join(s.refused, lost); err != nil {
		s.observer.Trouble(err)
	}
}

func has(members []registry.Member, name string) bool {
	for _, m := range members {
		if m.Name == name {
			return true
		}
	}
	return false
}

// snapshot puts the two together. What a member says of itself that cannot be is
// logged, and that host left out: one bad node must not hold up the others.
func (s *registryState) snapshot(a *cluster.Assignment, members []registry.Member) Snapshot {
	topology := a.Topology()
	snapshot := Snapshot{Epoch: a.Epoch, Cluster: &topology, Serial: a.Serial}
	for _, server := range a.Servers {
		snapshot.Hosts = append(snapshot.Hosts, databaseHost(a, server))
	}
	for _, m := range members {
		h := Host{Name: m.Name, Role: m.Role, Address: m.Address, State: Up, Attributes: m.Attributes}
		if s.departures.Leaves(m.Name) {
			h.State = Leaving
		}
		if h.Address == "" {
			h.Address = m.Name // it serves nothing at an address; its name is what can be said of it
		}
		// Who is a database server is for the assignment to say.
		if _, known := a.Server(m.Name); known || h.Database() || m.Role == "mysql" || m.Role == s.o.Cluster {
			continue
		}
		var p service.Problems
		checkHost(&p, m.Name, h)
		if err := farm.CheckName(m.Name); err != nil {
			p.Add(m.Name, "%v", err)
		}
		if len(p) > 0 {
			s.o.Log.Warn("a member is left out, for what it says of itself cannot be", zap.String("node", m.Name), zap.String("problem", p[0].Path+": "+p[0].Message))
			continue
		}
		snapshot.Hosts = append(snapshot.Hosts, h)
	}
	return canonical(snapshot)
}

// databaseHost is a server of the cluster as hooks and templates see it. One that
// the proxies are not to know is on its way to that or from it, or does not work.
func databaseHost(a *cluster.Assignment, server cluster.Server) Host {
	h := Host{Name: server.Name, Role: string(farm.Replica), Address: server.Address, Weight: server.Weight}
	switch {
	case server.Name == a.Primary:
		h.Role, h.State = string(farm.Primary), Up
	case server.Task == cluster.Fence:
		h.State = Down
	case server.State == farm.Draining, server.Task == cluster.Retire:
		h.State = Leaving
	case server.State == farm.Serving, server.Task == cluster.Lead, server.Task == cluster.Yield:
		h.State = Up
	default:
		h.State = Joining
	}
	return h
}
