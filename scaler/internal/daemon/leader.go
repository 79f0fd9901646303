package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/registry"
	"farmhand/internal/service"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/roles"
	"farmhand/scaler/internal/volume"
)

// How often things are looked at that do not tell by themselves.
const (
	pace      = 250 * time.Millisecond // at the least
	sizesPace = time.Second            // the number of servers
	viewPace  = time.Second            // what is shown to people, at the most
	listPace  = time.Second            // the provider's instances
)

// leader is one term of this scaler. run's goroutine owns everything that has no
// other word beside it.
type leader struct {
	term       registry.Term
	client     *registry.Client
	farm       *farmfile.Farm
	database   string // the name of the farm's role of kind mysql, and of its cluster
	assignment registry.Record
	departing  registry.Record
	releasing  registry.Record
	provider   provider.Provider
	volumes    volume.Store    // nil: the provider has none
	images     provider.Imager // nil: the provider makes none
	fixed      bool            // its instances take no other configuration while they run
	token      func(ctx context.Context, role, name string) (string, error)
	log        *zap.Logger
	beat       func() // is told that the loop goes round

	world   *world
	prober  *prober
	journal *journal
	notices *notices
	wake    chan struct{} // one slot

	balancing *balancing // nil: the provider has no load balancers
	backups   *backups   // nil without a database
	crontab   *crontab
	snapped   snapped // by the errands that take snapshots

	rotation    *rotation                       // the last change of passwords; nil for none
	rotated     []byte                          // as the registry has it
	ordered     map[string]cluster.PasswordStep // which step each node was told, by this leader
	keeping     keeping                         // where this control node keeps the passwords
	memory      memory
	kept        []byte                            // the memory as the registry has it
	wanted      map[string]provider.Configuration // what instances of each role are to run by
	configuring *configuring                      // nil if none does
	handover    handover                          // that a renewal waits for
	made        atomic.Pointer[provider.Image]    // the last one; by the errand that makes it
	departed    []byte                            // the departures as this leader has written them
	// releasesTold are the releases as this leader has written them.
	releasesTold []byte
	instances    []provider.Instance
	listed       time.Time
	errands      *errands
	doing        map[string]string     // what they do, as of before the instances were listed
	steps        map[string]roles.Step // how far each server is on its way out, as it is kept
	nodes        []string              // names that nodes had before this term
	measured     *measured
	sized        time.Time
	servers      map[string][]decide.Server    // what each role's are, as of then
	whys         map[string]string             // of the last launches, by role
	roles        map[string]RoleView           // as the last decisions have them
	reasons      []string                      // of the last step of the database cluster
	uncertain    bool                          // it is not known whether the last assignment was written
	answered     map[string]registry.Operation // what was said last of each that has not ended in the registry
	shown        time.Time
	shownSerial  uint64 // of the assignment that was shown
}

// run leads until ctx ends, the term is over, or the farm file is another one.
func (l *leader) run(ctx context.Context) (err error) {
	data, err := l.client.Read(ctx, records.memory)
	if err != nil {
		return err
	}
	if l.memory, err = readMemory(data); err != nil {
		return err
	}
	l.kept, l.steps = data, l.memory.steps()
	if err := l.readRotation(ctx); err != nil {
		return err
	}
	l.wanted = map[string]provider.Configuration{}
	for role, r := range l.farm.Roles {
		l.memory.spend(role, l.nodes)
		if l.wanted[role], err = provider.ConfigurationOf(r); err != nil {
			return err
		}
	}
	group := service.NewGroup(ctx)
	group.Go("observe", func(ctx context.Context) error { return l.world.watch(ctx, l.client, l.assignment) })
	group.Go("journal", l.journal.run)
	group.Go("notices", l.notices.run)
	group.Go("probe", l.prober.run)
	group.Go("metrics", func(ctx context.Context) error { return l.measured.poll(ctx, l.farm, l.log) })
	if l.backups != nil {
		group.Go("store", l.backups.shelf.run)
	}
	group.Go("cron", l.crontab.run)
	if l.balancing != nil {
		group.Go("load balancers", l.balancing.run)
	}
	group.Go("lead", l.loop)
	err = group.Wait()
	l.errands.wait()
	return err
}

