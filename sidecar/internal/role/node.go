package role

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/report"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/membership"
	"farmhand/sidecar/internal/render"
)

// Waits before what did not succeed is tried again.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
	// refreshEvery is how often files are made anew without a change of the membership:
	// what else they are made from may have changed.
	refreshEvery = time.Minute
)

// node is the frame of every role but "mysql": it keeps a node's files as the membership
// wants them and its programs running, sees whether it is well, and tells the hooks what
// changed. A role adds its own templates, programs and measurements to what its
// configuration says.
type node struct {
	name string
	self string // the name in the farm
	role farm.Role
	// state is the directory of the sidecar's own files.
	state     string
	source    membership.Source
	templates []render.Template
	values    any        // for the role's own templates
	programs  []*program // in the order of their start; the first is the main one
	checks    []*check
	drain     drainer
	releases  *releases // nil without
	tools     Tools
	farm      *nodeFarm
	// departs: the farm itself tells the hooks who leaves, see package departure.
	departs    bool
	unheard    bool // the last report failed; for who reports
	published  publisher
	attributes map[string]string // what the node says of itself while it is well

	news chan struct{} // holds one while there is something to look at
	mu   sync.Mutex
	heard
}

// heard is what others told the role's loop.
type heard struct {
	members *membership.Snapshot // the newest, nil before the first
	trouble error                // why the source cannot tell any more
	// ran are the programs, and found the health checks: as node has them.
	ran   []ran
	found []verdict
}

// ran is how a program is.
type ran struct {
	pid     int
	trouble error // why it does not run
}

// newNode returns the frame of the configuration's role. own are the role's own programs, the
// main one first.
func newNode(c config.Config, tools Tools, own ...*program) (*node, error) {
	f := c.Frame()
	if f.Directory != "" {
		if err := os.MkdirAll(f.Directory, 0o755); err != nil {
			return nil, fmt.Errorf("the role's directory: %w", err)
		}
	}
	n := &node{
		name: c.Name, self: c.NodeName(), role: farm.Role(c.Role), state: c.State, tools: tools,
		departs: c.Membership.Source == "registry", news: make(chan struct{}, 1), attributes: c.Attributes(),
	}
	var err error
	if n.source, err = sources[c.Membership.Source](c.Membership, tools); err != nil {
		return nil, fmt.Errorf("membership.source: %s: %w", c.Membership.Source, err)
	}
	n.farm = newNodeFarm(n.self, tools)
	n.published = publisher{farm: n.farm, log: tools.Log}
	for _, p := range own {
		n.add(p)
	}
	for _, one := range f.Programs {
		one.Environment = maps.Clone(one.Environment)
		for _, m := range f.Mounts {
			if one.Environment == nil {
				one.Environment = map[string]string{}
			}
			one.Environment[m.Variable()] = m.Path
		}
		p, err := newProgram(one, c.State)
		if err != nil {
			return nil, fmt.Errorf("program %s: %w", one.Name, err)
		}
		n.add(p)
	}
	for _, t := range f.Templates {
		n.templates = append(n.templates, n.template(t, c.Secrets()))
	}
	users := slices.Clone(n.programs)
	for _, m := range f.Mounts {
		if err := n.mount(c, m, users); err != nil {
			return nil, fmt.Errorf("mount the storage %s: %w", m.Storage, err)
		}
	}
	for _, h := range f.Health {
		n.check(newCheck(h))
	}
	n.drain = newDrainer(f.Drain, time.Duration(f.DrainLimit), n.farm, tools.Log)
	return n, nil
}

// add has one more program kept.
func (n *node) add(p *program) {
	at := len(n.programs)
	p.ended = make(chan struct{})
	p.output, p.log = n.tools.Output, n.tools.Log.With(zap.String("program", p.name))
	p.told = func(pid int, trouble error) { n.hear(func(h *heard) { h.ran[at] = ran{pid, trouble} }) }
	n.programs, n.ran = append(n.programs, p), append(n.ran, ran{})
}

// check has one more health check made.
func (n *node) check(c *check) { n.checks, n.found = append(n.checks, c), append(n.found, verdict{}) }

