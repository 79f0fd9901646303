// Package daemon wires the proxy's parts together and runs them: what the
// configuration says becomes listeners, a monitor, a pool and sessions, and a
// changed topology or configuration is brought to them while they run.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/service"
	"farmhand/internal/topology"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/config"
	"farmhand/proxy/internal/consistency"
	"farmhand/proxy/internal/console"
	"farmhand/proxy/internal/frontend"
	"farmhand/proxy/internal/lane"
	"farmhand/proxy/internal/monitor"
	"farmhand/proxy/internal/rawio"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/session"
)

// Daemon is a proxy that is ready to run.
type Daemon struct {
	path    string
	config  *config.Config
	policy  atomic.Pointer[session.Policy]
	build   service.Build
	log     *zap.Logger
	level   zap.AtomicLevel
	metrics *prometheus.Registry

	watcher  *topology.Watcher
	monitor  *monitor.Monitor
	pool     *backend.Pool
	lanes    *lane.Lanes
	index    *consistency.Index
	registry *session.Registry
	deps     session.Deps
	edge     edge
	admin    *service.Admin
	draining atomic.Bool
	started  time.Time
}

// New makes the parts of a proxy from the configuration file at path, which was
// read into c. It opens the listening sockets, so that an address that is taken
// is known at once; nothing is served before Run.
func New(ctx context.Context, path string, c *config.Config, log *zap.Logger, level zap.AtomicLevel, metrics *prometheus.Registry, activated []*os.File, beat func()) (*Daemon, error) {
	d := &Daemon{
		path: path, config: c, build: service.ReadBuild("farmhand-proxy"), log: log, level: level, metrics: metrics,
		registry: session.NewRegistry(), started: time.Now(),
	}
	password, err := c.Monitor.Password()
	if err != nil {
		return nil, err
	}
	d.policy.Store(policy(c))
	servers, err := frontend.ServerTLS(c.TLS.Servers)
	if err != nil {
		return nil, err
	}
	optional := c.TLS.Servers.Mode == config.TLSPreferred
	d.monitor = monitor.New(monitor.Config{
		User: c.Monitor.User, Password: password, Reread: c.Monitor.Password, TLS: servers, TLSOptional: optional,
		Interval: time.Duration(c.Health.Interval), Timeout: time.Duration(c.Health.Timeout), Failures: c.Health.Failures,
		SlowStart: slowStart(c), Log: log.Named("monitor"), Metrics: metrics, Beat: beat,
	})
	d.pool = backend.NewPool(backend.Options{
		MaxPerServer: c.Pool.MaxPerServer, MaxPerUser: c.Pool.MaxPerUser, WaitTimeout: time.Duration(c.Pool.Wait), Warm: true,
		IdlePerUser: c.Pool.IdlePerUser, IdleTimeout: time.Duration(c.Pool.IdleTimeout), MaxLifetime: time.Duration(c.Pool.MaxLifetime),
		ConnectTimeout: time.Duration(c.Pool.ConnectTimeout), ResetTimeout: time.Duration(c.Pool.ConnectTimeout),
		TLS: backend.TLS{Config: servers, Required: servers != nil && !optional}, Report: d.monitor.Report,
	}, metrics)
	d.registry.Register(metrics)
	d.index = consistency.NewIndex(d.monitor, time.Duration(c.Health.Timeout), metrics)
	d.deps = session.Deps{
		Index: d.index, Progress: consistency.NewProgress(),
		Farm: d.monitor, Pool: d.pool, Registry: d.registry,
		Auth:      auth.New(d.monitor, prover{d}, auth.Options{StaleFor: time.Hour, MaxAge: time.Duration(c.Logins.AccountAge)}),
		Waiting:   &session.Waiting{Limit: c.Writes.MaxWaiting, PerUser: c.Writes.MaxWaitingPerUser},
		Refused:   &session.Refused{},
		Metrics:   session.NewMetrics(metrics),
		Policy:    d.policy.Load,
		Log:       log.Named("session"),
		Collation: d.collation,
	}
	d.lanes = lane.New(d.pool, d.monitor.Report)
	d.lanes.Register(metrics)
	if c.Pool.Pipelining {
		d.deps.Lanes, d.deps.Quick = d.lanes, &lane.Quick{}
	}
	digests := console.NewDigests(c.Digests.Max)
	if c.Digests.Max > 0 {
		d.deps.Digests = digests
	}
	d.deps.Console = &console.Console{
		Version: d.build.String(), Started: d.started, Cluster: c.Cluster, View: d.monitor.View,
		Sessions: d.registry.Sessions, Counts: d.pool.Counts, Digests: digests, Totals: d.totals,
	}
	if d.watcher, err = topology.NewWatcher(c.Topology, topology.Options{Require: []string{c.Cluster}, Observer: newObserver(d)}); err != nil {
		return nil, err
	}
	if err := d.edge.open(ctx, d, activated); err != nil {
		return nil, err
	}
	if d.edge.predecessor != nil {
		return d, nil // it has the admin endpoint's port until it has let go
	}
	if d.admin, err = d.openAdmin(ctx); err != nil {
		return nil, errors.Join(err, d.edge.close())
	}
	return d, nil
}

