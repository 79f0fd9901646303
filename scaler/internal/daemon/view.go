package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/steer"
)

// View is what the scaler that leads sees and thinks, for people.
type View struct {
	Time   time.Time `json:"time"`
	Term   int64     `json:"term"`
	Leader string    `json:"leader"`
	Farm   string    `json:"farm"`
	// Cluster is the name of the database cluster; empty if the farm has none.
	Cluster string `json:"cluster,omitempty"`
	Paused  string `json:"paused,omitempty"` // why; empty if it is not
	// Assignment is the cluster's; nil before the first.
	Assignment *cluster.Assignment `json:"assignment,omitempty"`
	// Automatic says that a lost primary is replaced without a person, Lossless that
	// writes wait for as long as no replica acknowledges them.
	Automatic bool        `json:"automatic"`
	Lossless  bool        `json:"lossless"`
	Probe     steer.Probe `json:"probe"`
	// Nodes are the farm's instances, by name.
	Nodes []NodeView `json:"nodes"`
	// Reasons are what was thought of the database cluster in the last step.
	Reasons []string            `json:"reasons"`
	Roles   map[string]RoleView `json:"roles"`
	// Backups are the cluster's; nil if none are wanted.
	Backups *BackupsView `json:"backups,omitempty"`
	// Doing is what takes time just now, by the instance's name.
	Doing map[string]string `json:"doing,omitempty"`
}

// NodeView is one instance.
type NodeView struct {
	provider.Instance
	Member bool `json:"member"`
	// Age is how old its last report is, in seconds; nil if there was none, or
	// nobody knows.
	Age *float64 `json:"age_seconds,omitempty"`
	// Database is a database server's last report, Report any other node's.
	Database *cluster.Report     `json:"database,omitempty"`
	Report   *cluster.NodeReport `json:"report,omitempty"`
	Leaving  string              `json:"leaving,omitempty"` // why it is to go; empty if it is not
	Step     string              `json:"step,omitempty"`    // how far it is with that
	Lost     string              `json:"lost,omitempty"`    // why it was given up; empty if it was not
	// Drift is what it runs by that the farm file has otherwise by now, for people.
	Drift []string `json:"drift,omitempty"`
	// Size is what it counts as for the size of its role.
	Size string `json:"counts_as"`
}

// RoleView is the size of a role.
type RoleView struct {
	Kind   farmfile.RoleKind `json:"kind"`
	Min    int               `json:"min"`
	Max    int               `json:"max"`
	Pinned int               `json:"pinned,omitempty"` // what a person asked for; 0 for what the file says
	Wanted int               `json:"wanted"`
	Live   int               `json:"live"`
	// Outdated are the instances in whose place others would have to come for what the
	// farm file says by now, and OutdatedKeys the keys for which.
	Outdated     []string `json:"outdated,omitempty"`
	OutdatedKeys []string `json:"outdated_keys,omitempty"`
	// Held is why what was decided is not done now.
	Held    string `json:"held,omitempty"`
	Failure string `json:"failure,omitempty"` // of the last launch
	// Release is the version of its site's code that is in force; empty if there is none.
	Release string          `json:"release,omitempty"`
	Reasons []decide.Reason `json:"reasons"`
	// Targets are its servers in the provider's load balancers, and Unbalanced why these
	// could not be made what they are to be.
	Targets    []provider.Target `json:"targets,omitempty"`
	Unbalanced string            `json:"unbalanced,omitempty"`
}

// Viewed returns what the scaler that leads has shown last; nil if none ever has.
func Viewed(ctx context.Context, client *registry.Client) (*View, error) {
	data, err := client.Read(ctx, records.view)
	if err != nil || data == nil {
		return nil, err
	}
	v := &View{}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("what the scaler has shown cannot be read: %w", err)
	}
	return v, nil
}

// WatchView tells what the scaler that leads shows, and then again at every change.
func WatchView(ctx context.Context, client *registry.Client, tell func(v *View, lost error) error) error {
	return client.Watch(ctx, records.view, func(value registry.Value) error {
		if value.Data == nil {
			return tell(nil, value.Lost)
		}
		v := &View{}
		if err := json.Unmarshal(value.Data, v); err != nil {
			return fmt.Errorf("what the scaler has shown cannot be read: %w", err)
		}
		return tell(v, value.Lost)
	})
}

// show has written what is seen and thought, now and then and when the assignment is
// another one.
func (l *leader) show(m *moment, atOnce bool) error {
	serial := uint64(0)
	if m.assignment != nil {
		serial = m.assignment.Serial
	}
	if !atOnce && serial == l.shownSerial && m.now.Sub(l.shown) < viewPace {
		return nil
	}
	l.shown, l.shownSerial = m.now, serial
	policy := steerPolicy(l.farm, l.database)
	v := View{
		Time: m.now.UTC(), Term: l.term.Number, Leader: l.term.Leader, Farm: l.farm.Name, Cluster: l.database, Paused: l.memory.Paused,
		Assignment: m.assignment, Automatic: policy.Automatic, Lossless: policy.Lossless, Probe: l.prober.result(),
		Nodes: []NodeView{}, Reasons: l.reasons, Roles: map[string]RoleView{}, Backups: l.viewBackups(m), Doing: l.errands.doing(),
	}
	for role, r := range l.roles {
		is := l.balancing.of(role)
		r.Targets, r.Unbalanced = is.targets, is.failure
		v.Roles[role] = r
	}
	for role, r := range l.memory.Releases {
		if of, known := v.Roles[role]; known {
			of.Release = r.Current
			v.Roles[role] = of
		}
	}
	for _, i := range l.instances {
		n := NodeView{Instance: i, Size: l.countsAs(i)}
		_, n.Member = m.members[i.Name]
		if s, _, ok := l.known(i.Name); ok {
			n.Lost = s.Why
			if s.Leaving != nil {
				n.Leaving, n.Step = s.Leaving.Why, l.leavingText(m, i.Name)
			}
		}
		for at, c := range l.drift(i) {
			if at == maxChangesText {
				n.Drift = append(n.Drift, "and more")
				break
			}
			n.Drift = append(n.Drift, c.String())
		}
		age := longAgo
		if r, old := m.report(i.Name); r != nil {
			short := *r
			short.Load = nil // what a metric is made of; there is little room here
			n.Database, age = &short, old
		}
		if node, ok := m.nodes[i.Name]; ok {
			short := *node.report
			short.Load = nil
			n.Report, age = &short, node.age(m.now)
		}
		if age < longAgo {
			seconds := age.Seconds()
			n.Age = &seconds
		}
		v.Nodes = append(v.Nodes, n)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("show what is seen: %w", err)
	}
	l.notices.show(data)
	return nil
}
