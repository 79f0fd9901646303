package backupagent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/backup"
	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/objects"
	"farmhand/internal/registry"
	"farmhand/internal/service"
	take "farmhand/sidecar/internal/backup"
	"farmhand/sidecar/internal/drill"
)

// Farm is the registry as a node sees it.
type Farm interface {
	Watch(ctx context.Context, r registry.Record, tell func(registry.Value) error) error
	Report(ctx context.Context, name string, value []byte) error
}

// Options are what an agent works with.
type Options struct {
	Name    string // the node's
	Cluster string
	Install dbserver.Install
	Server  dbserver.Config
	// Replication is the account that the binlog is read with, as it is at that time.
	Replication func() dbserver.Account
	Farm        Farm
	// Event puts an event before the hooks and into the journal.
	Event func(farm.Event) error
	// NewEventID makes the names of events.
	NewEventID func() string
	// Drill makes a restore drill: drill.Run.
	Drill func(context.Context, drill.Config) (drill.Proof, error)
	// Scratch is the directory that a drill may make and remove.
	Scratch string
	Log     *zap.Logger
}

// Agent carries out a plan.
type Agent struct {
	o    Options
	tell chan struct{} // one slot: there is something to report
	news chan struct{} // one slot: the plan or the assignment is another one

	mu         sync.Mutex
	plan       *cluster.BackupPlan
	assignment *cluster.Assignment
	archive    *cluster.ArchiveReport
	until      time.Time // before which all commits are stored; zero is unknown
	full       *cluster.FullReport
	drill      *cluster.DrillReport
}

// New returns an agent that does nothing yet.
func New(o Options) *Agent {
	return &Agent{o: o, tell: make(chan struct{}, 1), news: make(chan struct{}, 1)}
}

// Run carries out the plan until ctx ends. What is under way then is given up.
func (a *Agent) Run(ctx context.Context) error {
	plans, err := registry.ClusterRecord(a.o.Cluster, cluster.BackupsRecord)
	if err != nil {
		return err
	}
	assignments, err := registry.ClusterRecord(a.o.Cluster, cluster.Record)
	if err != nil {
		return err
	}
	group := service.NewGroup(ctx)
	group.Go("plan of backups", func(ctx context.Context) error {
		return a.o.Farm.Watch(ctx, plans, func(v registry.Value) error {
			if v.Lost != nil {
				return nil // what was known is kept
			}
			plan, err := cluster.DecodeBackupPlan(v.Data)
			if err != nil {
				a.o.Log.Error("plan of backups not taken; the one before is kept", zap.Error(err))
				return nil
			}
			a.change(func() { a.plan = plan })
			return nil
		})
	})
	group.Go("assignment for backups", func(ctx context.Context) error {
		return a.o.Farm.Watch(ctx, assignments, func(v registry.Value) error {
			if v.Lost != nil || v.Data == nil {
				return nil
			}
			assignment, err := cluster.Decode(v.Data)
			if err != nil {
				return nil // who runs the server says so
			}
			a.change(func() { a.assignment = assignment })
			return nil
		})
	})
	group.Go("backup report", a.report)
	group.Go("backups", a.loop)
	return group.Wait()
}

func poke(slot chan struct{}) {
	select {
	case slot <- struct{}{}:
	default:
	}
}

// change changes what is to be done.
func (a *Agent) change(f func()) {
	a.mu.Lock()
	f()
	a.mu.Unlock()
	poke(a.news)
	poke(a.tell)
}

// note changes what is reported.
func (a *Agent) note(f func()) {
	a.mu.Lock()
	f()
	a.mu.Unlock()
	poke(a.tell)
}

// job is something that goes on beside the loop.
type job struct {
	key    string // what it is; another one ends it
	cancel context.CancelCauseFunc
	done   chan struct{}
}

// errNotWanted is why a job ends whose task is not in the plan any more.
var errNotWanted = errors.New("it is not wanted any more")