// poke wakes the loop.
func poke(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

func (l *leader) loop(ctx context.Context) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		if err := l.round(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if errors.Is(err, registry.ErrDeposed) {
				return err
			}
			// Another try is a moment away.
			l.log.Error("round failed", zap.Error(err))
		}
		l.beat()
		select {
		case <-l.wake:
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// round is observe, decide and act, once.
func (l *leader) round(ctx context.Context) error {
	now := time.Now()
	m, err := l.world.look(now)
	if err != nil {
		l.reasons = []string{err.Error()}
		return nil
	}
	m.operations = l.latest(m.operations)
	// Before the instances are listed: what is launched meanwhile counts twice rather
	// than not at all.
	l.doing = l.errands.doing()
	if err := l.list(ctx, now); err != nil {
		return err
	}
	// Reads and writes of the primary first: the rest can wait.
	if err := l.steer(ctx, &m); err != nil {
		return err
	}
	l.end(&m)
	if err := l.sizes(ctx, &m); err != nil {
		return err
	}
	if err := l.requests(ctx, &m); err != nil {
		return err
	}
	if err := l.rotate(ctx, &m); err != nil {
		return err
	}
	if err := l.keepBackups(ctx, &m); err != nil {
		return err
	}
	if err := l.remember(ctx); err != nil {
		return err
	}
	if err := l.depart(ctx, &m); err != nil {
		return err
	}
	if err := l.tellReleases(ctx); err != nil {
		return err
	}
	l.balance()
	l.configure(&m)
	l.snapshots(&m)
	if err := l.carryOut(ctx); err != nil {
		return err
	}
	return l.show(&m, false)
}

// list asks the provider for its instances, now and then and after each change.
func (l *leader) list(ctx context.Context, now time.Time) error {
	if changed := l.errands.changed(); !changed && now.Sub(l.listed) < listPace {
		return nil
	}
	instances, err := l.provider.List(ctx)
	if err != nil && l.listed.IsZero() {
		return err
	}
	if err != nil {
		// A primary is replaced all the same, by what was known last.
		l.log.Error("instances cannot be listed", zap.Error(err))
		return nil
	}
	l.instances, l.listed = instances, now
	return nil
}

func (l *leader) instance(name string) (provider.Instance, bool) {
	for _, i := range l.instances {
		if i.Name == name {
			return i, true
		}
	}
	return provider.Instance{}, false
}

// remember writes the memory, if it has changed, under the term.
func (l *leader) remember(ctx context.Context) error {
	data, err := json.Marshal(l.memory)
	if err != nil {
		return fmt.Errorf("remember: %w", err)
	}
	if bytes.Equal(data, l.kept) {
		return nil
	}
	if err := l.client.Write(ctx, l.term, records.memory, data); err != nil {
		return err
	}
	l.kept, l.steps = data, l.memory.steps()
	return nil
}

// fence returns an error unless the term lasts, as the registry says and not as we
// believe, and notes in the journal what is about to be done.
func (l *leader) fence(ctx context.Context, e registry.Entry) error {
	e.Who = l.journal.who
	_, err := l.client.AppendInTerm(ctx, l.term, e)
	return err
}

// policy returns what the farm file says of a role's size, or what a person has
// asked for instead.
func (l *leader) policy(role string) decide.Policy {
	p := l.farm.Scaling(role)
	if n, ok := l.memory.Pinned[role]; ok {
		p.Min, p.Max, p.Metrics, p.Schedule = n, n, nil, nil
	}
	return p
}

func (l *leader) address(i provider.Instance) string {
	return databaseAddress(l.farm, i)
}

// report returns the last report of a database server and its age.
func (m *moment) report(name string) (*cluster.Report, time.Duration) {
	a, ok := m.databases[name]
	if !ok {
		return nil, longAgo
	}
	return a.report, a.age(m.now)
}

// errands are what takes time: launching and terminating, which go on beside the
// loop.
type errands struct {
	ctx  context.Context
	wake func()

	mu    sync.Mutex
	under map[string]string    // what is being done, by the instance's name
	after map[string]time.Time // when to try again, by instance or role
	why   map[string]string    // the last failure, by instance or role
	dirty bool
	last  chan struct{} // closed when the last launch has ended, for which the next one waits

	done sync.WaitGroup
}

func newErrands(ctx context.Context, wake func()) *errands {
	return &errands{ctx: ctx, wake: wake, under: map[string]string{}, after: map[string]time.Time{}, why: map[string]string{}}
}

// retry is how long to wait after an errand that failed.
const retry = 10 * time.Second

// do does something about an instance, unless something is being done about it or
// failed a moment ago. topic is what else waits after a failure, such as the role.
func (e *errands) do(name, topic, what string, do func(ctx context.Context) error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.begin(name, topic, what, do)
}

// doInTurn is do after the errand before it: instances are launched in the order of
// their names, one by one.
func (e *errands) doInTurn(name, topic, what string, do func(ctx context.Context) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before, mine := e.last, make(chan struct{})
	if e.begin(name, topic, what, func(ctx context.Context) error {
		defer close(mine)
		if before != nil {
			<-before // which ends with ctx, too
		}
		return do(ctx)
	}) {
		e.last = mine
	}
}

func (e *errands) begin(name, topic, what string, do func(ctx context.Context) error) bool {
	now := time.Now()
	if e.under[name] != "" || now.Before(e.after[name]) || now.Before(e.after[topic]) {
		return false
	}
	e.under[name] = what
	e.done.Go(func() {
		err := do(e.ctx)
		e.mu.Lock()
		delete(e.under, name)
		delete(e.why, topic)
		delete(e.after, topic)
		if e.dirty = true; err != nil {
			e.after[topic], e.why[topic] = time.Now().Add(retry), err.Error()
		}
		e.mu.Unlock()
		e.wake()
	})
	return true
}

// due reports whether something may be done about a topic: it did not fail a moment
// ago. What failed is put off.
func (e *errands) due(topic string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !time.Now().Before(e.after[topic])
}

func (e *errands) putOff(topic string, why error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.after[topic], e.why[topic] = time.Now().Add(retry), why.Error()
}

func (e *errands) doing() map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return cloned(e.under)
}

// failure is why the last errand of a topic failed; empty if it did not.
func (e *errands) failure(topic string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.why[topic]
}

// changed reports whether an errand has ended since it was asked last.
func (e *errands) changed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.dirty
	e.dirty = false
	return was
}

func (e *errands) wait() { e.done.Wait() }
