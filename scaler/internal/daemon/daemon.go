package daemon

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/registry"
	"farmhand/internal/service"
	"farmhand/scaler/internal/control"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/volume"
)

// Options are what a scaler that runs is given.
type Options struct {
	// Dir is the control node's directory.
	Dir control.Dir
	// Provide makes the farm's provider. It is called when the farm file is known, and again when it has changed.
	Provide func(*farmfile.Farm) (Provided, error)
	Log     *zap.Logger
	// Lease is how long the leadership outlasts a scaler that is killed.
	Lease time.Duration
	// Ready is called when the registry answers; nil for nobody.
	Ready func(control.Running)
	// Beat is called by each of the main loops as long as it goes round.
	Beat func()
	// Last is called when everything but the registry has stopped; nil for nothing.
	Last func() error
	// Metrics is where the leader's metrics are registered; nil for nowhere.
	Metrics *prometheus.Registry

	meters *meters
}

// Provided is a farm's provider.
type Provided struct {
	provider.Provider
	// Passwords is where this control node keeps the passwords of the farm's accounts.
	Passwords keeping
	// Keep keeps the instances running until ctx ends, where the provider needs
	// this process for that; nil where it does not.
	Keep func(ctx context.Context) error
	// Fixed says that an instance that runs cannot be given another configuration: others
	// take its place for all that changes.
	Fixed bool
	// Volumes are what instances get whose storage is more than a directory; nil where
	// the provider has none.
	Volumes volume.Store
	// Balancer leads clients to instances by load balancers of the provider's; nil where it
	// has none.
	Balancer provider.Balancer
	// Images makes images of instances; nil where the provider does not.
	Images provider.Imager
}

// DefaultLease is what a leadership outlasts its scaler by.
const DefaultLease = 3 * time.Second

// tokenLife is how long an instance may take from its launch until it joins.
const tokenLife = 15 * time.Minute

// Run runs the control node: its registry, and with it the scaler, which leads or
// waits to lead, until ctx ends. The registry ends last.
func Run(ctx context.Context, o Options) error {
	if o.Beat == nil {
		o.Beat = func() {}
	}
	o.meters = newMeters(o.Metrics)
	alone, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	ready, ended := make(chan control.Running, 1), make(chan struct{})
	var failed error
	go func() {
		defer close(ended)
		failed = control.Run(alone, o.Dir, o.Log, func(r control.Running) { ready <- r })
	}()
	var err error
	select {
	case r := <-ready:
		if o.Ready != nil {
			o.Ready(r)
		}
		err = o.serve(ctx, r, ended)
	case <-ended:
	case <-ctx.Done():
	}
	if o.Last != nil {
		err = errors.Join(err, o.Last())
	}
	stop(errors.New("the scaler stops"))
	<-ended
	return errors.Join(err, failed)
}

// errRegistryEnded is why the scaler stops if its registry did.
var errRegistryEnded = errors.New("the control node's registry has ended")

// serve leads or waits to lead until ctx ends or the registry has ended.
func (o Options) serve(ctx context.Context, r control.Running, ended <-chan struct{}) error {
	return o.Dir.With(func(client *registry.Client, config control.Config) error {
		group := service.NewGroup(ctx)
		group.Go("registry", func(ctx context.Context) error {
			select {
			case <-ended:
				return errRegistryEnded
			case <-ctx.Done():
				return nil
			}
		})
		group.Go("control nodes", client.KeepEndpoints)
		f := &following{o: o, client: client, config: config, who: r.Member}
		group.Go("farm file", f.run)
		return group.Wait()
	})
}

// following keeps to the farm file: what goes on by it ends when there is another
// one, and begins anew.
type following struct {
	o      Options
	client *registry.Client
	config control.Config
	who    string
	leads  atomic.Bool
}

