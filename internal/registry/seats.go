package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Seat is a member of the registry's etcd as its majority knows it.
type Seat struct {
	ID   uint64
	Name string // empty until its server has started for the first time
	Peer string // host:port for the other members
	// Learner: it gets what is written, but has no vote and is not waited for.
	Learner bool
}

// ErrUnsettled: etcd changes its members only if none of the others is away, and has
// been there for five seconds; unless it is that one that is removed.
var ErrUnsettled = errors.New("a member of the registry is away, or has been there for a few seconds only")

// unsettled is err with its meaning.
func unsettled(err error) error {
	if err != nil && is(err, rpctypes.ErrUnhealthy) {
		return fmt.Errorf("%w (%w)", ErrUnsettled, err)
	}
	return err
}

// ErrNotCaughtUp: the member lacks too much of what was written to get a vote.
var ErrNotCaughtUp = errors.New("the new member has not caught up yet")

// Seats lists the members of the registry's etcd.
func (c *Client) Seats(ctx context.Context) ([]Seat, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.MemberList(ctx)
	if err != nil {
		return nil, c.failed(err, "list its members")
	}
	return seats(r.Members), nil
}

func seats(members []*pb.Member) []Seat {
	all := make([]Seat, len(members))
	for i, m := range members {
		all[i] = Seat{ID: m.ID, Name: m.Name, Learner: m.IsLearner}
		if len(m.PeerURLs) > 0 {
			all[i].Peer = strings.TrimPrefix(m.PeerURLs[0], "https://")
		}
	}
	return all
}

// AddSeat makes a member that is a learner, and returns all of them.
func (c *Client) AddSeat(ctx context.Context, peer string) ([]Seat, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.MemberAddAsLearner(ctx, urls([]string{peer}))
	if err != nil {
		return nil, c.failed(unsettled(err), "add the member at %s", peer)
	}
	return seats(r.Members), nil
}

// GiveVote makes a learner a member that is counted; [ErrNotCaughtUp] if it cannot
// be yet. It can be repeated.
func (c *Client) GiveVote(ctx context.Context, id uint64) (err error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	// Another member than the leader hands the question on without saying who asks;
	// the leader refuses that, and is asked again at once, for as long as there is
	// somebody who waits.
	leader, err := c.leadingEndpoint(ctx)
	if err != nil {
		return err
	}
	etcd, err := dial([]string{leader}, c.tls, c.log)
	if err != nil {
		return fmt.Errorf("registry: reach its leader at %s: %w", leader, err)
	}
	defer func() { err = errors.Join(err, etcd.Close()) }()
	_, err = etcd.MemberPromote(ctx, id)
	if err != nil && is(err, rpctypes.ErrMemberLearnerNotReady) {
		return fmt.Errorf("registry: %w", ErrNotCaughtUp)
	}
	return c.failed(unless(err, rpctypes.ErrMemberNotLearner), "give member %x its vote", id)
}

// leadingEndpoint is where the leader of the registry's members answers.
func (c *Client) leadingEndpoint(ctx context.Context) (string, error) {
	var silent error
	for _, endpoint := range c.Endpoints() {
		health, err := c.HealthAt(ctx, endpoint)
		if err == nil && health.Leads {
			return endpoint, nil
		}
		silent = errors.Join(silent, err)
	}
	return "", errors.Join(fmt.Errorf("registry: none of its members leads: %w", ErrUnavailable), silent)
}

// RemoveSeat takes a member away, which its server learns and ends. etcd refuses
// what would leave it without a majority that is there. It can be repeated.
func (c *Client) RemoveSeat(ctx context.Context, id uint64) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	_, err := c.etcd.MemberRemove(ctx, id)
	return c.failed(unsettled(unless(err, rpctypes.ErrMemberNotFound)), "remove member %x", id)
}

// Health is how the registry's server at one endpoint is.
type Health struct {
	Leads bool  // of the members, which is not the scaler that leads
	Size  int64 // of its data, bytes
}

// HealthAt asks the server at endpoint itself.
func (c *Client) HealthAt(ctx context.Context, endpoint string) (Health, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, diagnoseLimit, fmt.Errorf("no answer within %v", diagnoseLimit))
	defer cancel()
	r, err := c.etcd.Status(ctx, "https://"+endpoint)
	if err != nil {
		return Health{}, c.failed(err, "ask %s how it is", endpoint)
	}
	return Health{Leads: r.Leader == r.Header.MemberId, Size: r.DbSize}, nil
}
