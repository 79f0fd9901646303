package role

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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

// webRole is the role in reports.
const webRole farm.Role = "web"

// Waits before what did not succeed is tried again.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
)

// web keeps a web node's files and its proxy as the membership wants them, and
// tells the hooks what changed.
type web struct {
	name      string
	config    config.Web
	state     string
	source    membership.Source
	templates []render.Template
	tools     Tools
	farm      *webFarm
	// departs: the farm itself tells the hooks who leaves, see package departure.
	departs   bool
	unheard   bool // the last report failed; for who reports
	published publisher

	news chan struct{} // holds one while there is something to look at
	mu   sync.Mutex
	heard
}

// heard is what others told the role's loop.
type heard struct {
	members *membership.Snapshot // the newest, nil before the first
	trouble error                // why the source cannot tell any more
	pid     int                  // of the proxy
	proxy   error                // why it does not run
}

func newWeb(c config.Config, tools Tools) (Role, error) {
	w := &web{name: c.Name, config: c.Web, state: c.State, tools: tools, departs: c.Membership.Source == "registry", news: make(chan struct{}, 1)}
	var err error
	if w.source, err = sources[c.Membership.Source](c.Membership, tools); err != nil {
		return nil, fmt.Errorf("membership.source: %s: %w", c.Membership.Source, err)
	}
	w.farm = newWebFarm(c.Name, c.Web.Proxy.Metrics, tools)
	w.published = publisher{path: c.Web.Topology, cluster: c.Web.Cluster, farm: w.farm, log: tools.Log}
	for _, t := range c.Web.Templates {
		w.templates = append(w.templates, newTemplate(t, c.Secrets()))
	}
	return w, nil
}

func newTemplate(t config.Template, secrets []string) render.Template {
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
	return r
}

// Changed implements [membership.Observer].
func (w *web) Changed(s membership.Snapshot) {
	w.published.atOnce(s)
	w.hear(func(h *heard) { h.members, h.trouble = &s, nil })
}

// Trouble implements [membership.Observer].
func (w *web) Trouble(err error) {
	w.tools.Log.Error("the membership cannot be told; what was known stays", zap.Error(err))
	w.hear(func(h *heard) { h.trouble = err })
}

func (w *web) hear(change func(*heard)) {
	w.mu.Lock()
	change(&w.heard)
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// Run implements [Role].
func (w *web) Run(finish, now context.Context) error {
	w.report(report.Starting, 0, "")
	kept, err := readSeen(w.state)
	if err != nil {
		return err
	}
	loop := &webLoop{web: w, seen: kept, put: map[string]bool{}, ready: make(chan struct{})}
	if w.config.Topology != "" {
		// Whoever wrote it may have known more than we do.
		if term := written(w.config.Topology, w.config.Cluster); term.Epoch > loop.seen.Term.Epoch {
			loop.seen.Term = term
		}
	}
	w.published.term = loop.seen.Term
	group := service.NewGroup(finish)
	group.Go("membership", func(ctx context.Context) error { return w.source.Run(ctx, w) })
	group.Go("web", loop.run)
	if w.farm != nil {
		group.Go("reports to the farm", w.farm.run)
		group.Go("load", w.farm.measure)
	}
	if len(w.config.Proxy.Command) > 0 {
		group.Go("proxy", func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case <-loop.ready:
			}
			return w.program().keep(ctx, now)
		})
	}
	err = group.Wait()
	w.report(report.Stopped, 0, "")
	return err
}

func (w *web) program() program {
	return program{
		args: w.config.Proxy.Command, stopAfter: time.Duration(w.config.Proxy.StopAfter), output: w.tools.Output, log: w.tools.Log,
		told: func(pid int, trouble error) { w.hear(func(h *heard) { h.pid, h.proxy = pid, trouble }) },
	}
}

// report says how the node is. That nobody hears it is no reason to stop traffic,
// as ending the role would.
func (w *web) report(state report.State, pid int, detail string) {
	w.farm.is(state, pid, detail)
	err := w.tools.Report(report.Report{Time: time.Now().UTC(), Name: w.name, Role: webRole, State: state, PID: pid, Detail: detail})
	if err != nil && !w.unheard {
		w.tools.Log.Error("nobody hears the node's reports; it goes on", zap.Error(err))
	}
	w.unheard = err != nil
}

// webLoop is the one goroutine that acts on what was heard.
type webLoop struct {
	*web
	seen  seen
	put   map[string]bool // ids of the next change's events that are in the spool
	taken *membership.Snapshot
	// failed is what is to be tried again, refused why the newest membership is
	// not taken.
	failed, refused error
	retry           *time.Timer // set while something failed
	wait            time.Duration
	ready           chan struct{} // closed when the proxy can start
	isReady         bool
	last            report.Report
}

func (l *webLoop) run(ctx context.Context) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	defer l.stopRetry()
	// The proxy need not wait for the membership if it was running before.
	if l.config.Topology != "" {
		if _, err := os.Stat(l.config.Topology); err == nil {
			l.becomeReady()
		}
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
		case <-tick.C:
			l.tell(true)
		}
	}
}

func (l *webLoop) becomeReady() {
	if !l.isReady {
		l.isReady = true
		close(l.ready)
	}
}

func (l *webLoop) stopRetry() {
	if l.retry != nil {
		l.retry.Stop()
	}
	l.retry = nil
}

// apply does all that the newest membership asks for. What fails does not keep
// the rest from being done, and is tried again.
func (l *webLoop) apply(ctx context.Context) {
	l.stopRetry()
	members, term, err := membership.Admit(l.seen.Term, *l.taken)
	l.failed, l.refused = nil, err
	if err != nil {
		l.tools.Log.Error("membership refused; what was known stays", zap.Error(err))
		return
	}
	l.failed = errors.Join(l.published.put(members), l.render(ctx, members), l.events(members, term))
	l.becomeReady()
	if l.failed == nil || ctx.Err() != nil {
		return
	}
	l.wait = min(max(2*l.wait, retryFirst), retryMost)
	l.retry = time.NewTimer(l.wait)
	l.tools.Log.Error("the membership is not carried out in full; tried again", zap.Error(l.failed), zap.Duration("after", l.wait))
}

func (l *webLoop) render(ctx context.Context, members membership.Snapshot) error {
	var errs []error
	view := render.NewView(l.name, members)
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
func (l *webLoop) events(members membership.Snapshot, term membership.Term) error {
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
func (l *webLoop) tell(always bool) {
	l.mu.Lock()
	h := l.heard
	l.mu.Unlock()
	state := report.Running
	switch {
	case h.proxy != nil:
		state = report.Failed
	case l.taken == nil, l.pidMissing(h):
		state = report.Starting
	}
	var detail string
	if err := errors.Join(h.trouble, l.refused, l.failed, h.proxy); err != nil {
		detail = err.Error()
	}
	if !always && state == l.last.State && h.pid == l.last.PID && detail == l.last.Detail {
		return
	}
	l.last = report.Report{State: state, PID: h.pid, Detail: detail}
	l.report(state, h.pid, detail)
}

func (l *webLoop) pidMissing(h heard) bool { return len(l.config.Proxy.Command) > 0 && h.pid == 0 }