// run watches the farm file until ctx ends.
func (f *following) run(ctx context.Context) error {
	files := make(chan *farmfile.Farm, 1)
	group := service.NewGroup(ctx)
	group.Go("watch", func(ctx context.Context) error {
		return f.client.Watch(ctx, records.file, func(v registry.Value) error {
			if v.Lost != nil || v.Data == nil {
				return nil // what was known is kept
			}
			file, err := readFile(v.Data)
			var farm *farmfile.Farm
			if err == nil {
				farm, err = file.Farm()
			}
			if err != nil {
				f.o.Log.Error("farm file not taken; the one before is kept", zap.Error(err))
				return nil
			}
			select { // only the newest counts
			case <-files:
			default:
			}
			files <- farm
			return nil
		})
	})
	group.Go("keep to it", func(ctx context.Context) error {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		f.o.Log.Info("waiting for a farm file: scaler apply")
		for {
			select {
			case farm := <-files:
				for farm != nil {
					var err error
					if farm, err = f.keepTo(ctx, farm, files); err != nil {
						return err
					}
				}
			case <-tick.C:
				f.o.Beat()
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	return group.Wait()
}

// errNewFile is why what goes on by a farm file ends.
var errNewFile = errors.New("there is another farm file")

// keepTo goes by one farm file until ctx ends or there is another one, which it
// returns.
func (f *following) keepTo(ctx context.Context, farm *farmfile.Farm, files <-chan *farmfile.Farm) (next *farmfile.Farm, err error) {
	provided, err := f.o.Provide(farm)
	if err != nil {
		f.o.Log.Error("farm file cannot be kept to", zap.Error(err))
		return nil, nil // until there is another one
	}
	if _, err = f.passwords(ctx, provided.Passwords, farm.Provider.Kind == farmfile.LocalKind); err != nil {
		if ctx.Err() == nil {
			f.o.Log.Error("farm file cannot be kept to", zap.Error(err))
		}
		return f.again(ctx, farm, files)
	}
	group := service.NewGroup(ctx)
	group.Go("another file", func(ctx context.Context) error {
		for {
			select {
			case next = <-files:
				if reflect.DeepEqual(next, farm) {
					continue // as after a gap in the watch
				}
				group.Stop(errNewFile)
				return nil
			case <-ctx.Done():
				return nil
			}
		}
	})
	if provided.Keep != nil {
		group.Go("instances", provided.Keep)
	}
	group.Go("lead", func(ctx context.Context) error { return f.lead(ctx, farm, provided) })
	err = group.Wait()
	if ctx.Err() != nil || err != nil {
		return nil, err
	}
	return next, nil
}

// again returns the farm file to be tried next: this one after a while, or another that
// comes before that.
func (f *following) again(ctx context.Context, farm *farmfile.Farm, files <-chan *farmfile.Farm) (*farmfile.Farm, error) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	after := time.After(againAfter)
	for {
		select {
		case next := <-files:
			return next, nil
		case <-after:
			return farm, nil
		case <-tick.C:
			f.o.Beat()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// againAfter is how long to wait before another try to lead.
const againAfter = time.Second

// lead leads or waits to lead, again and again until ctx ends.
func (f *following) lead(ctx context.Context, farm *farmfile.Farm, provided Provided) error {
	for {
		err := f.waiting(ctx, func(ctx context.Context) error {
			return f.client.Lead(ctx, f.who, f.o.Lease, func(ctx context.Context, term registry.Term) error {
				return f.term(ctx, term, farm, provided)
			})
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f.o.Log.Warn("not leading any more", zap.Error(err))
		select {
		case <-time.After(againAfter):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// waiting beats while do waits to be elected. While it leads, the leader's own loop
// does that: one that hangs shall be missed.
func (f *following) waiting(ctx context.Context, do func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	var beating sync.WaitGroup
	defer beating.Wait()
	defer stop()
	beating.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if !f.leads.Load() {
					f.o.Beat()
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return do(ctx)
}

// term leads for one term.
func (f *following) term(ctx context.Context, term registry.Term, farm *farmfile.Farm, provided Provided) error {
	f.leads.Store(true)
	defer f.leads.Store(false)
	defer f.o.meters.forget()
	// They may have been changed while another one led.
	secrets, err := f.passwords(ctx, provided.Passwords, farm.Provider.Kind == farmfile.LocalKind)
	if err != nil {
		return err
	}
	l, err := f.leader(ctx, term, farm, provided, Account{User: provider.MonitorUser, Password: secrets.Monitor})
	if err != nil {
		return err
	}
	l.journal.put(registry.Entry{Kind: "leader", Text: fmt.Sprintf("scaler %s leads in term %d", term.Leader, term.Number)})
	return l.run(ctx)
}

func (f *following) leader(ctx context.Context, term registry.Term, farm *farmfile.Farm, provided Provided, monitor Account) (*leader, error) {
	nodes, err := f.client.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	wake := make(chan struct{}, 1)
	wakeUp := func() { poke(wake) }
	l := &leader{
		term: term, client: f.client, farm: farm, database: farm.Database(), provider: provided, volumes: provided.Volumes, images: provided.Images, fixed: provided.Fixed, log: f.o.Log.With(zap.Int64("term", term.Number)), beat: f.o.Beat,
		token: func(ctx context.Context, role, name string) (string, error) {
			token, _, err := f.o.Dir.NewToken(ctx, f.client, &f.config, role, name, tokenLife)
			if err != nil {
				return "", err
			}
			return token.Encode()
		},
		wake: wake, world: newWorld(wakeUp), journal: newJournal(f.client, term, f.o.Log), notices: newNotices(f.client, term, f.o.Log), errands: newErrands(ctx, wakeUp),
		prober:   &prober{account: monitor, interval: time.Duration(farm.Policies.Failover.Interval), wake: wakeUp},
		measured: newMeasured(farm), servers: map[string][]decide.Server{}, whys: map[string]string{},
		ordered: map[string]cluster.PasswordStep{}, keeping: provided.Passwords,
		roles: map[string]RoleView{}, answered: map[string]registry.Operation{},
	}
	if provided.Balancer != nil {
		l.balancing = newBalancing(provided.Balancer, l.allowBalance, wakeUp, l.log)
	}
	for _, n := range nodes {
		l.nodes = append(l.nodes, n.Name)
	}
	name := l.database
	if name == "" {
		name = "none" // of a farm without a database nothing is ever written there
	}
	if l.assignment, err = registry.ClusterRecord(name, cluster.Record); err != nil {
		return nil, err
	}
	if l.departing, err = registry.ClusterRecord(name, cluster.DeparturesRecord); err != nil {
		return nil, err
	}
	if l.releasing, err = registry.ClusterRecord(name, cluster.ReleasesRecord); err != nil {
		return nil, err
	}
	jobs, err := farm.CronJobs()
	if err != nil {
		return nil, err
	}
	l.crontab = newCrontab(f.client, term, jobs, l.log.Named("cron"), func(text, job string) {
		l.journal.put(registry.Entry{Kind: registry.Decision, Text: text, Fields: map[string]string{"cron": job, registry.Minor: "true"}})
	}, wakeUp)
	l.backups, err = f.newBackups(l)
	return l, err
}
