package daemon

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

// rotation is a change of the passwords of the farm's own accounts: replication and the
// monitor's. It is kept in the registry where control nodes alone read it, before
// anything is done by it, so that another leader goes on with the same passwords.
type rotation struct {
	ID    string               `json:"id"` // the operation's
	Step  cluster.PasswordStep `json:"step"`
	Since time.Time            `json:"since"` // of the step, by the clock of the leader that began it
	// Old and New are the passwords by account; empty once all is done.
	Old   map[string]string `json:"old,omitempty"`
	New   map[string]string `json:"new,omitempty"`
	Ended bool              `json:"ended,omitempty"`
}

// String keeps the passwords from being printed.
func (rotation) String() string { return "a change of passwords" }

// GoString is String for %#v.
func (r rotation) GoString() string { return r.String() }

// readRotation goes on with what the leader before has begun.
func (l *leader) readRotation(ctx context.Context) error {
	data, err := l.client.Read(ctx, records.rotation)
	if err != nil || data == nil {
		return err
	}
	r := &rotation{}
	if json.Unmarshal(data, r) != nil {
		return errors.New("the last change of passwords in the registry cannot be read") // without the text
	}
	l.rotation, l.rotated = r, data
	return nil
}

// startRotation is asked by a person.
func (l *leader) startRotation(m *moment, o registry.Operation, _ bool) answer {
	r := l.rotation
	switch {
	case r != nil && r.ID == o.ID && r.Ended:
		return finished("replication and the monitor have new passwords, and no server accepts the old ones")
	case r != nil && r.ID == o.ID:
		return waits("%s", l.rotationText(m))
	case r != nil && !r.Ended:
		return refused("the passwords are being changed already, by operation %s", r.ID)
	case l.database == "":
		return refused("the farm has no database, and so no account of its own")
	case l.memory.Paused != "":
		return refused("the farm is paused: %s", l.memory.Paused)
	}
	old, err := l.keeping.Passwords()
	if err != nil || !old.Whole() {
		return refused("the passwords that there are cannot be read here: %v", err)
	}
	l.rotation = &rotation{
		ID: o.ID, Step: cluster.AcceptBoth, Since: m.now.UTC(),
		Old: map[string]string{cluster.ReplicationPassword: old.Replication, cluster.MonitorPassword: old.Monitor},
		New: map[string]string{cluster.ReplicationPassword: rand.Text(), cluster.MonitorPassword: rand.Text()},
	}
	return waits("the servers are to accept new passwords beside the old ones")
}

// rotate goes on with a change of passwords. Each step is on record before anybody is
// told of it, and ends when all have said that they have done it.
func (l *leader) rotate(ctx context.Context, m *moment) error {
	r := l.rotation
	if r == nil || r.Ended {
		return nil
	}
	if err := l.keepRotation(ctx); err != nil {
		return err
	}
	if r.Step.Reached(cluster.UseNew) {
		if err := l.useRotated(); err != nil {
			return err
		}
	}
	if err := l.orderPasswords(ctx, m); err != nil {
		return err
	}
	if len(l.unrotated(m)) > 0 {
		return nil
	}
	next := *r
	next.Since = m.now.UTC()
	text := ""
	switch r.Step {
	case cluster.AcceptBoth:
		next.Step, text = cluster.UseNew, "all servers accept the new passwords of replication and the monitor beside the old ones: they are used from now on"
	case cluster.UseNew:
		next.Step, text = cluster.AcceptNew, "everybody uses the new passwords of replication and the monitor: the old ones are to be refused"
	case cluster.AcceptNew:
		next.Step, text = cluster.Changed, "no server accepts the old passwords of replication and the monitor any more"
	case cluster.Changed: // every node has an order without the old ones
		next.Old, next.New, next.Ended = nil, nil, true
	}
	l.rotation = &next
	if text != "" {
		l.journal.put(registry.Entry{Kind: registry.Decision, Text: text, Fields: map[string]string{"operation": r.ID}})
	}
	poke(l.wake)
	return l.keepRotation(ctx)
}

// keepRotation writes how far it is under the term, and, with the step in which nodes are
// told to use the new passwords, has nodes that join get these.
func (l *leader) keepRotation(ctx context.Context) error {
	data, err := json.Marshal(l.rotation)
	if err != nil {
		return fmt.Errorf("keep a change of passwords: %w", err)
	}
	if string(data) == string(l.rotated) {
		return nil
	}
	values := map[registry.Record][]byte{records.rotation: data}
	if l.rotation.Step == cluster.UseNew {
		p, err := l.newPasswords()
		if err != nil {
			return err
		}
		if values[records.passwords], err = json.Marshal(p); err != nil {
			return fmt.Errorf("keep a change of passwords: %w", err)
		}
	}
	if err := l.client.WriteAll(ctx, l.term, values); err != nil {
		return err
	}
	l.rotated = data
	return nil
}

