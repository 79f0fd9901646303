package mysqld

import (
	"context"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
)

const (
	// guardEvery is how often the lease is looked at.
	guardEvery = 100 * time.Millisecond
	// guardGrace is how long a sidecar that has just begun may be without a lease:
	// that of the run before has to end first.
	guardGrace = 10 * time.Second
	// acknowledged is how old the last commit of a heartbeat may be to show that
	// followers acknowledge.
	acknowledged = 2 * time.Second
)

// guard kills a primary that may have been replaced.
//
// Whoever replaces a primary first has the followers stop receiving, or waits until
// the primary's lease has lapsed. So a primary whose commits are acknowledged has
// not been replaced, and one with a lease need not fear it. One with neither is
// killed: read_only would not stop administrators, and would wait for commits, and
// a clean shutdown would tell clients of commits that nobody has acknowledged.
func (a *Agent) guard(ctx context.Context) error {
	for {
		p := a.look()
		if why := fences(p, time.Now(), a.o.Farm.Until(), a.began, a.beat.committed()); why != "" {
			a.o.Log.Error("the server is killed", zap.String("why", why), zap.Int("pid", p.server.PID()))
			p.server.Kill()
		}
		if err := pause(ctx, guardEvery); err != nil {
			return err
		}
	}
}

// fences says why the server must not go on; empty if it may.
func fences(p picture, now, until, began, beat time.Time) string {
	switch {
	case p.server == nil || p.order.task() != cluster.Lead || p.order.alone():
		return ""
	case p.lead == nil && p.order.heard:
		return "" // it does not lead yet, and will not without a lease
	case now.Before(until):
		return ""
	case until.IsZero() && now.Sub(began) < guardGrace:
		return ""
	case p.order.assignment.SemiSync && now.Sub(beat) < acknowledged:
		return ""
	}
	return "its lease in the registry has lapsed and nobody acknowledges its commits: it may have been replaced"
}
