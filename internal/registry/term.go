package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// Term is one time of one leader. The zero Term is nobody's and guards nothing:
// every write under it is refused.
type Term struct {
	Number int64  // of the term: the revision of the leader's key; a later term has a higher one
	Leader string // who leads
	key    string // that stands while the term lasts
}

// ErrDeposed: the term under which something was to be done is over.
var ErrDeposed = errors.New("the term is over: another leader may decide now")

// guard is the condition that the term lasts. A key that was made again has
// another revision, so an old term never comes back.
func (t Term) guard() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(t.key), "=", t.Number)
}

// check refuses a term that nobody was elected for: a key that is missing has
// the revision 0, which is what a zero Term would compare with.
func (t Term) check() error {
	if t.key == "" || t.Number <= 0 {
		return fmt.Errorf("%w: there was no election", ErrDeposed)
	}
	return nil
}

// Lead waits until who is elected leader, runs lead for as long as the term
// lasts and gives the leadership back. The context of lead ends with the cause
// ErrDeposed when the lease was not renewed in time; lead must then return.
// Lead returns what lead returned, ErrDeposed if the term ended before lead did,
// or why there was no election; to lead again is for the caller.
func (c *Client) Lead(ctx context.Context, who string, lease time.Duration, lead func(context.Context, Term) error) (err error) {
	if lease < MinLease || lease > MaxLease || lease%time.Second != 0 {
		return fmt.Errorf("lead: a lease of %v is not possible; expected whole seconds from %v to %v", lease, MinLease, MaxLease)
	}
	session, err := c.session(ctx, lease)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.endSession(session)) }()

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watching := make(chan struct{})
	defer func() { stop(nil); <-watching }()
	go func() {
		defer close(watching)
		select {
		case <-session.Done():
			stop(ErrDeposed)
		case <-ctx.Done():
		}
	}()

	election := concurrency.NewElection(session, c.keys.leader())
	if err := campaign(ctx, election, who); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("registry: wait to be elected as %s: %w", who, context.Cause(ctx))
		}
		return c.failed(err, "be elected as %s", who)
	}
	term := Term{Number: election.Rev(), Leader: who, key: election.Key()}
	c.log.Info("elected", zap.String("leader", who), zap.Int64("term", term.Number))
	defer c.log.Info("term over", zap.String("leader", who), zap.Int64("term", term.Number))
	err = lead(ctx, term)
	if errors.Is(context.Cause(ctx), ErrDeposed) && !errors.Is(err, ErrDeposed) {
		err = errors.Join(ErrDeposed, err)
	}
	return err
}

// campaign is election.Campaign, which when ctx has ended gives its place up and waits for
// an answer to that as long as the client lives. Here it has callLimit: the place ends with
// the lease anyway.
func campaign(ctx context.Context, election *concurrency.Election, who string) error {
	elected := make(chan error, 1)
	go func() { elected <- election.Campaign(ctx, who) }()
	select {
	case err := <-elected:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-elected:
		return err
	case <-time.After(callLimit):
		return context.Cause(ctx)
	}
}

// session is a lease that etcd's client renews. Only its beginning is bound to
// ctx, or else its end could not be told to the registry.
func (c *Client) session(ctx context.Context, lease time.Duration) (*concurrency.Session, error) {
	call, cancel := limited(ctx)
	defer cancel()
	granted, err := c.etcd.Grant(call, int64(lease/time.Second))
	if err != nil {
		return nil, c.failed(err, "get a lease to lead")
	}
	session, err := concurrency.NewSession(c.etcd, concurrency.WithLease(granted.ID), concurrency.WithContext(context.WithoutCancel(ctx)))
	return session, c.failed(err, "keep the lease to lead")
}

// endSession gives the lease back, and with it the leadership.
func (c *Client) endSession(s *concurrency.Session) error {
	s.Orphan()
	ctx, cancel := limited(context.Background())
	defer cancel()
	_, err := c.etcd.Revoke(ctx, s.Lease())
	if err == nil || is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return c.failed(err, "give back the lease to lead, which ends by itself")
}

// Leader returns the present term; the zero Term if nobody leads.
func (c *Client) Leader(ctx context.Context) (Term, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.Get(ctx, c.keys.leader()+"/", clientv3.WithFirstCreate()...)
	if err != nil {
		return Term{}, c.failed(err, "ask who leads")
	}
	if len(r.Kvs) == 0 {
		return Term{}, nil
	}
	kv := r.Kvs[0]
	return Term{Number: kv.CreateRevision, Leader: string(kv.Value), key: string(kv.Key)}, nil
}