// openAdmin opens the endpoint for operators.
func (d *Daemon) openAdmin(ctx context.Context) (*service.Admin, error) {
	return service.NewAdmin(ctx, service.AdminOptions{
		Config: d.config.Admin, Build: d.build, Metrics: d.metrics, Level: d.level, Log: d.log, Ready: d.ready,
	})
}

// adminPatience is how long a successor tries to open the admin endpoint, which
// its predecessor gives up when it has handed over.
const adminPatience = 10 * time.Second

// serveAdmin serves the admin endpoint; a successor opens it here. Without it
// clients are served all the same.
func (d *Daemon) serveAdmin(ctx context.Context) error {
	admin := d.admin
	for began := time.Now(); admin == nil && d.config.Admin.Address != ""; {
		var err error
		if admin, err = d.openAdmin(ctx); err == nil {
			break
		}
		if time.Since(began) > adminPatience {
			d.log.Error("the admin endpoint could not be opened: there are no metrics", zap.Error(err))
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
	return admin.Run(ctx)
}

// slowStart translates the configuration's 0, no slow start, into the monitor's.
func slowStart(c *config.Config) time.Duration {
	if c.Health.SlowStart == 0 {
		return -1
	}
	return time.Duration(c.Health.SlowStart)
}

// policy is what of the configuration concerns sessions.
func policy(c *config.Config) *session.Policy {
	denied, admins := slices.Clone(c.Hints.DeniedUsers), slices.Clone(c.Console.Admins)
	return &session.Policy{
		PrimaryReads:        route.PrimaryReads(c.Reads.Primary),
		MaxLag:              time.Duration(c.Reads.MaxLag),
		Level:               levels(c),
		ServeWithoutPrimary: c.Reads.WithoutPrimary == config.ServeWithoutPrimary,
		ReadWait:            time.Duration(c.Reads.Wait),
		Pause:               time.Duration(c.Reads.Pause),
		Replay: session.Replay{
			Enabled: c.Writes.Replay.Enabled, Size: int(c.Writes.Replay.Size), Time: time.Duration(c.Writes.Replay.Time), Attempts: c.Writes.Replay.Attempts,
		},
		ReadRetries:   c.Reads.Retries,
		WriteWait:     time.Duration(c.Writes.Wait),
		ClassifySize:  int(c.Limits.ClassifySize),
		PacketSize:    int(c.Limits.PacketSize),
		PreparedLimit: c.Limits.PreparedStatements,
		HintsAllowed: func(user string) bool {
			return c.Hints.Enabled && !slices.Contains(denied, user)
		},
		MayAskConsole: func(user string) bool { return slices.Contains(admins, user) },
	}
}

// levels gives the level of consistency of each user.
func levels(c *config.Config) func(user string) consistency.Level {
	level := func(name config.Consistency) consistency.Level {
		l, err := consistency.ParseLevel(string(name))
		if err != nil {
			return consistency.Strict // the configuration was validated
		}
		return l
	}
	all := level(c.Reads.Consistency)
	if len(c.Reads.ConsistencyByUser) == 0 {
		return func(string) consistency.Level { return all }
	}
	byUser := make(map[string]consistency.Level, len(c.Reads.ConsistencyByUser))
	for user, name := range c.Reads.ConsistencyByUser {
		byUser[user] = level(name)
	}
	return func(user string) consistency.Level {
		if l, ok := byUser[user]; ok {
			return l
		}
		return all
	}
}

// prover logs in to the primary, to prove a credential; the connection stays
// for the session that follows.
type prover struct{ d *Daemon }

// Prove implements auth.Prover.
func (p prover) Prove(ctx context.Context, c *auth.Credential, schema string) error {
	v := p.d.monitor.View()
	server := v.Primary
	if server == nil || server.Status == monitor.Down {
		// While the primary is away, a replica has the same accounts.
		for _, r := range v.Replicas {
			if r.Eligible {
				server = r
				break
			}
		}
	}
	if server == nil {
		return fmt.Errorf("no server can be asked: %s", primaryAway(v))
	}
	conn, err := p.d.pool.Get(ctx, &backend.Want{Server: server.Server, Credential: c})
	if err != nil {
		return err
	}
	p.d.pool.Put(conn, true)
	_ = schema // the session asks for it, and answers for it with the server's own error
	return nil
}

func primaryAway(v *monitor.View) string {
	if v.Primary == nil {
		return "the topology names no primary"
	}
	return v.Primary.Name + " is " + v.Primary.Status.String() + ": " + v.Primary.LastError
}

// collation gives the names of a collation id.
func (d *Daemon) collation(id uint16) (charset, name string, ok bool) {
	all := d.monitor.View().Collations()
	if all == nil || id == 0 {
		return "", "", false
	}
	c, ok := all.ByID(id)
	return c.Charset, c.Name, ok
}

// ready says whether the proxy can serve.
func (d *Daemon) ready() []service.Condition {
	v := d.monitor.View()
	fit := 0
	for _, r := range v.Replicas {
		if r.Eligible {
			fit++
		}
	}
	writable := v.Primary != nil && v.Primary.Writable
	detail := primaryAway(v)
	if v.Primary != nil {
		detail = v.Primary.Name + " is " + v.Primary.Status.String()
	}
	return []service.Condition{
		{Name: "accepting", OK: !d.draining.Load(), Detail: "sessions: " + strconv.Itoa(len(d.registry.Sessions()))},
		{Name: "server", OK: writable || fit > 0, Detail: fmt.Sprintf("%s; %d of %d replicas serve reads", detail, fit, len(v.Replicas))},
	}
}

// totals are the counters that SHOW FARMHAND STATUS shows, and what is amiss.
func (d *Daemon) totals() []console.Total {
	families, err := d.metrics.Gather()
	if err != nil {
		return []console.Total{{Name: "metrics", Value: err.Error()}}
	}
	var out []console.Total
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			const prefix = "farmhand_proxy_"
			if len(name) <= len(prefix) || name[:len(prefix)] != prefix || m.GetCounter() == nil {
				continue
			}
			name = name[len(prefix):]
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			out = append(out, console.Total{Name: name, Value: strconv.FormatFloat(m.GetCounter().GetValue(), 'f', -1, 64)})
		}
	}
	if err := rawio.Alone(); err != nil {
		out = append(out, console.Total{Name: "answers_together", Value: "no, one by one, which costs more with many clients: " + err.Error()})
	}
	return out
}

