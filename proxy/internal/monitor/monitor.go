package monitor

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

const (
	// blip is how long a server may be out of service without a new slow start.
	blip = time.Second
	// beginning is how long after the start a server that is found well needs no
	// slow start.
	beginning = 5 * time.Second
)

// Monitor watches one cluster.
type Monitor struct {
	config    Config
	log       *zap.Logger
	metrics   *metrics
	directory *directory
	view      atomic.Pointer[View]
	reconcile chan struct{} // one slot: the set of servers changed

	mu      sync.Mutex
	began   bool // a first cluster was set
	epoch   farm.Epoch
	primary string   // name; empty for none
	order   []string // names of the replicas
	watched map[string]*watch
	history history
	last    identity
	changed chan struct{} // closed when the next view is published
	// collations are kept by flavor and version; servers' views share them.
	collations map[string]*Collations
}

// watch is one server being watched. A server whose address changed is another
// watch.
type watch struct {
	subject subject
	probe   chan struct{} // one slot: probe now
	prove   chan struct{} // one slot: probe now, over a new connection
}

// New returns a monitor that watches nothing until it runs and has a cluster.
func New(config Config) *Monitor {
	config = config.withDefaults()
	m := &Monitor{
		config:     config,
		log:        config.Log,
		metrics:    newMetrics(),
		reconcile:  make(chan struct{}, 1),
		watched:    make(map[string]*watch),
		changed:    make(chan struct{}),
		collations: make(map[string]*Collations),
	}
	m.view.Store(&View{})
	m.directory = newDirectory(m)
	return m
}

