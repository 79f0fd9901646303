package mysqld

import (
	"context"
	"fmt"
	"net"
	"time"

	"farmhand/internal/cluster"
)

// restartBroken is how often replication that has stopped with an error is started
// again: what was in its way may have been mended.
const restartBroken = 2 * time.Second

// follow has the server replicate from the order's source, read-only.
func (a *Agent) follow(ctx context.Context, p picture) error {
	f, err := a.facts(ctx, p)
	if err != nil {
		return err
	}
	if err := a.thaw(ctx, p); err != nil {
		return err
	}
	if !f.readOnly {
		if err := a.refuseWrites(ctx, p); err != nil {
			return err
		}
	}
	if f.semiSync {
		// No client waits any more that could take this for an acknowledgement.
		if err := a.exec(ctx, p, a.dialect.semiSync(false)); err != nil {
			return err
		}
	}
	source := p.order.source.Address
	if f.channel == nil || f.channel.Source != source || !f.channel.UsesGTID || a.stalePassword() && a.mayReconnect(f) {
		if err := a.changeSource(ctx, p, f); err != nil {
			return err
		}
	} else if err := a.goOn(ctx, p, f); err != nil {
		return err
	}
	return a.awaitFollowing(ctx, p)
}

// changeSource makes the server follow another server than before, or its first.
func (a *Agent) changeSource(ctx context.Context, p picture, f facts) error {
	if f.channel != nil && !f.lost {
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
	}
	host, port, err := net.SplitHostPort(p.order.source.Address)
	if err != nil {
		return err
	}
	account, _, change := a.accounts.get()
	if a.dialect.changeServer != nil && f.channel != nil && f.channel.UsesGTID && !f.lost {
		return a.changed(change, a.exec(ctx, p, a.dialect.stopReceiver,
			a.dialect.changeServer(host, port, account.User, account.Password),
			a.dialect.acknowledge(p.order.part.Acknowledges), a.dialect.startBoth))
	}
	statements := []string{a.dialect.stopBoth}
	if f.channel == nil && f.own {
		statements = append(statements, a.dialect.adoptOwn(f.executed)...)
	}
	return a.changed(change, a.exec(ctx, p, append(statements,
		a.dialect.changeSource(host, port, account.User, account.Password),
		a.dialect.acknowledge(p.order.part.Acknowledges), a.dialect.startBoth)...))
}

// changed notes that what the server follows with has gone through a change of passwords,
// unless it failed.
func (a *Agent) changed(change string, err error) error {
	if err != nil || change == "" {
		return err
	}
	return a.memory.keep(func(k *kept) { k.Passwords = change })
}

// mayReconnect reports whether the receiver may be stopped for a moment in order to give
// it another password: what it has received is nearly applied, so that the wait for that,
// in which it acknowledges nothing, is short. One that has stopped anyhow needs no more.
func (a *Agent) mayReconnect(f facts) bool {
	behind := time.Duration(a.behind.Load())
	return !f.receiving() || f.drained() || behind > 0 && behind < nearlyApplied
}

// nearlyApplied is how far a replica may be behind whose receiver is stopped for a moment.
const nearlyApplied = 2 * time.Second

// goOn starts what has stopped of the following of the right source, and makes the
// receiver one that acknowledges, or not, as is asked for.
func (a *Agent) goOn(ctx context.Context, p picture, f facts) error {
	c := f.channel
	switch {
	case (c.ReceiverError.Code != 0 && c.Receiver == "No" || c.ApplierError.Code != 0) && time.Since(a.control.restarted) < restartBroken:
		return nil // it is seen below what is wrong
	case c.Receiver == "No" && c.Applier == "No":
		a.control.restarted = time.Now()
		return a.exec(ctx, p, a.dialect.acknowledge(p.order.part.Acknowledges), a.dialect.startBoth)
	}
	if c.Applier == "No" {
		a.control.restarted = time.Now()
		if err := a.exec(ctx, p, a.dialect.startApplier); err != nil {
			return err
		}
	}
	switch {
	case c.Receiver == "No":
		a.control.restarted = time.Now()
		return a.exec(ctx, p, a.dialect.acknowledge(p.order.part.Acknowledges), a.dialect.startReceiver)
	case c.Receiver == "Yes" && f.acknowledges != p.order.part.Acknowledges:
		// It agrees on it with its source when it connects.
		return a.exec(ctx, p, a.dialect.acknowledge(p.order.part.Acknowledges), a.dialect.stopReceiver, a.dialect.startReceiver)
	case c.Receiver != "Yes":
		return a.exec(ctx, p, a.dialect.acknowledge(p.order.part.Acknowledges))
	}
	return nil
}

// awaitFollowing waits until both threads run.
func (a *Agent) awaitFollowing(ctx context.Context, p picture) error {
	for {
		f, err := a.facts(ctx, p)
		if err != nil {
			return err
		}
		c := f.channel
		if c == nil {
			return fmt.Errorf("follows nobody")
		}
		if c.Receiver == "Yes" && c.Applier == "Yes" && f.readOnly && f.acknowledges == p.order.part.Acknowledges {
			break
		}
		problem := fmt.Errorf("follows %s: receiver %s, applier %s, acknowledges: %v", c.Source, c.Receiver, c.Applier, f.acknowledges)
		for _, e := range []string{c.ReceiverError.String(), c.ApplierError.String()} {
			if e != "" {
				problem = fmt.Errorf("%w; %s", problem, e)
			}
		}
		if c.Receiver == "No" || c.Applier == "No" {
			return problem
		}
		a.say(problem.Error())
		if c.Receiver == "Yes" {
			return fmt.Errorf("%w: %w", errWait, problem)
		}
		if err := pause(ctx, askAgain); err != nil {
			return err
		}
	}
	// What the server wrote itself is in its source by now, or errant, which is seen
	// from now on (errant.go).
	return a.memory.keep(func(k *kept) {
		k.LedAsync, k.Fresh = false, false
		if p.order.task() != cluster.Clone {
			k.Copied = ""
		}
	})
}
