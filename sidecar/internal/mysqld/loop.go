package mysqld

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/registry"
)

// Waits before what has failed is tried again.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
	// askAgain is how often a task that waits for something looks for it.
	askAgain = 20 * time.Millisecond
)

// errNewOrder ends what an order of before asked for.
var errNewOrder = errors.New("the assignment has changed")

// errWait is wrapped by the error of a task that is right so far and waits for
// something: it is looked at again soon.
var errWait = errors.New("waiting")

// watch keeps the picture's order the newest assignment.
func (a *Agent) watch(ctx context.Context) error {
	for {
		err := a.o.Farm.Watch(ctx, a.record, func(v registry.Value) error {
			a.hear(v)
			return nil
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.o.Log.Error("the assignment cannot be watched; tried again", zap.Error(err), zap.Duration("after", retryMost))
		if err := pause(ctx, retryMost); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// hear takes a value of the record, if it is newer.
func (a *Agent) hear(v registry.Value) {
	if v.Lost != nil || v.Data == nil {
		return // what was known stays
	}
	assignment, err := cluster.Decode(v.Data)
	if err != nil {
		a.o.Log.Error("the assignment cannot be read; what was known stays", zap.Error(err))
		return
	}
	known := a.look().order
	same := known != nil && !known.heard && known.assignment.Serial == assignment.Serial && known.assignment.Epoch == assignment.Epoch
	if known != nil && !same && !assignment.Newer(known.assignment) {
		if assignment.Serial != known.assignment.Serial {
			a.o.Log.Error("an older assignment is refused", zap.Uint64("serial", assignment.Serial), zap.Uint64("known", known.assignment.Serial))
		}
		return
	}
	a.obey(newOrder(assignment, a.o.Name, true))
}

// obey makes o what is wanted. What the loop does meanwhile is ended if it does
// not serve o.
func (a *Agent) obey(o *order) {
	a.change(func(p *picture) {
		if !sameWork(p.order, o) {
			a.o.Log.Info("order", zap.String("task", string(o.part.Task)), zap.String("source", o.part.Source),
				zap.Uint64("epoch", uint64(o.assignment.Epoch)), zap.Uint64("serial", o.assignment.Serial), zap.String("why", o.assignment.Why))
			p.notBefore, p.detail = time.Time{}, ""
		}
		if o.part.Task != cluster.Clone {
			p.copied = false
		}
		switch o.part.Task {
		case cluster.Lead, cluster.Yield:
			p.deposed = false
		case cluster.Hold, cluster.Follow, cluster.Clone:
			p.deposed = p.deposed || p.process == cluster.Running && (p.lead != nil || p.order.task() == cluster.Lead)
		}
		if o.part.Task != cluster.Lead && p.lead != nil {
			a.endLead()
			p.lead = nil
		}
		if a.cancel != nil && !a.goesOn(o) {
			a.cancel(errNewOrder)
		}
		p.order = o
	})
}

// loop does what next says until ctx ends.
func (a *Agent) loop(ctx context.Context) {
	failures := 0
	var failed *order
	for ctx.Err() == nil {
		p := a.look()
		do, wait := next(p, time.Now())
		if do == rest {
			a.rest(ctx, wait)
			continue
		}
		err := a.do(ctx, do, p)
		switch {
		case err == nil:
			failures = 0
			continue
		case ctx.Err() != nil, errors.Is(err, errNewOrder):
			continue
		}
		again := askAgain
		if !errors.Is(err, errWait) && !errors.Is(err, errNoLease) {
			if !sameWork(failed, p.order) {
				failures = 0
			}
			failed = p.order
			again = min(retryFirst<<min(failures, 10), retryMost)
			failures++
			a.o.Log.Warn("not done; tried again", zap.Stringer("step", do), zap.String("task", string(p.order.task())), zap.Error(err), zap.Duration("after", again))
		}
		a.change(func(now *picture) {
			if now.order == p.order || sameWork(now.order, p.order) {
				now.detail, now.notBefore = err.Error(), time.Now().Add(again)
				if do == carryOut {
					now.carried = nil
				}
			}
		})
	}
}

func (a *Agent) rest(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-a.news:
	}
}

// do does one step. It ends early, with errNewOrder, when a new order comes that
// it does not serve.
func (a *Agent) do(ctx context.Context, s step, p picture) error {
	goesOn := map[step]func(*order) bool{
		makeData:    func(o *order) bool { return o.part.Task == p.order.part.Task },
		copyData:    func(o *order) bool { return sameWork(o, p.order) },
		restoreData: func(o *order) bool { return sameWork(o, p.order) },
		start:       func(o *order) bool { return sameStart(o, p.order) },
		stop:        func(*order) bool { return true },
		kill:        func(*order) bool { return true },
		confirm:     func(o *order) bool { return sameWork(o, p.order) },
		carryOut:    func(o *order) bool { return sameWork(o, p.order) },
	}[s]
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.mu.Lock()
	stale := a.picture.order != p.order && !goesOn(a.picture.order)
	a.cancel, a.goesOn = cancel, goesOn
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.cancel, a.goesOn = nil, nil
		a.mu.Unlock()
	}()
	if stale {
		return errNewOrder
	}
	err := a.act(ctx, s, p)
	if err != nil && errors.Is(context.Cause(ctx), errNewOrder) {
		return errNewOrder
	}
	return err
}

func (a *Agent) act(ctx context.Context, s step, p picture) error {
	switch s {
	case makeData:
		return a.makeData(ctx, p.order)
	case copyData:
		return a.copyData(ctx, p.order)
	case restoreData:
		return a.restoreData(ctx, p.order)
	case start:
		return a.start(ctx, p.order)
	case stop:
		return a.stop(ctx, p)
	case kill:
		a.kill(p)
		return nil
	case confirm:
		return a.confirm(ctx, p.order)
	case carryOut:
		return a.carryOut(ctx, p)
	}
	return fmt.Errorf("nobody knows how to %v", s)
}

// tasks are how a running server does what it is told.
var tasks = map[cluster.Task]func(*Agent, context.Context, picture) error{
	cluster.Lead:   (*Agent).lead,
	cluster.Yield:  (*Agent).yield,
	cluster.Hold:   (*Agent).hold,
	cluster.Follow: (*Agent).follow,
	cluster.Clone:  (*Agent).follow, // the data is copied by then
}

func (a *Agent) carryOut(ctx context.Context, p picture) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A question to a process that is gone must not wait.
	defer context.AfterFunc(p.life, func() { cancel(errors.New("the server's process has ended")) })()
	if err := tasks[p.order.part.Task](a, ctx, p); err != nil {
		return err
	}
	first := false
	a.change(func(now *picture) {
		if now.server != p.server || !sameWork(now.order, p.order) {
			return
		}
		first = !sameWork(now.carried, p.order)
		now.carried, now.verified, now.detail = p.order, time.Now(), ""
		if p.order.part.Task == cluster.Lead && now.lead == nil {
			now.lead, a.endLead = context.WithCancel(p.life)
		}
	})
	if p.aside != "" && p.order.assignment.Confirmed != "" {
		if err := a.clearAside(p.order); err != nil {
			a.o.Log.Error("data from before a restore stays", zap.Error(err))
		}
	}
	if first {
		a.o.Log.Info("task carried out", zap.String("task", string(p.order.part.Task)), zap.String("source", p.order.part.Source))
	}
	return nil
}
