package mysqld

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"farmhand/internal/mysqladmin"
)

// lead makes the server the one that takes writes; that it takes them comes last.
func (a *Agent) lead(ctx context.Context, p picture) error {
	f, err := a.facts(ctx, p)
	if err != nil {
		return err
	}
	if f.channel != nil {
		if err := a.stopFollowing(ctx, p, f); err != nil {
			return err
		}
	}
	semiSync := p.order.assignment.SemiSync
	// Kept first: clients hear of commits from now on that no other server may have;
	// until others are known to have them.
	if err := a.memory.keep(func(k *kept) { k.LedAsync = !semiSync || k.LedAsync && !p.order.assignment.Durable }); err != nil {
		return err
	}
	if f.semiSync != semiSync {
		if err := a.exec(ctx, p, a.dialect.semiSync(semiSync)); err != nil {
			return err
		}
	}
	if f.readOnly {
		if err := a.leaseHolds(); err != nil {
			return err
		}
		if err := a.stillLeads(ctx, p.order); err != nil {
			return err
		}
		// The answer may have taken long.
		if err := a.leaseHolds(); err != nil {
			return err
		}
		if err := a.exec(ctx, p, slices.Concat(a.dialect.thaw, a.dialect.writable)...); err != nil {
			return err
		}
		a.control.frozen = false
	}
	return a.furnish(ctx, p)
}

// stopFollowing has what was received applied, and forgets the source.
func (a *Agent) stopFollowing(ctx context.Context, p picture, f facts) error {
	if f.lost {
		// The source that had it is to be replaced. Who leads the farm has to choose again.
		return fmt.Errorf("received %v and executed only %v when its replication stopped: the rest is lost here", f.channel.Received, f.executed)
	}
	if f.receiving() {
		if err := a.keepApplying(ctx, p, f); err != nil {
			return err
		}
		if err := a.exec(ctx, p, a.dialect.stopReceiver); err != nil {
			return err
		}
	}
	if err := a.drain(ctx, p); err != nil {
		return err
	}
	return a.exec(ctx, p, a.dialect.stopBoth, a.dialect.forget)
}

// keepApplying starts an applier that has stopped while the receiver runs, so that
// both never stand still.
func (a *Agent) keepApplying(ctx context.Context, p picture, f facts) error {
	if f.applying() {
		return nil
	}
	if err := a.exec(ctx, p, a.dialect.startApplier); err != nil {
		return fmt.Errorf("the applier has stopped (%v): %w", f.channel.ApplierError, err)
	}
	return nil
}

// drain waits until all that was received is applied. The receiver must have
// stopped. An applier that has stopped cannot get there.
func (a *Agent) drain(ctx context.Context, p picture) error {
	for {
		f, err := a.facts(ctx, p)
		if err != nil {
			return err
		}
		switch {
		case f.lost:
			return fmt.Errorf("the applier has stopped (%v) at %v; what was received up to %v is lost", f.channel.ApplierError, f.executed, f.channel.Received)
		case f.drained():
			return nil
		case !f.applying():
			return fmt.Errorf("the applier has stopped at %v, %v was received: %v", f.executed, f.received, f.channel.ApplierError)
		}
		a.say(fmt.Sprintf("applies what was received: %v of %v", f.executed, f.received))
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// errNoLease: a server without a lease may have been replaced, for all it knows.
var errNoLease = errors.New("the lease in the registry does not hold")

func (a *Agent) leaseHolds() error {
	if time.Now().Before(a.o.Farm.Until()) {
		return nil
	}
	return errNoLease
}

// errUserExists is the server's code for an account that is there.
const errUserExists = 1396

// furnish gives a farm without any history the application's account and schema,
// by the binlog, so that followers have them as they have all its data. Later they
// are the application's own: what it drops stays dropped.
func (a *Agent) furnish(ctx context.Context, p picture) error {
	if !a.memory.kept().Fresh {
		return nil
	}
	for _, statement := range a.o.Application {
		if err := a.exec(ctx, p, statement); err != nil && mysqladmin.Code(err) != errUserExists {
			return fmt.Errorf("the application's account and schema: %w", err)
		}
	}
	return a.memory.keep(func(k *kept) { k.Fresh = false })
}
