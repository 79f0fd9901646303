package monitor

import (
	"context"
	"fmt"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
	"farmhand/proxy/internal/rawio"
)

// minPause is the least time from the start of one probe to that of the next,
// as a part of the interval: what the data path reports must not make a storm.
const minPause = 20

// prober probes one server over a connection that it keeps.
type prober struct {
	monitor     *Monitor
	server      farm.Server
	conn        *mysqladmin.Conn // nil while there is none
	variables   map[string]string
	variablesAt time.Time
	load        load
}

// watch probes a server until ctx ends.
func (m *Monitor) watch(ctx context.Context, w *watch) {
	m.mu.Lock()
	p := &prober{monitor: m, server: w.subject.Server}
	m.mu.Unlock()
	defer p.close()

	timer := time.NewTimer(0)
	defer timer.Stop()
	var began time.Time
	for prove := false; ; {
		pause := time.NewTimer(time.Until(began.Add(m.config.Interval / minPause)))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		began = time.Now()
		kept := p.conn != nil && !prove
		outcome := p.probe(ctx, prove)
		if ctx.Err() != nil {
			return
		}
		m.learn(w, outcome)
		if prove = outcome.err != nil && kept; prove {
			// The connection was lost, maybe by itself: a new one tells.
			continue
		}
		// The primary's probe calls the replicas'; their own clock is for when
		// it does not.
		timer.Reset(m.interval(w))
		select {
		case <-ctx.Done():
			return
		case <-w.prove:
			prove = true
		case <-w.probe:
		case <-timer.C:
		}
	}
}

func (m *Monitor) interval(w *watch) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.subject.role == farm.Primary {
		return m.config.Interval
	}
	return m.config.Interval * 5 / 4
}

// probe asks the server everything once. prove has it connect anew, so that
// success says that the server takes connections.
func (p *prober) probe(ctx context.Context, prove bool) (out probe) {
	ctx, cancel := context.WithTimeout(ctx, p.monitor.config.Timeout)
	defer cancel()
	out.sent = time.Now()
	defer func() { out.answered = time.Now() }()
	if p.conn == nil || prove {
		if out.err = p.connect(ctx); out.err != nil {
			return out
		}
	}
	if out.facts, out.err = p.ask(ctx); out.err != nil {
		out.facts = nil
		p.close()
	}
	return out
}

// connect replaces the connection. When the server has no room for another one,
// the old one is kept.
func (p *prober) connect(ctx context.Context) error {
	fresh, err := p.monitor.Dial(ctx, p.server)
	if err == nil || !saturated(err) {
		p.close()
	}
	if err != nil {
		return err
	}
	p.conn, p.variables = fresh, nil
	return nil
}

// close drops the connection, if there is one. How it ends is of no interest.
func (p *prober) close() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

func (p *prober) ask(ctx context.Context) (*facts, error) {
	f := &facts{greeting: p.conn.Greeting()}
	var err error
	if f.state, err = p.conn.State(ctx); err != nil {
		return nil, err
	}
	f.channels, err = p.conn.Replication(ctx)
	switch {
	case mysqladmin.Code(err) != 0:
		f.channelErr = fmt.Sprintf("its replication cannot be seen: %v (grant %s on *.* to the monitor's account)",
			err, p.conn.ReplicationPrivilege())
	case err != nil:
		return nil, err
	}
	if now := time.Now(); p.variables == nil || now.Sub(p.variablesAt) >= p.monitor.config.VariablesEvery {
		if p.variables, err = readVariables(ctx, p.conn); err != nil {
			return nil, err
		}
		p.variablesAt = now
	}
	f.variables = p.variables
	if now := time.Now(); f.greeting.Flavor() == farm.MariaDB && now.Sub(p.load.at) >= loadEvery {
		statements, pages, err := readLoad(ctx, p.conn)
		if err != nil {
			return nil, err
		}
		p.load = p.load.after(now, statements, pages)
	}
	f.diskReads = p.load.perStatement
	if f.state.AheadOfXA {
		if f.branches, err = p.conn.Branches(ctx); err != nil {
			return nil, err
		}
	}
	f.collations, err = p.monitor.collationsOf(ctx, p.conn)
	return f, err
}

// Dial connects to a server with the monitor's account. The connection is the
// caller's to close.
func (m *Monitor) Dial(ctx context.Context, s farm.Server) (*mysqladmin.Conn, error) {
	t := mysqladmin.Target{
		Network:  s.Network(),
		Address:  s.Address,
		User:     m.config.User,
		Password: m.config.password(),
		Program:  "farmhand-proxy-monitor",
		Wrap:     rawio.Wrap, // logins have accounts looked up all the time
	}
	if t.Network == "tcp" {
		t.TLS, t.TLSOptional = m.config.TLS, m.config.TLSOptional
	}
	return mysqladmin.Dial(ctx, t)
}

// collationsOf returns the collations of the connection's server, which it asks
// once for each version.
func (m *Monitor) collationsOf(ctx context.Context, conn *mysqladmin.Conn) (*Collations, error) {
	version := conn.Flavor().String() + " " + conn.Greeting().Version
	m.mu.Lock()
	c := m.collations[version]
	m.mu.Unlock()
	if c != nil {
		return c, nil
	}
	c, err := readCollations(ctx, conn)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.collations[version] = c
	return c, nil
}
