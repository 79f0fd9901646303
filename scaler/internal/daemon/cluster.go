package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/steer"
)

// databaseAddress is where an instance's database server is.
func databaseAddress(f *farmfile.Farm, i provider.Instance) string {
	m := f.Roles[i.RoleName].Parameters.MySQL
	if m == nil {
		return ""
	}
	return netip.AddrPortFrom(i.Address, uint16(m.Port)).String()
}

// steerPolicy is what the farm file says about the database's primary.
func steerPolicy(f *farmfile.Farm, database string) steer.Policy {
	p := steer.DefaultPolicy()
	v := f.Policies.Failover
	p.Automatic, p.Failures, p.MinReplicas = v.Mode == farmfile.Automatic, v.Failures, v.MinReplicas
	p.Deadline, p.Quiet = time.Duration(v.Deadline), time.Duration(v.Quiet)
	if m := f.Roles[database].Parameters.MySQL; m != nil {
		p.Lossless, p.AvailableAfter = m.Durability == farmfile.Lossless, time.Duration(m.AvailableAfter)
		if r := m.RestoreFrom; r.Store != "" {
			p.Begin = &cluster.Restore{
				ID: "beginning", Store: r.Store, Cluster: r.Cluster, To: targetOf(r.To), Backup: r.Backup, IdentityFile: r.IdentityFile,
			}
		}
	}
	return p
}

// targetOf is a moment as an assignment has it.
func targetOf(to string) string {
	if to == "latest" {
		return ""
	}
	return to
}

// steer has the next assignment of the database cluster made, and writes it.
func (l *leader) steer(ctx context.Context, m *moment) error {
	if l.database == "" {
		return nil
	}
	if l.uncertain {
		// Written or not: what stands there decides how it goes on.
		data, err := l.client.Read(ctx, l.assignment)
		if err != nil {
			return err
		}
		var a *cluster.Assignment
		if data != nil {
			if a, err = cluster.Decode(data); err != nil {
				return err
			}
		}
		l.world.wrote(a)
		m.assignment, l.uncertain = a, false
	}
	l.aim(m.assignment)
	request, operation := l.request(m)
	if operation != nil && request == nil {
		if err := l.answer(ctx, m, *operation, refused("the farm file has no store for backups (backups.store)")); err != nil {
			return err
		}
		operation = nil
	}
	if operation != nil {
		if a, over := l.overtaken(m, operation); over {
			if err := l.answer(ctx, m, *operation, a); err != nil {
				return err
			}
			request, operation = nil, nil
		}
	}
	step := steer.Next(l.view(m, request), steerPolicy(l.farm, l.database), m.now)
	if a := m.assignment; a != nil && a.Phase != cluster.Steady && step.Assignment == nil && !slices.Equal(step.Reasons, l.reasons) {
		l.log.Info("change of primary waits", zap.String("phase", string(a.Phase)), zap.Duration("for", m.now.Sub(a.Since)), zap.Strings("reasons", step.Reasons))
	}
	l.reasons = step.Reasons
	if step.Assignment != nil {
		if err := l.assign(ctx, m.assignment, step); err != nil {
			return err
		}
		m.assignment = step.Assignment
		l.aim(step.Assignment)
		// What was decided shows in the next reports, or makes the next step possible now.
		poke(l.wake)
	}
	if operation != nil {
		return l.answer(ctx, m, *operation, answer{done: step.Answer.Done, refused: step.Answer.Refused, text: step.Answer.Text})
	}
	return nil
}

// aim has the prober look at the server that leads.
func (l *leader) aim(a *cluster.Assignment) {
	server, _ := a.Leader()
	l.prober.aim(server.Address)
}

// view is the farm as steer is to see it.
func (l *leader) view(m *moment, request *steer.Request) steer.View {
	v := steer.View{
		Term: l.term.Number, Assignment: m.assignment, Servers: map[string]steer.Seen{},
		Probe: l.prober.result(), Paused: l.memory.Paused != "", Request: request, Stored: l.stored(m),
	}
	for _, i := range l.instances {
		switch i.Kind {
		case farmfile.MySQLKind:
			report, age := m.report(i.Name)
			_, member := m.members[i.Name]
			v.Servers[i.Name] = steer.Seen{Address: l.address(i), Report: report, Age: age, Member: member, Leave: l.leaves(i.Name), Inherits: i.Inherits}
		case farmfile.WebKind:
			if node, ok := m.nodes[i.Name]; ok {
				v.Webs = append(v.Webs, steer.Web{Name: i.Name, Serial: node.report.Serial, Age: node.age(m.now)})
			}
		}
	}
	// The cluster begins once all that are to be there are: what is launched just now
	// may have data, for all that is known.
	if m.assignment == nil && l.launching(l.database) > 0 {
		v.Servers = nil
	}
	return v
}

