package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farm"
)

// Holding is how a node's membership stands.
type Holding struct {
	// Until is the moment before which the registry cannot have given the node
	// up: a full lease after the last renewal that succeeded was *sent*. Zero while
	// there is no membership.
	Until time.Time
	// Waiting is true while another process holds the node's name.
	Waiting bool
	// Err is why the last attempt to join or to renew failed.
	Err error
}

// Bounds of a lease. etcd itself makes a lease last one and a half times its
// election timeout at least.
const (
	MinLease = 2 * time.Second
	MaxLease = 5 * time.Minute
)

// HoldMembership makes m a member, renews its lease until ctx ends and then
// leaves, so that the others know at once. It tells how it stands after each
// attempt; tell must not block, for it is in the way of the next renewal. When
// the lease has lapsed, it joins anew as soon as it can. While another process
// holds the name, it waits until that one's lease has ended.
//
// What changes tells, the member's attributes are from then on; nil for no such changes.
//
// It returns nil after leaving, or an error that no attempt will mend: wrong
// arguments, or ErrDenied. Leaving that fails is an error too; the lease then
// ends by itself.
func (c *Client) HoldMembership(ctx context.Context, m Member, lease time.Duration, changes <-chan map[string]string, tell func(Holding)) error {
	if err := farm.CheckName(m.Name); err != nil {
		return fmt.Errorf("hold a membership: %w", err)
	}
	if lease < MinLease || lease > MaxLease || lease%time.Second != 0 {
		return fmt.Errorf("hold the membership of %s: a lease of %v is not possible; expected whole seconds from %v to %v", m.Name, lease, MinLease, MaxLease)
	}
	h := &holder{c: c, member: m, lease: lease, changes: changes, tell: tell}
	for wait := retryFirst; ; wait = min(2*wait, lease/3) {
		err := h.hold(ctx, func() { wait = retryFirst })
		switch {
		case ctx.Err() != nil:
			return h.leave(ctx)
		case errors.Is(err, ErrDenied):
			return errors.Join(err, h.leave(ctx))
		}
		h.tell(Holding{Err: err})
		if err := pause(ctx, wait); err != nil {
			return h.leave(ctx)
		}
	}
}

type holder struct {
	c      *Client
	member Member
	lease  time.Duration
	// changes tells other attributes; changed says that the registry has not got them yet.
	changes <-chan map[string]string
	changed bool
	tell    func(Holding)
	id      clientv3.LeaseID // 0 for none
}

// hold is one membership, from a new lease until that has lapsed or ctx has
// ended. Its error is never nil.
func (h *holder) hold(ctx context.Context, joined func()) error {
	if err := h.leave(ctx); err != nil { // the lease of the time before, if it is still there
		return err
	}
	until, err := h.grant(ctx)
	if err != nil {
		return err
	}
	if until, err = h.put(ctx, until); err != nil {
		return err
	}
	joined()
	h.tell(Holding{Until: until})
	every := h.lease / 3
	wait := every
	for {
		select {
		case <-time.After(wait):
		case attributes := <-h.changes:
			h.member.Attributes, h.changed = attributes, true
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		// An attempt may take as long as there is between two; and none is worth
		// anything once the lease is over.
		sent := time.Now()
		if !sent.Before(until) {
			return fmt.Errorf("registry: the lease of %s has lapsed", h.member.Name)
		}
		attempt, cancel := context.WithDeadline(ctx, earlier(sent.Add(every), until))
		renewed, err := h.c.etcd.KeepAliveOnce(attempt, h.id)
		cancel()
		switch {
		case err == nil:
			until = sent.Add(time.Duration(renewed.TTL) * time.Second)
			if wait = every; !h.change(ctx) {
				wait = retryFirst
			}
			h.tell(Holding{Until: until})
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case is(err, rpctypes.ErrLeaseNotFound):
			h.id = 0
			return fmt.Errorf("registry: the lease of %s has lapsed: %w", h.member.Name, err)
		default:
			err = h.c.failed(err, "renew the lease of %s", h.member.Name)
			if errors.Is(err, ErrDenied) {
				return err
			}
			wait = min(retryFirst, time.Until(until))
			h.tell(Holding{Until: until, Err: err})
		}
	}
}

// change has the registry take the member's attributes if it has others. False: that is
// to be tried again.
func (h *holder) change(ctx context.Context) bool {
	if !h.changed {
		return true
	}
	value, err := h.member.encode()
	if err != nil {
		return false
	}
	call, cancel := limited(ctx)
	defer cancel()
	// Not without the key: with it the membership has gone.
	key := h.c.keys.session(h.member.Name)
	_, err = h.c.etcd.Txn(call).
		If(clientv3.Compare(clientv3.LeaseValue(key), "=", int64(h.id))).
		Then(clientv3.OpPut(key, value, clientv3.WithLease(h.id))).
		Commit()
	h.changed = err != nil
	return err == nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (h *holder) grant(ctx context.Context) (until time.Time, err error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	sent := time.Now()
	granted, err := h.c.etcd.Grant(ctx, int64(h.lease/time.Second))
	if err != nil {
		return time.Time{}, h.c.failed(err, "get a lease for %s", h.member.Name)
	}
	h.id = granted.ID
	return sent.Add(time.Duration(granted.TTL) * time.Second), nil
}

// put writes the member's key unless somebody else's is there; then it keeps the
// lease and waits for that one to go.
func (h *holder) put(ctx context.Context, until time.Time) (time.Time, error) {
	select { // as of a time without a membership
	case h.member.Attributes = <-h.changes:
	default:
	}
	h.member.Since = time.Now().UTC().Truncate(time.Millisecond)
	value, err := h.member.encode()
	if err != nil {
		return until, err
	}
	key := h.c.keys.session(h.member.Name)
	call, cancel := limited(ctx)
	defer cancel()
	r, err := h.c.etcd.Txn(call).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, value, clientv3.WithLease(h.id))).
		Commit()
	if err != nil {
		return until, h.c.failed(err, "join as %s", h.member.Name)
	}
	if r.Succeeded {
		h.changed = false
		return until, nil
	}
	h.tell(Holding{Waiting: true, Err: fmt.Errorf("registry: join as %s: another process holds this name; waiting until it has left or its lease has lapsed", h.member.Name)})
	if err := h.awaitGone(ctx, key, r.Header.Revision+1); err != nil {
		return until, err
	}
	return until, fmt.Errorf("registry: join as %s: the name is free now", h.member.Name)
}

// awaitGone waits until the key is deleted, at most for two leases: then it is
// looked at anew, and the own lease with it.
func (h *holder) awaitGone(ctx context.Context, key string, from int64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*h.lease, errors.New("the name is still held"))
	defer cancel()
	for response := range h.c.etcd.Watch(clientv3.WithRequireLeader(ctx), key, clientv3.WithRev(from), clientv3.WithFilterPut()) {
		if err := response.Err(); err != nil {
			return h.c.failed(err, "wait for %s", key)
		}
		if len(response.Events) > 0 {
			return nil
		}
	}
	return context.Cause(ctx)
}

// leave gives the lease back, and with it the key. It works after ctx has ended.
func (h *holder) leave(ctx context.Context) error {
	if h.id == 0 {
		return nil
	}
	ctx, cancel := limited(context.WithoutCancel(ctx))
	defer cancel()
	_, err := h.c.etcd.Revoke(ctx, h.id)
	if err == nil || is(err, rpctypes.ErrLeaseNotFound) {
		h.id = 0
		return nil
	}
	return h.c.failed(err, "give back the lease of %s, which ends by itself", h.member.Name)
}
