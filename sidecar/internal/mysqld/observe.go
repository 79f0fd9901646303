package mysqld

import (
	"context"
	"fmt"
	"maps"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
	"farmhand/sidecar/internal/load"
)

// askLimit bounds the questions for one report: a server that hangs must not hold
// up the reports that say so.
const askLimit = 300 * time.Millisecond

// observer asks the server on a connection of its own. It is for one goroutine.
type observer struct {
	a      *Agent
	server *dbserver.Server
	conn   *mysqladmin.Conn
	facts  facts // of the last answer
	known  bool  // there was one
	// more is what is asked for less often.
	more      more
	askedMore time.Time
	counted   *order // the last one for which the open transactions were counted
	load      *load.Server
	machine   map[string]float64 // what it has to do, and when that was measured
	measured  time.Time
	// received is what the receiver had got when it last got something, and when: not before
	// it was connected, nor before somebody looked (askedAt) who had not for a while.
	received            gtid.Position
	receivedAt, askedAt time.Time
	connected           bool
}

// more is what a report has that no task goes by.
type more struct {
	beat      *time.Duration
	open      int
	receivers []uint32
	load      map[string]float64
}

func (a *Agent) newObserver() *observer {
	return &observer{a: a, load: load.NewServer(dbserver.AdminUser, a.Replication().User, a.Monitor().User)}
}

func (o *observer) close() {
	if o.conn != nil {
		_ = o.conn.Close() // it has only asked
		o.conn = nil
		o.a.observer.Store(0)
	}
}

// report looks at the server. What p says was so before the server was asked.
func (o *observer) report(ctx context.Context, p picture) *cluster.Report {
	now := time.Now()
	r := &cluster.Report{
		Name: o.a.o.Name, Address: o.a.o.Server.Addr(), Flavor: o.a.o.Install.Flavor, Time: now.UTC(),
		Task: p.order.task(), Detail: p.detail, Process: p.process, Empty: p.empty, Broken: p.broken, Lease: now.Before(o.a.o.Farm.Until()),
	}
	if p.order != nil {
		r.Epoch, r.Serial = p.order.assignment.Epoch, p.order.assignment.Serial
	}
	if o.a.o.Giving != nil {
		r.CloneAt = o.a.o.Giving.Listen
	}
	r.Restored, r.RestoreError, r.Aside = p.restored, p.restoreError, p.aside
	if p.restoring != p.order.restore() {
		r.RestoreError = ""
	}
	if k := o.a.memory.kept(); k.CopiedTook > 0 {
		r.Copied = &cluster.Copied{Stored: k.CopiedStored, Bytes: k.CopiedBytes, Took: k.CopiedTook}
	}
	r.Load = maps.Clone(o.measure(now))
	if p.server != nil {
		r.PID = p.server.PID()
		if err := o.ask(ctx, p); err != nil {
			if r.Detail == "" {
				r.Detail = "the server does not answer: " + err.Error()
			}
		} else {
			r.Answers = true
		}
		// It may have ended, or be told something else, while it was asked.
		if after := o.a.look(); after.server != p.server {
			r.PID, r.Process, r.Answers, r.Detail, p = 0, after.process, false, after.detail, after
		}
	}
	o.fill(r, p)
	r.Done = p.done() && shows(r, p)
	return r
}

// fill puts what the server has answered into r.
func (o *observer) fill(r *cluster.Report, p picture) {
	if !o.known {
		return
	}
	f := o.facts
	r.Executed, r.Received = f.executed.String(), f.received.String()
	if p.server == nil {
		return
	}
	r.Writable, r.SemiSync = !f.readOnly, f.semiSync
	r.Errant, r.Missing, r.Intact = o.a.history.get()
	r.Stalled = o.a.beat.stalled(time.Now())
	if c := f.channel; c != nil {
		r.Replication = &cluster.Replication{
			Source: c.Source, Receiver: c.Receiver, Applier: c.Applier, Acknowledges: f.acknowledges,
			ReceiverError: c.ReceiverError.String(), ApplierError: c.ApplierError.String(),
		}
	}
	if o.more.beat != nil {
		o.a.behind.Store(int64(max(1, *o.more.beat)))
	} else {
		o.a.behind.Store(0)
	}
	r.Beat, r.Open, r.Receivers = o.more.beat, o.more.open, o.more.receivers
	maps.Copy(r.Load, o.more.load)
	if !o.receivedAt.IsZero() {
		age := time.Since(o.receivedAt)
		r.ReceivedAge = &age
	}
}