// assign writes the step's assignment under the term, with its epoch.
func (l *leader) assign(ctx context.Context, was *cluster.Assignment, step steer.Step) error {
	next := step.Assignment
	value, err := next.Encode()
	if err != nil {
		return err
	}
	var from farm.Epoch
	if was != nil {
		from = was.Epoch
	}
	err = l.client.WriteInEpoch(ctx, l.term, l.database, from, next.Epoch, l.assignment, value)
	var moved *registry.EpochMovedError
	switch {
	case errors.Is(err, registry.ErrDeposed), errors.As(err, &moved):
		l.uncertain = true
		return err
	case err != nil:
		l.uncertain = true
		l.log.Warn("assignment may be written or not", zap.Uint64("serial", next.Serial), zap.Error(err))
		return err
	}
	l.world.wrote(next)
	l.log.Info("assignment written", zap.String("why", next.Why), zap.Uint64("epoch", uint64(next.Epoch)),
		zap.Uint64("serial", next.Serial), zap.String("phase", string(next.Phase)), zap.String("primary", next.Primary))
	fields := map[string]string{
		"cluster": l.database, "epoch": strconv.FormatUint(uint64(next.Epoch), 10), "serial": strconv.FormatUint(next.Serial, 10),
		"phase": string(next.Phase), "primary": next.Primary, "term": strconv.FormatInt(l.term.Number, 10),
	}
	if step.Minor {
		fields[registry.Minor] = "true"
	}
	l.journal.put(registry.Entry{Kind: registry.Decision, Text: next.Why, Fields: fields})
	for _, e := range step.Events {
		l.event(e)
	}
	return nil
}

// event puts what a decision about the cluster means for a host into the journal.
func (l *leader) event(e farm.Event) {
	fields := cloned(e.Fields)
	fields["host"], fields["role"], fields["address"] = e.Host.Name, e.Host.Role, e.Host.Address
	l.journal.put(registry.Entry{Time: e.Time, Kind: string(e.Kind), Text: e.Sentence(), Fields: fields})
}

// steerKinds are the operations that steer carries out.
var steerKinds = []string{string(steer.Switchover), string(steer.Failover), string(steer.Ack), string(steer.Adopt), string(steer.Restore), string(steer.Confirm)}

// request returns what a person asks of the database cluster, the oldest first.
func (l *leader) request(m *moment) (*steer.Request, *registry.Operation) {
	o, ok := m.operation(func(o registry.Operation) bool { return slices.Contains(steerKinds, o.Kind) })
	if !ok {
		return nil, nil
	}
	r := &steer.Request{
		Kind: steer.Kind(o.Kind), To: o.Args["to"], Force: o.Args["force"] == "true", AllowLoss: o.Args["allow_loss"] == "true",
	}
	if r.Kind == steer.Restore {
		policy := l.farm.Safekeeping()
		if policy.Store == "" {
			return nil, &o
		}
		r.Restore = &cluster.Restore{
			ID: o.Asked.UTC().Format("20060102T150405Z") + "-" + o.ID, Store: policy.Store, Cluster: l.database,
			To: targetOf(o.Args["to"]), Backup: o.Args["backup"], IdentityFile: policy.IdentityFile, Over: true,
		}
		r.To = ""
	}
	return r, &o
}

// requestLimit is how long a change of primary that a person asked for may wait to
// be begun: later it would come as a surprise.
const requestLimit = 2 * time.Minute

// overtaken ends a request that is not to be begun any more: its time is over, or
// the leader before this one has begun it, and it may be done.
func (l *leader) overtaken(m *moment, o *registry.Operation) (answer, bool) {
	if m.assignment == nil || m.assignment.Phase != cluster.Steady || o.Kind != string(steer.Switchover) && o.Kind != string(steer.Failover) {
		return answer{}, false
	}
	_, ours := l.answered[o.ID]
	switch to := o.Args["to"]; {
	case o.State == registry.OperationRunning && !ours && to != "" && to == m.assignment.Primary:
		return finished("%s is the primary", to), true
	case o.State == registry.OperationRunning && !ours:
		return refused("another scaler leads now, and nothing goes on; %s is the primary; ask again if that is not what was wanted", m.assignment.Primary), true
	case m.now.Sub(o.Asked) > requestLimit:
		return refused("it could not be begun within %v", requestLimit), true
	}
	return answer{}, false
}