// newPasswords are all of the farm's after the change.
func (l *leader) newPasswords() (provider.Passwords, error) {
	p, err := l.keeping.Passwords()
	if err != nil {
		return p, err
	}
	p.Replication, p.Monitor = l.rotation.New[cluster.ReplicationPassword], l.rotation.New[cluster.MonitorPassword]
	return p, nil
}

// useRotated has this control node use the new passwords.
func (l *leader) useRotated() error {
	p, err := l.newPasswords()
	if err != nil {
		return err
	}
	l.prober.use(Account{User: provider.MonitorUser, Password: p.Monitor})
	return l.keeping.KeepPasswords(p)
}

// passwordNodes are those that have the farm's passwords: all instances, and nodes that
// somebody else has made. Also one that is not heard of: it may serve clients.
func (l *leader) passwordNodes(m *moment) []string {
	all := map[string]bool{}
	for _, i := range l.instances {
		if i.State != provider.Terminating {
			all[i.Name] = true
		}
	}
	for name := range m.members {
		all[name] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// holdsData reports whether a node is a database server of the cluster.
func (l *leader) holdsData(m *moment, name string) bool {
	if i, there := l.instance(name); there {
		return i.Kind == farmfile.MySQLKind
	}
	_, assigned := m.assignment.Server(name)
	return assigned
}

// orderPasswords tells each node the step, once; also those that have joined and do not
// run.
func (l *leader) orderPasswords(ctx context.Context, m *moment) error {
	r := l.rotation
	names := l.passwordNodes(m)
	joined, err := l.client.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range joined {
		if n.Expelled.IsZero() {
			names = append(names, n.Name)
		}
	}
	for _, name := range names {
		data := l.holdsData(m, name)
		if l.ordered[name] == r.Step || !data && r.Step == cluster.AcceptBoth {
			continue
		}
		order := &cluster.Passwords{ID: r.ID, Step: r.Step, New: map[string]string{cluster.MonitorPassword: r.New[cluster.MonitorPassword]}}
		if data {
			order.New = r.New
			if r.Step != cluster.Changed {
				order.Old = r.Old
			}
		}
		value, err := order.Encode()
		if err != nil {
			return err
		}
		record, err := registry.Order(name, cluster.PasswordsOrder)
		if err != nil {
			return err
		}
		if err := l.client.Write(ctx, l.term, record, value); err != nil {
			return err
		}
		l.ordered[name] = r.Step
	}
	return nil
}

// unrotated are the nodes for which the step waits, and why. Servers that accept are only
// those that run: the others get their data, with the accounts in it, from the primary.
func (l *leader) unrotated(m *moment) map[string]string {
	waiting := map[string]string{}
	r := l.rotation
	if r.Step == cluster.Changed {
		return waiting // nobody has to have heard of it
	}
	for _, name := range l.passwordNodes(m) {
		data := l.holdsData(m, name)
		if r.Step != cluster.UseNew && (!data || l.down(m, name)) {
			continue
		}
		report := m.passwords[name]
		switch {
		case report == nil || report.ID != r.ID:
			waiting[name] = "it has not said anything"
		case report.Step == "" || !report.Step.Reached(r.Step):
			waiting[name] = report.Why
		}
	}
	if leader, ok := m.assignment.Leader(); r.Step != cluster.UseNew && (!ok || l.down(m, leader.Name)) {
		waiting["the primary"] = "it is away"
	}
	return waiting
}

// down reports whether a database server has just said that its process does not run.
func (l *leader) down(m *moment, name string) bool {
	r, age := m.report(name)
	return r != nil && age < silent && r.Process != cluster.Running
}

// rotationText is how far it is, for people.
func (l *leader) rotationText(m *moment) string {
	texts := map[cluster.PasswordStep]string{
		cluster.AcceptBoth: "the servers are to accept new passwords beside the old ones",
		cluster.UseNew:     "everybody is to use the new passwords; the servers accept both",
		cluster.AcceptNew:  "the servers are to refuse the old passwords",
		cluster.Changed:    "nodes that were away are told the new passwords",
	}
	text := texts[l.rotation.Step]
	waiting := l.unrotated(m)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(waiting)) {
		list = append(list, strings.TrimSuffix(name+": "+waiting[name], ": "))
	}
	if len(list) > 0 {
		text += "; waiting for " + strings.Join(list, "; ")
	}
	return text
}