// Run serves until finish ends, drains, and returns when every session is gone
// or now ends.
func (d *Daemon) Run(finish, now context.Context, ready func()) error {
	// The parts go on while sessions drain.
	parts := service.NewGroup(context.WithoutCancel(finish))
	parts.Go("topology", d.watcher.Run)
	parts.Go("monitor", d.monitor.Run)
	parts.Go("pool", d.pool.Run)
	parts.Go("lanes", d.lanes.Run)
	parts.Go("silent servers", d.leaveSilent)
	parts.Go("collector", paceCollector)
	admin, stopAdmin := context.WithCancelCause(parts.Context())
	defer stopAdmin(nil)
	parts.Go("admin", func(context.Context) error {
		if err := d.serveAdmin(admin); err != nil && admin.Err() == nil {
			return err
		}
		return nil
	})
	sessions, endSessions := context.WithCancelCause(context.WithoutCancel(finish))
	defer endSessions(nil)
	parts.Go("clients", func(context.Context) error { return d.edge.serve(sessions) })
	err := d.edge.announce(finish)
	if err == nil {
		ready()
		if d.edge.waitForEnd(finish, parts.Context()) {
			stopAdmin(errSuperseded) // the successor wants its port
		}
	}
	d.draining.Store(true)
	d.edge.stop()
	d.drain(now)
	endSessions(errShutdown)
	d.registry.End() // what has come meanwhile
	parts.Stop(errShutdown)
	d.index.Close()
	return errors.Join(err, parts.Wait(), d.edge.close())
}

