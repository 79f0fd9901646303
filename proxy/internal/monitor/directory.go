package monitor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"farmhand/internal/mysqladmin"
	"farmhand/proxy/internal/auth"
)

const (
	// maxUsers bounds the users that one query asks for.
	maxUsers = 256
	// maxUserName is longer than any user name of any server, in bytes
	// (MariaDB: 128 characters; MySQL: 32).
	maxUserName = 4 * 128
)

var errStopped = errors.New("the proxy is stopping")

// directory looks users up in the account table. One query at a time is under
// way; all look-ups that come meanwhile share the next one. So logins cost the
// primary round trips, not queries, and every answer is from after its question.
type directory struct {
	monitor *Monitor
	wake    chan struct{} // one slot: next has users
	conn    *mysqladmin.Conn
	server  string // the name of conn's
	address string

	mu      sync.Mutex
	next    *batch
	stopped bool
}

// batch is the look-ups that share a query. The results are written before done
// is closed and only read after.
type batch struct {
	users    map[string]bool
	done     chan struct{}
	accounts map[string][]auth.Account
	err      error
}

func newBatch() *batch {
	return &batch{users: make(map[string]bool), done: make(chan struct{})}
}

func newDirectory(m *Monitor) *directory {
	return &directory{monitor: m, wake: make(chan struct{}, 1), next: newBatch()}
}

// Accounts implements auth.Directory. It asks the primary, or while that does
// not answer, a replica.
func (m *Monitor) Accounts(ctx context.Context, user string) ([]auth.Account, error) {
	if !mayBeUser(user) {
		user = "" // the anonymous accounts are everybody's
	}
	m.metrics.lookups.Inc()
	b, err := m.directory.join(user)
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("look up the account: %w", context.Cause(ctx))
	case <-b.done:
	}
	if b.err != nil {
		return nil, fmt.Errorf("look up the account: %w", b.err)
	}
	if user == "" {
		return slices.Clone(b.accounts[""]), nil
	}
	return slices.Concat(b.accounts[user], b.accounts[""]), nil
}

// mayBeUser tells whether there can be an account of that name. Account tables
// hold names as utf8mb3; a server refuses a whole query, which others share,
// over a name that cannot be converted to it.
func mayBeUser(name string) bool {
	if len(name) > maxUserName || !utf8.ValidString(name) {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return r > 0xffff })
}

// join adds a user to the next query.
func (d *directory) join(user string) (*batch, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return nil, errStopped
	}
	d.next.users[user] = true
	signal(d.wake)
	return d.next, nil
}

// take returns the gathered look-ups; the ones from now on are another batch.
func (d *directory) take(stop bool) *batch {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.next
	d.next, d.stopped = newBatch(), stop
	return b
}

// run answers look-ups until ctx ends, and then refuses them.
func (d *directory) run(ctx context.Context) {
	defer d.close()
	defer func() {
		b := d.take(true)
		b.err = errStopped
		close(b.done)
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		}
		b := d.take(false)
		b.accounts, b.err = d.ask(ctx, slices.Sorted(maps.Keys(b.users)))
		close(b.done)
	}
}

func (d *directory) close() {
	if d.conn != nil {
		_ = d.conn.Close() // how it ends is of no interest
		d.conn = nil
	}
}

// ask asks the servers in turn until one answers.
func (d *directory) ask(ctx context.Context, users []string) (map[string][]auth.Account, error) {
	var tried []string
	for _, s := range askable(d.monitor.View()) {
		accounts, err := d.askServer(ctx, s, users)
		switch {
		case err == nil:
			return accounts, nil
		case ctx.Err() != nil:
			return nil, errStopped
		}
		tried = append(tried, s.Name+": "+err.Error())
	}
	if tried == nil {
		return nil, errors.New("no server can be asked: none answers")
	}
	return nil, fmt.Errorf("no server can be asked: %s", strings.Join(tried, "; "))
}

// askable returns the servers that may know accounts, the best first: the
// primary, sound replicas, and any that answers.
func askable(v *View) []*Server {
	var sound, rest []*Server
	if p := v.Primary; p != nil && p.Status == Up && (p.Eligible || p.Writable) {
		sound = append(sound, p)
	} else if p != nil && p.Status == Up {
		rest = append(rest, p)
	}
	for _, s := range v.Replicas {
		switch {
		case s.Eligible:
			sound = append(sound, s)
		case s.Status == Up:
			rest = append(rest, s)
		}
	}
	return append(sound, rest...)
}

func (d *directory) askServer(ctx context.Context, s *Server, users []string) (map[string][]auth.Account, error) {
	kept := d.conn != nil && d.server == s.Name && d.address == s.Address
	accounts, err := d.query(ctx, s, kept, users)
	if err != nil && kept && mysqladmin.Code(err) == 0 && !tookTooLong(err) {
		// The server may have closed a connection that was idle for long.
		accounts, err = d.query(ctx, s, false, users)
	}
	if err != nil && mysqladmin.Code(err) == 0 && ctx.Err() == nil {
		d.monitor.Report(s.Name, err)
	}
	return accounts, err
}

func (d *directory) query(ctx context.Context, s *Server, kept bool, users []string) (map[string][]auth.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, d.monitor.config.Timeout)
	defer cancel()
	if !kept {
		d.close()
		conn, err := d.monitor.Dial(ctx, s.Server)
		if err != nil {
			return nil, err
		}
		d.conn, d.server, d.address = conn, s.Name, s.Address
	}
	all := make(map[string][]auth.Account)
	for chunk := range slices.Chunk(users, maxUsers) {
		d.monitor.metrics.queries.Inc()
		accounts, err := readAccounts(ctx, d.conn, chunk)
		if err != nil {
			if mysqladmin.Code(err) == 0 {
				d.close()
			}
			return nil, err
		}
		for _, a := range accounts {
			if a.User != "" || all[""] == nil || !slices.ContainsFunc(all[""], sameRow(a)) {
				all[a.User] = append(all[a.User], a)
			}
		}
	}
	return all, nil
}

// sameRow recognises an anonymous account that an earlier chunk has brought.
func sameRow(a auth.Account) func(auth.Account) bool {
	return func(b auth.Account) bool {
		return a.Host == b.Host && a.Plugin == b.Plugin && string(a.AuthString) == string(b.AuthString)
	}
}
