package mysqld

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

const (
	compareEvery = time.Second
	compareLimit = 2 * time.Second
	// missingFor is for how long something must be missing. A replica logs nothing of a
	// transaction that changes nothing on it, and seems to lack it until its server
	// writes again, which a primary does twice a second.
	missingFor = 2 * compareEvery
)

// history is what a comparison of the server's transactions with its source's has
// shown.
type history struct {
	mu              sync.Mutex
	errant, missing string
	intact          bool
	// found is what the last comparison has found missing, and those before, since.
	found string
	since time.Time
}

func (h *history) get() (errant, missing string, intact bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.errant, h.missing, h.intact
}

// forget is for data that is new.
func (h *history) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.errant, h.missing, h.intact, h.found = "", "", false, ""
}

// recall is for data that an earlier run has compared.
func (h *history) recall(k kept) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.errant, h.missing = k.Errant, k.Missing
}

func (h *history) setErrant(errant string) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed = h.errant != errant
	h.errant = errant
	return changed
}

// setMissing takes what is found missing now; it counts once that has lasted.
func (h *history) setMissing(found string, now time.Time) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.found != found {
		h.found, h.since = found, now
	}
	if found != "" && now.Sub(h.since) < missingFor {
		return false
	}
	changed = h.missing != found
	h.missing = found
	return changed
}

func (h *history) setIntact(intact bool) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed = h.intact != intact
	h.intact = intact
	return changed
}

// compareHistory compares a follower with its source from time to time. What one of
// them has not does not break replication, and shows nowhere else.
func (a *Agent) compareHistory(ctx context.Context) error {
	var last string
	var seen look
	for {
		p := a.look()
		var err error
		switch {
		case p.server == nil:
		case p.lead != nil:
			a.isIntact(p)
			a.isErrant(p, comparison{})
			a.isMissing(p, comparison{})
		case p.order != nil && p.order.heard && (p.order.task() == cluster.Follow || p.order.task() == cluster.Clone):
			seen, err = a.compare(ctx, p, seen)
		}
		said := ""
		if err != nil && ctx.Err() == nil && p.life.Err() == nil {
			said = err.Error()
		}
		if said != "" && said != last {
			a.o.Log.Warn("not compared with the source", zap.String("source", p.order.source.Name), zap.Error(err))
		}
		last = said
		wait := compareEvery
		if _, _, intact := a.history.get(); (!intact || seen.at != (place{})) && said == "" {
			wait = compareEvery / 10
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// look is what a source had when it was looked at.
type look struct {
	order *order
	had   string
	// at is up to where the server had received, if the source waited; see acknowledgeAgain.
	at place
}

// compare compares the server's history with its source's, which was looked at
// before.
func (a *Agent) compare(ctx context.Context, p picture, before look) (_ look, err error) {
	if !sameWork(before.order, p.order) {
		before = look{}
	}
	unlimited := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, compareLimit, fmt.Errorf("no answer within %v", compareLimit))
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()
	own, err := dial(ctx, p.server)
	if err != nil {
		return look{}, err
	}
	defer func() { err = errors.Join(err, closeConn(own)) }()
	replication := a.Replication()
	source, err := mysqladmin.Dial(ctx, mysqladmin.Target{
		Network: "tcp", Address: p.order.source.Address, User: replication.User, Password: replication.Password, Program: program,
	})
	if err != nil {
		return look{}, fmt.Errorf("source %s: %w", p.order.source.Name, err)
	}
	defer func() { err = errors.Join(err, closeConn(source)) }()
	c, err := a.dialect.compare(ctx, own, source, before.had)
	if err != nil {
		return look{}, err
	}
	if !sameWork(a.look().order, p.order) {
		return look{}, nil
	}
	a.isErrant(p, c)
	a.isMissing(p, c)
	now := look{order: p.order, had: c.seen}
	if err := a.reaches(ctx, p, own, c.sourceHas); err != nil {
		return now, err
	}
	now.at, err = a.acknowledgeAgain(unlimited, p, own, source, before.at)
	return now, err
}

// reaches notes that the server has lost nothing of what it had acknowledged, once
// it has received what its source has: what a replica throws away when it starts it
// gets again from there.
func (a *Agent) reaches(ctx context.Context, p picture, own *mysqladmin.Conn, sourceHas gtid.Position) error {
	if _, _, intact := a.history.get(); intact {
		return nil
	}
	f, err := a.dialect.facts(ctx, own)
	if err != nil {
		return err
	}
	if f.channel != nil && f.channel.Source == p.order.source.Address && f.channel.Receiver == "Yes" && f.received.Contains(sourceHas) {
		a.isIntact(p)
	}
	return nil
}

// isErrant is kept: a server that starts again is not taken for a good one before it
// can be compared.
func (a *Agent) isErrant(p picture, c comparison) {
	if !a.history.setErrant(c.Errant) {
		return
	}
	if c.Errant != "" {
		a.o.Log.Error("the server has transactions that its source has not", zap.String("source", p.order.source.Name), zap.String("transactions", c.Errant))
	}
	if err := a.memory.keep(func(k *kept) { k.Errant, k.ErrantAfter = c.Errant, c.After }); err != nil {
		a.o.Log.Error("the next run will not know of errant transactions", zap.Error(err))
	}
	wake(a.tell)
}

// isMissing is kept as isErrant is.
func (a *Agent) isMissing(p picture, c comparison) {
	if c.unsure || !a.history.setMissing(c.missing, time.Now()) {
		return
	}
	if c.missing != "" {
		a.o.Log.Error("the server lacks transactions that its position says it has", zap.String("source", p.order.source.Name), zap.String("transactions", c.missing))
	}
	if err := a.memory.keep(func(k *kept) { k.Missing = c.missing }); err != nil {
		a.o.Log.Error("the next run will not know of missing transactions", zap.Error(err))
	}
	wake(a.tell)
}

func (a *Agent) isIntact(p picture) {
	if !a.history.setIntact(true) {
		return
	}
	if err := a.memory.keep(func(k *kept) { k.IntactPID = p.server.PID() }); err != nil {
		a.o.Log.Error("the next run will not know that the server is intact", zap.Error(err))
	}
	wake(a.tell)
}

func closeConn(conn *mysqladmin.Conn) error {
	if err := conn.Close(); err != nil && !errors.Is(err, mysqladmin.ErrClosed) {
		return err
	}
	return nil
}
