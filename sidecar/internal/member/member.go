// Package member keeps a node a member of its farm: it joins it, renews the
// node's lease in the registry and its certificate, and is the way by which the
// rest of the sidecar reads the registry and reports.
//
// It decides nothing about the role that the node has. Losing the registry is
// told (Until), and waited for.
//
// Invariants:
//   - When it ends in order the node has left, and when it is killed the node is
//     gone once the lease has lapsed.
//   - Until is never later than the moment before which the registry cannot have
//     given the node up.
package member

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/enrol"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

// Options are what a membership is like.
type Options struct {
	Dir     string // of the node, as enrol.Join left it
	Address string // where the node's service is reached; may be empty
	Lease   time.Duration
	// Attributes are what the node says of itself from the beginning; see [Member.Announce].
	Attributes map[string]string
	// Told gets how the membership stands, at every change: "member", "waiting" (another
	// process has the name), "not a member" or "left". Nil for nobody.
	Told func(state string)
	Log  *zap.Logger
}

// Member is a node of a farm. Its methods may be called from any goroutine.
type Member struct {
	*registry.Client
	Node enrol.Node

	o     Options
	until atomic.Pointer[time.Time] // nil: no member
	notes chan registry.Entry
	// attributes are new ones, the newest only.
	attributes chan map[string]string
}

// Announce has the other nodes know what this one says of itself, by the names that
// package farm has. It does not wait. One goroutine may call it.
func (m *Member) Announce(attributes map[string]string) {
	select { // only the newest counts
	case <-m.attributes:
	default:
	}
	m.attributes <- attributes
}

// Open reads who the node is. It does not wait for the registry to answer.
func Open(o Options) (*Member, error) {
	node, err := enrol.Read(o.Dir)
	if err != nil {
		return nil, err
	}
	client, err := registry.Open(registry.Options{Farm: node.Farm, Endpoints: node.Endpoints, Files: enrol.RegistryFiles(o.Dir), Log: o.Log})
	if err != nil {
		return nil, err
	}
	if client.Name() != node.Name {
		return nil, errors.Join(fmt.Errorf("the certificate in %s is for %q, the node is %q", o.Dir, client.Name(), node.Name), client.Close())
	}
	if o.Told == nil {
		o.Told = func(string) {}
	}
	return &Member{Client: client, Node: node, o: o, notes: make(chan registry.Entry, maxNotes), attributes: make(chan map[string]string, 1)}, nil
}

// Until is the moment until which the node is a member for sure; zero if it is
// none.
func (m *Member) Until() time.Time {
	if until := m.until.Load(); until != nil {
		return *until
	}
	return time.Time{}
}

// ErrExpelled: the farm does not know the node any more.
var ErrExpelled = errors.New("the node was expelled from its farm")

// Bounds of the doubt whether the node was expelled: one answer may be of a
// registry that is being set up.
const (
	doubtFor   = 5 * time.Second
	doubtEvery = 500 * time.Millisecond
)

// Run is a member until ctx ends, and then leaves. It returns an error only for
// what no attempt will mend, such as ErrExpelled.
func (m *Member) Run(ctx context.Context) error {
	group := service.NewGroup(ctx)
	s := &standing{m: m, diagnose: func() {
		// Not here, in the way of the next attempt.
		group.Go("diagnosis", func(ctx context.Context) error {
			if err := m.Diagnose(ctx); err != nil && ctx.Err() == nil {
				m.o.Log.Warn("registry cannot be reached", zap.Error(err))
			}
			return nil
		})
	}}
	group.Go("membership", func(ctx context.Context) error { return m.hold(ctx, s) })
	group.Go("journal", m.journal)
	group.Go("certificate", m.keepCertificate)
	group.Go("control nodes", m.followScalers)
	return group.Wait()
}

// keepCertificate renews the certificate when it is time. That it cannot is no
// reason to give up the membership, which lasts as long as the certificate.
func (m *Member) keepCertificate(ctx context.Context) error {
	for {
		err := enrol.KeepRenewed(ctx, m.o.Dir, func(err error) {
			if err != nil {
				m.o.Log.Warn("certificate not renewed", zap.Error(err))
				return
			}
			m.o.Log.Info("certificate renewed")
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m.o.Log.Error("the certificate cannot be looked after; tried again", zap.Error(err), zap.Duration("after", certificateRetry))
		select {
		case <-time.After(certificateRetry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

const certificateRetry = time.Minute

// hold holds the membership, also over answers that deny it and are taken back.
func (m *Member) hold(ctx context.Context, s *standing) error {
	defer m.until.Store(nil)
	member := registry.Member{Name: m.Node.Name, Role: m.Node.Role, Address: m.o.Address, Attributes: m.o.Attributes}
	var denied time.Time // since when
	for {
		err := m.HoldMembership(ctx, member, m.o.Lease, m.attributes, func(h registry.Holding) {
			if !h.Until.IsZero() {
				denied = time.Time{}
			}
			s.told(h)
		})
		m.until.Store(nil)
		switch {
		case err == nil:
			s.say("left")
			return nil
		case !errors.Is(err, registry.ErrDenied) || ctx.Err() != nil:
			return err
		case denied.IsZero():
			denied = time.Now()
			s.told(registry.Holding{Err: err})
		case time.Since(denied) > doubtFor:
			return fmt.Errorf("%w: %w", ErrExpelled, err)
		}
		select {
		case <-time.After(doubtEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// standing makes a story of the attempts: only what changes is told.
type standing struct {
	m        *Member
	diagnose func()
	last     string
}

func (s *standing) told(h registry.Holding) {
	if h.Until.IsZero() {
		s.m.until.Store(nil)
	} else {
		s.m.until.Store(&h.Until)
	}
	now := "member"
	switch {
	case h.Waiting:
		now = "waiting"
	case h.Until.IsZero():
		now = "not a member"
	case h.Err != nil:
		return // it is one still, and the next attempt may succeed
	}
	if now == s.last {
		return
	}
	s.say(now)
	if h.Err == nil {
		return
	}
	s.m.o.Log.Warn("no membership", zap.String("state", now), zap.Error(h.Err))
	if errors.Is(h.Err, registry.ErrUnavailable) {
		s.diagnose()
	}
}

func (s *standing) say(state string) {
	s.last = state
	s.m.o.Told(state)
}
