package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"farmhand/internal/mysqladmin"
	"farmhand/scaler/internal/steer"
)

// Account is what servers are looked at with.
type Account struct{ User, Password string }

// prober asks the server that leads whether it is there, as a proxy would: a new
// connection by TCP and one question.
type prober struct {
	interval time.Duration
	wake     func()

	mu      sync.Mutex
	account Account
	address string // empty for nobody
	failed  int
	why     string
}

// aim has the prober ask the server at address from now on; empty for none.
func (p *prober) aim(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.address != address {
		p.address, p.failed, p.why = address, 0, ""
	}
}

// use has the prober look with another account from now on.
func (p *prober) use(a Account) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.account = a
}

// result is what the last probes have shown.
func (p *prober) result() steer.Probe {
	p.mu.Lock()
	defer p.mu.Unlock()
	return steer.Probe{Failed: p.failed, Why: p.why}
}

// run probes until ctx ends.
func (p *prober) run(ctx context.Context) error {
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	for {
		p.mu.Lock()
		address := p.address
		p.mu.Unlock()
		if address != "" {
			p.note(ctx, address, p.probe(ctx, address))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *prober) note(ctx context.Context, address string, err error) {
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	if p.address != address {
		p.mu.Unlock()
		return
	}
	failed := p.failed
	if err == nil {
		p.failed, p.why = 0, ""
	} else {
		p.failed, p.why = p.failed+1, err.Error()
	}
	changed := failed != p.failed
	p.mu.Unlock()
	if changed {
		p.wake()
	}
}

var errNoAnswer = errors.New("no answer in time")

// probe returns nil if the server answered, also if it did so by refusing.
func (p *prober) probe(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.interval, errNoAnswer)
	defer cancel()
	p.mu.Lock()
	account := p.account
	p.mu.Unlock()
	conn, err := mysqladmin.Dial(ctx, mysqladmin.Target{
		Network: "tcp", Address: address, User: account.User, Password: account.Password, Program: "farmhand scaler",
	})
	if err == nil {
		_, err = conn.Query(ctx, "SELECT 1")
		if cerr := conn.Close(); err == nil && !errors.Is(cerr, mysqladmin.ErrClosed) {
			err = cerr
		}
	}
	if mysqladmin.Code(err) != 0 {
		return nil
	}
	return err
}
