package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/enrol"
	"farmhand/internal/farm"
	"farmhand/internal/registry"
	"farmhand/internal/service"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/provider/providertest"
)

// nodes are the far side: instances of a fake provider whose sidecars are here. Each
// joins the farm by its token, is a member, obeys the assignment at once and
// reports.
type nodes struct {
	t   *testing.T
	dir string
	*providertest.Fake

	mu    sync.Mutex
	stops map[string]func()
	stuck map[string]bool // nodes whose hooks do not end
	sick  string          // an image with which no node is well
	// late are the nodes that take no release for now, refused is a version that web2 does not take.
	late    map[string]bool
	refused string
	has     map[string]*cluster.ReleaseReport // by node
}

// sicken has no node be well that is launched from the image.
func (n *nodes) sicken(image string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sick = image
}

func (n *nodes) well(image string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sick == "" || !strings.HasPrefix(image, n.sick)
}

func newNodes(t *testing.T) *nodes {
	n := &nodes{t: t, dir: t.TempDir(), Fake: &providertest.Fake{}, stops: map[string]func(){}, stuck: map[string]bool{}, late: map[string]bool{}, has: map[string]*cluster.ReleaseReport{}}
	n.Launched, n.Terminated = n.begin, n.crash
	t.Cleanup(func() {
		n.mu.Lock()
		var names []string
		for name := range n.stops {
			names = append(names, name)
		}
		n.mu.Unlock()
		for _, name := range names {
			n.crash(name)
		}
	})
	return n
}

func (n *nodes) begin(s provider.Spec, i provider.Instance) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.run(ctx, s, i); err != nil && ctx.Err() == nil && !errors.Is(err, registry.ErrDenied) {
			n.t.Errorf("node %s: %v", s.Name, err)
		}
	}()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stops[s.Name] = func() { cancel(); <-done }
}

// crash ends a node; its membership is given up, its last report stays.
func (n *nodes) crash(name string) {
	n.mu.Lock()
	stop := n.stops[name]
	delete(n.stops, name)
	n.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func (n *nodes) runs(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stops[name] != nil
}

func (n *nodes) run(ctx context.Context, s provider.Spec, i provider.Instance) (err error) {
	token, err := enrol.ParseToken(s.Token)
	if err != nil {
		return err
	}
	dir := filepath.Join(n.dir, s.Name)
	node, err := enrol.Join(ctx, token, s.Name, dir)
	if err != nil {
		return err
	}
	client, err := registry.Open(registry.Options{Farm: node.Farm, Endpoints: node.Endpoints, Files: enrol.RegistryFiles(dir)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	r, err := registry.ClusterRecord(s.Cluster, cluster.Record)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var now *cluster.Assignment
	wake := make(chan struct{}, 1)
	group := service.NewGroup(ctx)
	group.Go("member", func(ctx context.Context) error {
		return client.HoldMembership(ctx, registry.Member{Name: s.Name, Role: node.Role}, registry.MinLease, nil, func(registry.Holding) {})
	})
	group.Go("watch", func(ctx context.Context) error {
		return client.Watch(ctx, r, func(v registry.Value) error {
			if v.Data == nil {
				return nil
			}
			a, err := cluster.Decode(v.Data)
			mu.Lock()
			now = a
			mu.Unlock()
			poke(wake)
			return err
		})
	})
	departures, err := registry.ClusterRecord(s.Cluster, cluster.DeparturesRecord)
	if err != nil {
		return err
	}
	group.Go("hooks", func(ctx context.Context) error {
		return client.Watch(ctx, departures, func(v registry.Value) error { return n.hooks(ctx, client, s.Name, v) })
	})
	releases, err := registry.ClusterRecord(s.Cluster, cluster.ReleasesRecord)
	if err != nil {
		return err
	}
	group.Go("releases", func(ctx context.Context) error {
		return client.Watch(ctx, releases, func(v registry.Value) error { return n.ordered(s, v) })
	})
	group.Go("report", func(ctx context.Context) error {
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for {
			mu.Lock()
			a := now
			mu.Unlock()
			name, value, err := n.report(s, i, a)
			if err == nil {
				err = client.Report(ctx, name, value)
			}
			if err != nil && !errors.Is(err, registry.ErrUnavailable) {
				return err
			}
			select {
			case <-wake:
			case <-tick.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	return group.Wait()
}

// stick makes a node's hooks hang, or end from the next departure on.
func (n *nodes) stick(name string, stuck bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stuck[name] = stuck
}

// hooks says that all hooks have ended, unless the node's are stuck.
func (n *nodes) hooks(ctx context.Context, client *registry.Client, name string, v registry.Value) error {
	n.mu.Lock()
	stuck := n.stuck[name]
	n.mu.Unlock()
	d, err := cluster.DecodeDepartures(v.Data)
	if err != nil || stuck || v.Lost != nil {
		return err
	}
	r := cluster.HooksReport{Name: name}
	for _, one := range d.Hosts {
		r.Ended = append(r.Ended, cluster.EndedHooks{Event: one.Event, Failed: len(one.Event) % 2})
	}
	data, err := r.Encode()
	if err != nil {
		return err
	}
	if err = client.Report(ctx, cluster.HooksReportName, data); errors.Is(err, registry.ErrUnavailable) {
		err = nil
	}
	return err
}

// report is what a node that has done everything says.
func (n *nodes) report(s provider.Spec, i provider.Instance, a *cluster.Assignment) (string, []byte, error) {
	if s.Role.Kind != farmfile.MySQLKind {
		serial := uint64(0)
		if a != nil {
			serial = a.Serial
		}
		data, err := (&cluster.NodeReport{Name: s.Name, State: "running", Well: n.well(s.Role.Image), PID: 7, Serial: serial, Release: n.release(s.Name)}).Encode()
		return cluster.NodeReportName, data, err
	}
	zero := time.Duration(0)
	r := &cluster.Report{
		Name: s.Name, Address: i.Address.String() + ":3306", Flavor: farm.MariaDB, Time: time.Now(), CloneAt: i.Address.String() + ":3308",
		Process: cluster.Running, PID: 8, Answers: true, Empty: true, Lease: true,
	}
	r.Load = map[string]float64{cluster.LoadClients: 0}
	if server, ok := a.Server(s.Name); ok {
		r.Epoch, r.Serial, r.Task, r.Done, r.Empty, r.Intact = a.Epoch, a.Serial, server.Task, true, false, true
		r.Executed, r.Beat, r.SemiSync = "0-1-10", &zero, a.SemiSync
		switch server.Task {
		case cluster.Lead:
			r.Writable = true
			for _, other := range a.Servers {
				if other.Task == cluster.Follow {
					r.Receivers = append(r.Receivers, other.ID)
				}
			}
		case cluster.Follow:
			source, _ := a.Server(server.Source)
			r.Replication = &cluster.Replication{Source: source.Address, Receiver: "Yes", Applier: "Yes", Acknowledges: true}
			if source.Task != cluster.Lead || !n.runs(source.Name) {
				r.Replication.Receiver = "Connecting"
			}
		case cluster.Fence, cluster.Retire:
			r.Process, r.Answers, r.PID = cluster.Absent, false, 0
		}
	}
	data, err := r.Encode()
	return cluster.ReportName, data, err
}