// program returns the one with the name; nil if there is none.
func (n *node) program(name string) *program {
	for _, p := range n.programs {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (n *node) template(t config.Template, secrets []string) render.Template {
	r := render.Template{
		Source: t.Template, Destination: t.Destination, Mode: fs.FileMode(t.Mode), Check: t.Check, Reload: t.Reload, Limit: time.Duration(t.TimeLimit),
		Secrets: secrets,
	}
	if r.Mode == 0 {
		r.Mode = 0o644
	}
	if r.Limit == 0 {
		r.Limit = 10 * time.Second
	}
	if p := n.program(t.Program); p != nil {
		r.Signal = p.reload
	}
	return r
}

// Changed implements [membership.Observer].
func (n *node) Changed(s membership.Snapshot) {
	n.published.atOnce(s)
	n.hear(func(h *heard) { h.members, h.trouble = &s, nil })
}

// Trouble implements [membership.Observer].
func (n *node) Trouble(err error) {
	again := false // it is told at every look
	n.hear(func(h *heard) { again, h.trouble = h.trouble != nil && h.trouble.Error() == err.Error(), err })
	if !again {
		n.tools.Log.Error("the membership cannot be told; what was known stays", zap.Error(err))
	}
}

func (n *node) hear(change func(*heard)) {
	n.mu.Lock()
	change(&n.heard)
	n.mu.Unlock()
	select {
	case n.news <- struct{}{}:
	default:
	}
}

// Run implements [Role].
func (n *node) Run(finish, now context.Context) error {
	n.report(report.Report{State: report.Starting}, false)
	kept, err := readSeen(n.state)
	if err != nil {
		return err
	}
	loop := &nodeLoop{node: n, seen: kept, put: map[string]bool{}, ready: make(chan struct{})}
	if n.published.path != "" {
		// Whoever wrote it may have known more than we do.
		if term := written(n.published.path, n.published.cluster); term.Epoch > loop.seen.Term.Epoch {
			loop.seen.Term = term
		}
	}
	n.published.term = loop.seen.Term
	group := service.NewGroup(finish)
	group.Go("membership", func(ctx context.Context) error { return n.source.Run(ctx, n) })
	group.Go("role", loop.run)
	group.Go("drain", n.drain.run)
	if n.releases != nil {
		group.Go("releases", n.releases.run)
	}
	if n.farm != nil {
		group.Go("reports to the farm", n.farm.run)
		group.Go("load", n.farm.measure)
	}
	for i, c := range n.checks {
		group.Go("health", func(ctx context.Context) error {
			c.watch(ctx, func(v verdict) { n.hear(func(h *heard) { h.found[i] = v }) })
			return nil
		})
	}
	for _, p := range n.programs {
		group.Go("program "+p.name, func(ctx context.Context) error { return p.hold(ctx, now, loop.ready) })
	}
	err = group.Wait()
	n.report(report.Report{State: report.Stopped}, false)
	return err
}

// report says how the node is. That nobody hears it is no reason to stop traffic,
// as ending the role would.
func (n *node) report(r report.Report, well bool) {
	n.farm.is(r, well)
	r.Time, r.Name, r.Role = time.Now().UTC(), n.name, n.role
	err := n.tools.Report(r)
	if err != nil && !n.unheard {
		n.tools.Log.Error("nobody hears the node's reports; it goes on", zap.Error(err))
	}
	n.unheard = err != nil
}

// nodeLoop is the one goroutine that acts on what was heard.
type nodeLoop struct {
	*node
	seen  seen
	put   map[string]bool // ids of the next change's events that are in the spool
	taken *membership.Snapshot
	// failed is what is to be tried again, refused why the newest membership is
	// not taken.
	failed, refused error
	retry           *time.Timer // set while something failed
	wait            time.Duration
	ready           chan struct{} // closed when the programs can start
	isReady         bool
	last            report.Report
	announced       *bool // whether the others believe that the node is well; nil: not told
}

func (l *nodeLoop) run(ctx context.Context) error {
	tick, refresh := time.NewTicker(reportEvery), time.NewTicker(refreshEvery)
	defer tick.Stop()
	defer refresh.Stop()
	defer l.stopRetry()
	// Programs need not wait for the membership if their files are there, as when they were
	// running before.
	if l.filesAreThere() {
		l.becomeReady()
	}
	for {
		l.tell(false)
		var again <-chan time.Time
		if l.retry != nil {
			again = l.retry.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.news:
			l.mu.Lock()
			members := l.members
			l.mu.Unlock()
			if members != nil && members != l.taken {
				l.taken, l.wait = members, 0
				l.apply(ctx)
			}
		case <-again:
			l.apply(ctx)
		case <-refresh.C:
			if l.taken != nil && l.retry == nil {
				l.apply(ctx)
			}
		case <-tick.C:
			l.tell(true)
		}
	}
}

// filesAreThere reports whether all files that are made from the membership were once.
func (l *nodeLoop) filesAreThere() bool {
	var files []string
	if l.published.path != "" {
		files = append(files, l.published.path)
	}
	for _, t := range l.templates {
		files = append(files, t.Destination)
	}
	return !slices.ContainsFunc(files, func(file string) bool {
		_, err := os.Stat(file)
		return err != nil
	})
}

func (l *nodeLoop) becomeReady() {
	if !l.isReady {
		l.isReady = true
		close(l.ready)
	}
}

func (l *nodeLoop) stopRetry() {
	if l.retry != nil {
		l.retry.Stop()
	}
	l.retry = nil
}

// apply does all that the newest membership asks for. What fails does not keep
// the rest from being done, and is tried again.
func (l *nodeLoop) apply(ctx context.Context) {
	l.stopRetry()
	members, term, err := membership.Admit(l.seen.Term, *l.taken)
	l.failed, l.refused = nil, err
	if err != nil {
		l.tools.Log.Error("membership refused; what was known stays", zap.Error(err))
		return
	}
	l.drain.leaves(members.Leaves(l.self))
	l.failed = errors.Join(l.published.put(members), l.render(ctx, members), l.events(members, term))
	l.becomeReady()
	if l.failed == nil || ctx.Err() != nil {
		return
	}
	l.wait = min(max(2*l.wait, retryFirst), retryMost)
	l.retry = time.NewTimer(l.wait)
	l.tools.Log.Error("the membership is not carried out in full; tried again", zap.Error(l.failed), zap.Duration("after", l.wait))
}

func (l *nodeLoop) render(ctx context.Context, members membership.Snapshot) error {
	var errs []error
	view := render.NewView(l.self, members)
	view.Values = l.values
	for _, t := range l.templates {
		changed, err := t.Apply(ctx, view, l.state)
		if changed {
			l.tools.Log.Info("file written", zap.String("file", t.Destination))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// events puts into the spool what has changed, and then keeps that it did.
func (l *nodeLoop) events(members membership.Snapshot, term membership.Term) error {
	if membership.Same(l.seen.Members, members) && l.seen.Term == term {
		return nil
	}
	for _, e := range membership.Diff(l.seen.Members, members) {
		if e.Kind == farm.BeforeHostTerminate && l.departs {
			continue
		}
		e.ID, e.Time = l.seen.id(e), time.Now().UTC()
		if l.put[e.ID] {
			continue
		}
		if err := l.tools.Event(e); err != nil {
			return fmt.Errorf("tell the hooks of %s %s: %w", e.Kind, e.Host.Name, err)
		}
		l.tools.Log.Info("event", zap.String("event", e.ID), zap.String("kind", string(e.Kind)), zap.String("host", e.Host.Name),
			zap.String("role", e.Host.Role), zap.String("address", e.Host.Address))
		l.put[e.ID] = true
	}
	next := seen{Nonce: l.seen.Nonce, Generation: l.seen.Generation + 1, Term: term, Members: members}
	if err := next.keep(l.state); err != nil {
		return err
	}
	l.seen, l.put = next, map[string]bool{}
	return nil
}

// tell reports the node's state if it has changed or always.
func (l *nodeLoop) tell(always bool) {
	l.mu.Lock()
	h := l.heard
	h.ran, h.found = slices.Clone(h.ran), slices.Clone(h.found)
	l.mu.Unlock()
	well := h.well()
	state := report.Running
	switch {
	case h.stopped() != nil:
		state = report.Failed
	case h.sick() != nil:
		state = report.Unhealthy
	case l.taken == nil, !well:
		state = report.Starting
	}
	r := report.Report{State: state}
	if len(h.ran) > 0 {
		r.PID = h.ran[0].pid
	}
	if err := errors.Join(h.trouble, l.refused, l.failed, h.stopped(), h.sick()); err != nil {
		r.Detail = err.Error()
	}
	l.announce(well)
	if !always && r == l.last {
		return
	}
	l.last = r
	l.report(r, well)
}

// announce has the others know whether the node is well.
func (l *nodeLoop) announce(well bool) {
	if l.tools.Announce == nil || l.announced != nil && *l.announced == well {
		return
	}
	l.announced = &well
	attributes := maps.Clone(l.attributes)
	if !well {
		attributes[farm.HealthAttribute] = farm.HealthUnwell
	}
	l.tools.Announce(attributes)
}

// stopped is why programs do not run that were to; nil if none was started in vain.
func (h *heard) stopped() error {
	var errs []error
	for _, r := range h.ran {
		errs = append(errs, r.trouble)
	}
	return errors.Join(errs...)
}

// sick is what health checks have found wrong.
func (h *heard) sick() error {
	var errs []error
	for _, v := range h.found {
		if v.state == unwell {
			errs = append(errs, v.why)
		}
	}
	return errors.Join(errs...)
}

// well reports whether all programs run and all health checks say that all is well.
func (h *heard) well() bool {
	return !slices.ContainsFunc(h.ran, func(r ran) bool { return r.pid == 0 }) &&
		!slices.ContainsFunc(h.found, func(v verdict) bool { return v.state != healthy })
}