// shows reports whether the facts of a report show that the task is carried out.
func shows(r *cluster.Report, p picture) bool {
	c := r.Replication
	follows := c != nil && c.Source == p.order.source.Address && c.Receiver == "Yes" && c.Applier == "Yes" && c.Acknowledges == p.order.part.Acknowledges
	switch r.Task {
	case cluster.Fence, cluster.Retire:
		return p.server == nil
	case cluster.Lead:
		return r.Answers && r.Writable && c == nil && r.SemiSync == p.order.assignment.SemiSync
	case cluster.Yield:
		return r.Answers && !r.Writable && (c == nil || c.Receiver == "No")
	case cluster.Hold:
		return r.Answers && !r.Writable && (c == nil || c.Receiver == "No" && c.Applier == "Yes")
	case cluster.Follow, cluster.Clone:
		return r.Answers && !r.Writable && follows
	}
	return false
}

// ask asks the server what a report needs.
func (o *observer) ask(ctx context.Context, p picture) error {
	ctx, cancel := context.WithTimeoutCause(ctx, askLimit, fmt.Errorf("no answer within %v", askLimit))
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()
	if o.server != p.server {
		o.close()
		o.server, o.known, o.askedMore, o.receivedAt, o.more = p.server, false, time.Time{}, time.Time{}, more{}
	}
	if o.conn == nil {
		conn, err := dial(ctx, p.server)
		if err != nil {
			return err
		}
		o.conn = conn
		o.a.observer.Store(conn.ID())
	}
	f, err := o.a.dialect.facts(ctx, o.conn)
	if err == nil {
		o.facts, o.known = f, true
		o.arrived(f, time.Now())
		if f.lost && o.a.history.setIntact(false) {
			err = o.a.memory.keep(func(k *kept) { k.IntactPID = 0 })
		}
	}
	if err == nil && handing(p.order) && (p.order != o.counted || o.a.open.fresh()) {
		// What was counted before the proxies were told says nothing.
		if _, o.more.open, err = o.a.open.count(ctx, o.conn, o.a.dialect); err == nil {
			o.counted = p.order
		}
	}
	if err == nil && time.Since(o.askedMore) >= reportEvery-reportOften {
		o.askedMore = time.Now()
		err = o.askMore(ctx, p)
	}
	if err != nil {
		// Whatever it was: the next question is on a connection that nothing has
		// happened to.
		o.close()
	}
	return err
}

// measure returns what the machine has to do. What could be measured is good.
func (o *observer) measure(now time.Time) map[string]float64 {
	if o.a.o.Load != nil && now.Sub(o.measured) >= reportEvery-reportOften {
		o.machine, _ = o.a.o.Load(now)
		o.measured = now
	}
	if o.machine == nil {
		o.machine = map[string]float64{}
	}
	return o.machine
}

// unlooked is for how long a receiver may not have been looked at, of which it is said that it
// has got nothing meanwhile: the node may have stood still, and it with it.
const unlooked = 1500 * time.Millisecond

// arrived notes when the receiver has got something new.
func (o *observer) arrived(f facts, now time.Time) {
	connected := f.channel != nil && f.channel.Receiver == "Yes"
	switch {
	case f.channel == nil:
		o.receivedAt = time.Time{}
	case o.receivedAt.IsZero(), connected && !o.connected, now.Sub(o.askedAt) > unlooked, !o.received.Contains(f.received):
		o.receivedAt, o.received = now, f.received
	}
	o.askedAt, o.connected = now, connected
}

// handing reports whether a handover from this server waits for the transactions to end.
func handing(o *order) bool {
	return o != nil && o.heard && o.assignment.Phase == cluster.Handing && o.part.Task == cluster.Lead
}

func (o *observer) askMore(ctx context.Context, p picture) error {
	m := more{open: o.more.open}
	if rows, err := o.conn.Query(ctx, readHeartbeat); err == nil && len(rows) == 1 {
		if age, ok := rows[0].Int("age"); ok {
			beat := time.Duration(age) * time.Microsecond
			m.beat = &beat
		}
	} else if err != nil && mysqladmin.Code(err) == 0 {
		return err
	}
	if !handing(p.order) {
		_, idle, err := o.a.open.count(ctx, o.conn, o.a.dialect)
		if err != nil {
			return err
		}
		m.open = idle
	}
	rows, err := o.conn.Query(ctx, o.a.dialect.receivers)
	if err != nil {
		return err
	}
	m.receivers = ids(rows, o.a.dialect.serverID)
	// What could be measured is good.
	if m.load, err = o.load.Sample(ctx, time.Now(), o.conn); err != nil && mysqladmin.Code(err) == 0 {
		return err
	}
	o.more = m
	return nil
}