// loop keeps what goes on to what is to be done.
func (a *Agent) loop(ctx context.Context) error {
	jobs := map[string]*job{}
	stop := func(kind string, cause error) {
		if j := jobs[kind]; j != nil {
			j.cancel(cause)
			<-j.done
			delete(jobs, kind)
		}
	}
	defer func() {
		for kind := range jobs {
			stop(kind, context.Cause(ctx))
		}
	}()
	a.clear(ctx)
	for {
		for kind, w := range a.wanted() {
			if j := jobs[kind]; j != nil && j.key != w.key {
				stop(kind, errNotWanted)
			}
			if w.key == "" || jobs[kind] != nil {
				continue
			}
			jctx, cancel := context.WithCancelCause(ctx)
			j := &job{key: w.key, cancel: cancel, done: make(chan struct{})}
			jobs[kind] = j
			go func() {
				defer close(j.done)
				defer cancel(nil)
				w.do(jctx)
			}()
		}
		select {
		case <-a.news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// clearLimit bounds the removal of what a process has left that was killed.
const clearLimit = 30 * time.Second

// clear removes what a killed process has left of a backup beside the server's data. Where
// that cannot be, the next backup does it.
func (a *Agent) clear(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, clearLimit)
	defer cancel()
	if err := take.Clear(limited, a.o.Install, a.o.Server); err != nil && ctx.Err() == nil {
		a.o.Log.Error("what was left of a full backup is not removed", zap.Error(err))
	}
}

// work is what a job does; an empty key is nothing.
type work struct {
	key string
	do  func(context.Context)
}

// wanted is what is to be done now, by the kind of job.
func (a *Agent) wanted() map[string]work {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := map[string]work{"archive": {}, "full": {}, "drill": {}}
	p := a.plan
	if p == nil || a.assignment == nil {
		return w
	}
	settings := fmt.Sprint(p.Store, p.EncryptTo)
	leader, leads := a.assignment.Leader()
	if t := p.Archive; t != nil && t.Node == a.o.Name && leads && leader.Name == t.Node && a.assignment.Epoch == t.Epoch {
		base := a.assignment.Base
		w["archive"] = work{
			key: fmt.Sprint(settings, t.Epoch, leader.ID, p.Every, p.Size),
			do:  func(ctx context.Context) { a.keepArchiving(ctx, p, t.Epoch, leader.ID, base) },
		}
	}
	epoch := a.assignment.Epoch
	if t := p.Full; t != nil && t.Node == a.o.Name {
		w["full"] = work{key: settings + t.ID, do: func(ctx context.Context) { a.takeFull(ctx, p, *t, epoch) }}
	}
	if t := p.Drill; t != nil && t.Node == a.o.Name {
		w["drill"] = work{key: settings + t.ID, do: func(ctx context.Context) { a.makeDrill(ctx, p, *t) }}
	}
	return w
}

// open opens the plan's store.
func open(ctx context.Context, p *cluster.BackupPlan) (objects.Store, []backup.Recipient, error) {
	c, err := objects.ParseURL(p.Store)
	if err != nil {
		return nil, nil, err
	}
	var to []backup.Recipient
	for _, key := range p.EncryptTo {
		some, err := backup.ParseRecipients(key)
		if err != nil {
			return nil, nil, err
		}
		to = append(to, some...)
	}
	store, err := objects.Open(ctx, c)
	return store, to, err
}

// reportEvery is how often is reported while there is something to do with backups.
const reportEvery = time.Second

// reportAtMost is the pause between two reports at least.
const reportAtMost = 200 * time.Millisecond

// report reports every second, and at every change, while there is a plan.
func (a *Agent) report(ctx context.Context) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		if r := a.reported(time.Now()); r != nil {
			data, err := r.Encode()
			if err == nil {
				err = a.o.Farm.Report(ctx, cluster.BackupReportName, data)
			}
			if err != nil && ctx.Err() == nil {
				a.o.Log.Debug("backups not reported", zap.Error(err)) // the next one is a second away
			}
		}
		pause := time.NewTimer(reportAtMost)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
		select {
		case <-a.tell:
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (a *Agent) reported(now time.Time) *cluster.BackupReport {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.plan == nil {
		return nil
	}
	r := &cluster.BackupReport{Name: a.o.Name, Time: now.UTC(), Serial: a.plan.Serial}
	if a.archive != nil {
		archive := *a.archive
		if !a.until.IsZero() {
			age := max(0, now.Sub(a.until))
			archive.Unstored = &age
		}
		r.Archive = &archive
	}
	if a.full != nil {
		full := *a.full
		r.Full = &full
	}
	if a.drill != nil {
		made := *a.drill
		r.Drill = &made
	}
	return r
}

// event tells of the node's own server.
func (a *Agent) event(kind farm.EventKind, fields map[string]string) {
	a.mu.Lock()
	role := farm.Replica
	if leader, ok := a.assignment.Leader(); ok && leader.Name == a.o.Name {
		role = farm.Primary
	}
	a.mu.Unlock()
	for name, value := range fields {
		fields[name] = value[:min(len(value), farm.MaxEventFieldValue)]
	}
	e := farm.Event{
		ID: a.o.NewEventID(), Kind: kind, Time: time.Now().UTC(),
		Host: farm.EventHost{Name: a.o.Name, Role: string(role), Address: a.o.Server.Addr()}, Fields: fields,
	}
	if err := a.o.Event(e); err != nil {
		a.o.Log.Error("the hooks cannot be told of a backup", zap.String("kind", string(kind)), zap.Error(err))
	}
}
