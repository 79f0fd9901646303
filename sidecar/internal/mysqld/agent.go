package mysqld

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

// Farm is the registry as a node sees it.
type Farm interface {
	// Watch tells the newest value of r until ctx ends. A registry that is lost is
	// told of by Lost, with the last value.
	Watch(ctx context.Context, r registry.Record, tell func(registry.Value) error) error
	// Read returns what a majority of the registry's members agrees on.
	Read(ctx context.Context, r registry.Record) ([]byte, error)
	// Report puts what the node says of itself under a name.
	Report(ctx context.Context, name string, value []byte) error
	// Until is the moment until which the membership is sure; zero for none.
	Until() time.Time
}

// Options are what an agent works with.
type Options struct {
	Name    string // the node's, which is the server's in the assignment
	Cluster string
	Install dbserver.Install
	// Server is how the server runs. Its id comes from the assignment.
	Server dbserver.Config
	// Replication and Monitor are accounts that a new server gets; Replication is
	// followed with, too. Their passwords can be changed later: see [Agent.UsePasswords].
	Replication, Monitor dbserver.Account
	// Application is a statement list that a new primary without any history gets,
	// by the binlog; nil for none.
	Application []string
	Farm        Farm
	// Giving is how data is copied; nil if it cannot be.
	Giving *Giving
	// Load is what the machine has to do, by the names in package cluster; nil if
	// nobody measures it.
	Load func(now time.Time) (map[string]float64, error)
	// Heard is called with every report, by one goroutine; nil for nobody.
	Heard func(*cluster.Report)
	Log   *zap.Logger
}

// Agent makes one server do its part.
type Agent struct {
	o       Options
	record  registry.Record
	dialect dialect
	began   time.Time
	control control
	beat    beat
	history history
	memory  memory
	// accounts begin as the options have them.
	accounts accounts
	open     transactions

	behind   atomic.Int64  // nanoseconds by the heartbeat, 1 at the least; 0 is unknown
	observer atomic.Uint32 // the id of the reporter's connection; 0 for none

	news chan struct{} // one slot: the loop is to look at the picture
	tell chan struct{} // one slot: the reporter is

	mu      sync.Mutex
	picture picture
	// cancel ends what the loop does, unless goesOn accepts the new order.
	cancel  context.CancelCauseFunc
	goesOn  func(*order) bool
	endLead context.CancelFunc
	watches sync.WaitGroup // of the process's end
}

// New returns an agent that does nothing yet.
func New(o Options) (*Agent, error) {
	record, err := registry.ClusterRecord(o.Cluster, cluster.Record)
	if err != nil {
		return nil, err
	}
	d, ok := dialects[o.Install.Flavor]
	if !ok {
		return nil, fmt.Errorf("a %v server is not known", o.Install.Flavor)
	}
	o.Server.ReadOnly, o.Server.Outlives = true, true
	return &Agent{
		o: o, record: record, dialect: d, began: time.Now(), news: make(chan struct{}, 1), tell: make(chan struct{}, 1),
		accounts: accounts{replication: o.Replication, monitor: o.Monitor},
		picture:  picture{process: cluster.Absent, since: time.Now()},
	}, nil
}

// Run carries out what the assignment says until finish ends, then shuts the
// server down, which the end of now cuts short; if finish ended because the farm
// has expelled the node ([registry.ErrDenied]), it kills the server. The directory
// is this process's alone meanwhile.
func (a *Agent) Run(finish, now context.Context) (err error) {
	unlock, err := dbserver.Lock(finish, a.o.Server.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := a.remember(); err != nil {
		return err
	}
	if err := a.findServer(); err != nil {
		return err
	}
	// The reporter and those that it depends on go on until the server is gone.
	group := service.NewGroup(context.WithoutCancel(finish))
	defer a.watches.Wait()
	group.Go("assignment", a.watch)
	group.Go("report", a.report)
	group.Go("heartbeat", a.keepBeating)
	group.Go("lease", a.guard)
	group.Go("history", a.compareHistory)
	if a.o.Giving != nil {
		group.Go("clone", a.keepGiving)
	}
	group.Go("server", func(ctx context.Context) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer context.AfterFunc(finish, func() { cancel(context.Cause(finish)) })()
		a.loop(ctx)
		err := a.shutDown(finish, now)
		group.Stop(errors.New("the server is shut down"))
		cancel(nil)
		return err
	})
	err = group.Wait()
	return errors.Join(err, a.lastReport(now), a.control.close())
}