// Run watches until ctx ends. It returns nil then, and an error only if it could
// not begin. Once it has returned no goroutine and no connection is left.
func (m *Monitor) Run(ctx context.Context) error {
	unregister, err := m.metrics.register(m.config.Metrics)
	if err != nil {
		return err
	}
	defer unregister()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	wg.Go(func() { m.directory.run(ctx) })
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	running := make(map[*watch]context.CancelFunc)
	for {
		wanted := m.wanted()
		for w, stop := range running {
			if !wanted[w] {
				stop()
				delete(running, w)
			}
		}
		for w := range wanted {
			if running[w] == nil {
				watchCtx, stop := context.WithCancel(ctx)
				running[w] = stop
				wg.Go(func() { m.watch(watchCtx, w) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.reconcile:
		case <-beat.C:
			if m.config.Beat != nil {
				m.config.Beat()
			}
		}
	}
}

// beatEvery is how often it is told that the monitor goes round.
const beatEvery = time.Second

func (m *Monitor) wanted() map[*watch]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	set := make(map[*watch]bool, len(m.watched))
	for _, w := range m.watched {
		set[w] = true
	}
	return set
}

// SetCluster gives the monitor a new topology, which the view has at once. What
// is known of a server is kept as long as it keeps its name and address. Nil
// means no servers.
func (m *Monitor) SetCluster(c *farm.Cluster) {
	if c == nil {
		c = &farm.Cluster{}
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()

	servers := make(map[string]*watch, 1+len(c.Replicas))
	primary := ""
	m.order = m.order[:0]
	if c.Primary != nil {
		primary = c.Primary.Name
		servers[primary] = m.adopt(*c.Primary, farm.Primary, now)
	}
	for _, r := range c.Replicas {
		m.order = append(m.order, r.Name)
		servers[r.Name] = m.adopt(r, farm.Replica, now)
	}
	for name := range m.watched {
		if servers[name] == nil {
			m.metrics.forget(name)
		}
	}
	if primary != "" && primary != m.last.name {
		// Who followed the last primary does not follow this one by that.
		m.last = identity{name: primary}
		for _, w := range servers {
			w.subject.verified = ""
		}
	}
	m.watched, m.primary, m.epoch, m.began = servers, primary, c.Epoch, true
	if w := servers[primary]; w != nil && w.subject.facts != nil {
		m.recognise(&w.subject)
	}
	for _, w := range servers {
		signal(w.probe)
	}
	m.publish(now)
	signal(m.reconcile)
}

// adopt returns the watch of a server of a new topology.
func (m *Monitor) adopt(s farm.Server, role farm.Role, now time.Time) *watch {
	w := m.watched[s.Name]
	if w == nil || w.subject.Address != s.Address {
		w = &watch{
			subject: subject{since: now, added: now, first: !m.began},
			probe:   make(chan struct{}, 1),
			prove:   make(chan struct{}, 1),
		}
	}
	if w.subject.role != role {
		// As a primary it was not measured, and what it was measured by may be
		// another's history.
		w.subject.fresh = time.Time{}
	}
	w.subject.Server, w.subject.role = s, role
	return w
}

// signal fills a one-slot channel.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// View returns what is known now. It never returns nil.
func (m *Monitor) View() *View { return m.view.Load() }

// Changed returns a channel that is closed as soon as there is a view of a newer
// generation than generation. To wait for something: look at a view, and if it
// is not there, wait for Changed of that view's generation and look again.
func (m *Monitor) Changed(generation uint64) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.view.Load().Generation > generation {
		return closed
	}
	return m.changed
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Report tells the monitor that the data path could not connect to a server, or
// lost a connection to it. The server takes no reads and no writes until a
// probe over a new connection, which starts at once, has succeeded. Errors that
// the server itself returned are no reason to report; that it is full is no
// reason to take it out.
func (m *Monitor) Report(name string, err error) {
	if err == nil {
		return
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.watched[name]
	if w == nil || saturated(err) {
		return
	}
	m.metrics.reports.WithLabelValues(name).Inc()
	known := w.subject.doubt != nil
	w.subject = w.subject.doubted(err, now)
	signal(w.prove)
	if !known {
		m.publish(now)
	}
}

// learn takes in a probe's outcome.
func (m *Monitor) learn(w *watch, p probe) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watched[w.subject.Name] != w {
		return // it left the topology while it was probed
	}
	name, before, status := w.subject.Name, w.subject.applied(), w.subject.status
	w.subject = w.subject.after(p, m.config.Failures)
	if p.err != nil {
		m.metrics.failures.WithLabelValues(name).Inc()
	} else {
		m.metrics.probeSeconds.WithLabelValues(name).Observe(p.answered.Sub(p.sent).Seconds())
		m.measure(w, p, before)
	}
	if now := w.subject.status; now != status {
		m.metrics.transitions.WithLabelValues(now.String(), name).Inc()
	}
	m.publish(p.answered)
}

// measure compares a replica with the primary's history, or continues that.
func (m *Monitor) measure(w *watch, p probe, before gtid.Position) {
	if w.subject.role == farm.Replica {
		w.subject = w.subject.measured(&m.history, false, before)
		return
	}
	m.recognise(&w.subject)
	if p.facts.state.ReadOnly && len(p.facts.channels) > 0 {
		return // not the primary yet: its position is not the farm's
	}
	add := m.history.add
	if p.facts.state.Executed.IsZero() && p.facts.greeting.Flavor() == farm.MariaDB {
		add = func(_ gtid.Position, at time.Time) bool { return m.history.addEmpty(at) }
	}
	continued := add(p.facts.state.Executed, p.sent)
	for _, r := range m.watched {
		if r.subject.role != farm.Replica {
			continue
		}
		if !continued {
			r.subject = r.subject.measured(&m.history, true, r.subject.applied())
		}
		// Probed right after the primary, a replica that keeps up is seen to.
		signal(r.probe)
	}
}

// recognise notes what the primary calls itself.
func (m *Monitor) recognise(s *subject) {
	m.last = identity{name: s.Name, id: s.facts.state.ServerID, uuid: s.facts.state.UUID}
}

// publish makes a view of what is remembered and wakes who waits for one.
func (m *Monitor) publish(now time.Time) {
	old := m.view.Load()
	v := &View{Generation: old.Generation + 1, Joined: old.Joined, Epoch: m.epoch}
	c := cluster{last: m.last}
	if w := m.watched[m.primary]; w != nil {
		c.primary = &w.subject
		v.Primary = m.show(w, c, now)
	}
	v.Replicas = make([]*Server, 0, len(m.order))
	for _, name := range m.order {
		s := m.show(m.watched[name], c, now)
		if joins(old.Server(name), s) {
			v.Joined = old.Joined + 1
		}
		v.Replicas = append(v.Replicas, s)
	}
	m.view.Store(v)
	close(m.changed)
	m.changed = make(chan struct{})
	m.narrate(old, v)
}

// joins tells whether a replica takes reads now that it did not before, or its
// full share of them.
func joins(was, now *Server) bool {
	if !now.Eligible {
		return false
	}
	return was == nil || was.Address != now.Address || !was.Eligible || was.EffectiveWeight < now.Weight && now.EffectiveWeight >= now.Weight
}

// show makes the view of one server.
func (m *Monitor) show(w *watch, c cluster, now time.Time) *Server {
	if w.subject.role == farm.Replica {
		if ch := channel(&w.subject, c); ch != nil && verifies(ch, c) && follows(ch, &w.subject, c) {
			w.subject.verified = ch.Source
		}
	}
	s := judge(&w.subject, c, now, m.config.SlowStart)
	if w.subject = w.subject.served(s.Eligible, now, blip, beginning); s.Eligible {
		s.EffectiveWeight = ramped(s.Weight, w.subject.ramp, now, m.config.SlowStart)
	}
	m.metrics.show(s)
	return s
}

// narrate logs how the new view differs from the old one in what people care
// about: every transition once.
func (m *Monitor) narrate(old, now *View) {
	tell := func(s *Server) {
		was := old.Server(s.Name)
		if was == nil || was.Address != s.Address {
			was = &Server{Status: Unknown, Role: s.Role}
		}
		log := m.log.With(zap.String("server", s.Name), zap.String("address", s.Address), zap.String("role", string(s.Role)))
		switch {
		case was.Status == s.Status:
		case s.Status == Up:
			log.Info("server is up", zap.String("version", s.Greeting.Version), zap.Uint32("server_id", s.ServerID))
		case s.Status == Down:
			log.Warn("server is down", zap.String("error", s.LastError))
		}
		switch {
		case s.Role == farm.Primary && s.Writable != was.Writable && s.Writable:
			log.Info("primary takes writes")
		case s.Role == farm.Primary && s.Writable != was.Writable:
			log.Warn("primary takes no writes", zap.String("reason", s.Reason))
		case s.Eligible && !was.Eligible:
			log.Info("server takes reads", zap.Duration("lag", s.Lag), zap.Bool("lag_known", s.LagKnown), zap.Int("weight", s.EffectiveWeight))
		case !s.Eligible && (was.Eligible || was.Reason != s.Reason) && s.Status != Unknown:
			log.Warn("server takes no reads", zap.String("reason", s.Reason))
		}
	}
	if now.Primary != nil {
		tell(now.Primary)
	}
	for _, s := range now.Replicas {
		tell(s)
	}
}