var (
	errShutdown   = errors.New("the proxy stops")
	errSuperseded = errors.New("a successor has taken over")
)

// drainQuiet is how long a client must have been silent to be sent away while
// the proxy drains.
const drainQuiet = time.Second

// drain ends sessions as they become idle, until no client is left, the time is
// up or now ends.
func (d *Daemon) drain(now context.Context) {
	limit := time.NewTimer(time.Duration(d.config.DrainTimeout))
	defer limit.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	quiet := min(drainQuiet, time.Duration(d.config.DrainTimeout)/2)
	left, _ := d.edge.gate.Counts()
	d.log.Info("draining", zap.Int("clients", left), zap.Duration("limit", time.Duration(d.config.DrainTimeout)))
	for ; left > 0; left, _ = d.edge.gate.Counts() {
		d.registry.Drain(quiet)
		select {
		case <-now.Done():
			d.log.Warn("drain cut short", zap.Int("clients", left))
			d.registry.End()
			return
		case <-limit.C:
			d.log.Warn("drain took too long", zap.Int("clients", left))
			d.registry.End()
			return
		case <-again.C:
		}
	}
}

// Reload reads the configuration again and brings what can change without a
// restart into force: reads, writes, limits of sessions, hints, console, the log
// level, and the certificates. A bad file changes nothing.
func (d *Daemon) Reload() {
	c, err := config.Load(d.path)
	if err == nil {
		if problems := c.Files(); len(problems) > 0 {
			err = service.Locate(d.path, problems)
		}
	}
	if err != nil {
		d.log.Error("configuration not taken, the old one stays in force", zap.Error(err))
		return
	}
	if err := d.level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		d.log.Error("log level not changed", zap.Error(err))
	}
	d.policy.Store(policy(c))
	if err := d.edge.reload(c); err != nil {
		d.log.Error("certificates not taken, the old ones stay in force", zap.Error(err))
	}
	d.watcher.Reload()
	d.log.Info("configuration taken", zap.String("path", d.path))
}

// setTopology brings a cluster into force.
func (d *Daemon) setTopology(t *farm.Topology) {
	cluster, ok := t.Clusters[d.config.Cluster]
	if !ok {
		return // the watcher refuses a file without it
	}
	d.monitor.SetCluster(&cluster)
	in := map[string]string{}
	if cluster.Primary != nil {
		in[cluster.Primary.Name] = cluster.Primary.Address
	}
	var used []farm.Server
	for _, s := range cluster.Replicas {
		if s.State != farm.Draining {
			in[s.Name] = s.Address
			used = append(used, s)
		}
	}
	d.pool.Keep(func(server, address string) bool { return in[server] == address })
	d.pool.Expect(used)
}
