package mysqld

import (
	"context"
	"reflect"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
)

const (
	reportEvery = 500 * time.Millisecond
	// reportOften is how often the server is looked at while it changes and others
	// wait for it; reportOftenFor is for how long after an order at most.
	reportOften    = 25 * time.Millisecond
	reportOftenFor = 10 * time.Second
	// reportLimit bounds one report to the registry.
	reportLimit = time.Second
)

// report tells the farm how the server is, regularly and at every change.
func (a *Agent) report(ctx context.Context) error {
	o := a.newObserver()
	defer o.close()
	var last *cluster.Report
	var order *order
	var ordered time.Time
	var sent time.Time
	lost := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		case <-a.tell:
		}
		p := a.look()
		if p.order != order {
			if !sameWork(p.order, order) {
				ordered = time.Now()
			}
			order = p.order
		}
		r := o.report(ctx, p)
		if news(last, r, changing(p.order)) || time.Since(sent) >= reportEvery {
			sent, last = time.Now(), r
			err := a.send(ctx, r)
			if err != nil != lost && ctx.Err() == nil {
				lost = err != nil
				a.o.Log.Warn("reports to the registry", zap.Bool("lost", lost), zap.Error(err))
			}
			if r.Process == cluster.Crashed {
				a.mu.Lock()
				a.picture.told = a.picture.process == cluster.Crashed
				a.mu.Unlock()
				wake(a.news)
			}
			a.keepOrder(p)
		}
		wait := reportEvery - time.Since(sent)
		if changing(p.order) || time.Since(ordered) < reportOftenFor && moves(r) {
			wait = min(wait, reportOften)
		}
		timer.Reset(max(0, wait))
	}
}

// changing reports whether the cluster's primary is being changed: each step waits for
// what servers say, such as that no transaction is open any more. They are looked at often
// then. Told is only what is news: what all three say forty times a second would keep
// the registry's disk from what it is waited for.
func changing(o *order) bool {
	return o != nil && o.heard && o.assignment.Phase != cluster.Steady
}

// send tells the farm, which may wait for it, and then who listens here.
func (a *Agent) send(ctx context.Context, r *cluster.Report) error {
	data, err := r.Encode()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	err = a.o.Farm.Report(ctx, cluster.ReportName, data)
	if a.o.Heard != nil {
		a.o.Heard(r)
	}
	return err
}

// keepOrder keeps what was heard, after it was acted on and reported: nobody waits
// for the disk.
func (a *Agent) keepOrder(p picture) {
	if p.order == nil || !p.order.heard {
		return
	}
	if err := a.memory.keep(func(k *kept) { k.Assignment = p.order.assignment }); err != nil {
		a.o.Log.Error("the next run will not know the assignment", zap.Error(err))
	}
}

// lastReport says that the server is shut down.
func (a *Agent) lastReport(ctx context.Context) error {
	p := a.look()
	if ctx.Err() != nil {
		return nil
	}
	o := a.newObserver()
	if err := a.send(ctx, o.report(ctx, p)); err != nil {
		a.o.Log.Warn("nobody was told of the server's end", zap.Error(err))
	}
	return nil
}

// news reports whether two reports differ in more than what always does, or, while the
// primary is being changed, in what that waits for.
func news(a, b *cluster.Report, changing bool) bool {
	if a == nil || changing && a.Open != b.Open {
		return true
	}
	x, y := *a, *b
	for _, r := range []*cluster.Report{&x, &y} {
		r.Time, r.Beat, r.ReceivedAge, r.Stalled, r.Open, r.Load = time.Time{}, nil, nil, 0, 0, nil
		if r.Task == cluster.Lead && r.Done {
			r.Executed, r.Received = "", "" // with every write
		}
	}
	return !reflect.DeepEqual(x, y)
}

// moves: the report will soon be another one, for which others wait.
func moves(r *cluster.Report) bool {
	if r.Process != cluster.Running {
		return false
	}
	switch r.Task {
	case cluster.Hold:
		return !r.Done || r.Executed != r.Received
	case cluster.Lead, cluster.Yield, cluster.Follow, cluster.Clone:
		return !r.Done
	}
	return false
}
