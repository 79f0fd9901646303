package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/wire"
)

// value reads a metric.
func value(m prometheus.Metric) int {
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		panic(err) // none that this package makes
	}
	return int(out.GetCounter().GetValue() + out.GetGauge().GetValue())
}

// closed is how many connections the pool has closed for a reason.
func closed(p *Pool, s *farmtest.Server, reason string) int {
	return value(p.metrics.closed.WithLabelValues(s.Name(), reason))
}

func checkCounts(t testing.TB, p *Pool, s *farmtest.Server, want Count) {
	t.Helper()
	if got := p.Counts()[s.Name()]; got != want {
		t.Errorf("the pool counts %+v, not %+v", got, want)
	}
	idle := value(p.metrics.idle.WithLabelValues(s.Name()))
	active := value(p.metrics.active.WithLabelValues(s.Name()))
	if idle != want.Idle || active != want.Active {
		t.Errorf("the metrics are %v idle and %v active, not %+v", idle, active, want)
	}
}

// awaitSessions returns when the server has so many sessions of App's.
func awaitSessions(t testing.TB, s *farmtest.Server, want string) {
	t.Helper()
	farmtest.Eventually(t, want+" sessions are left", func() error {
		rows := s.Query(t, "SELECT COUNT(*) AS n FROM information_schema.processlist WHERE user = 'app'")
		if got := rows[0].String("n"); got != want {
			return fmt.Errorf("%s sessions", got)
		}
		return nil
	})
}

func TestConnectionsAreSharedByLikeSessionsOnly(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	p := newPool(t, testOptions())
	const shape = wire.ClientMultiResults | wire.ClientDeprecateEOF
	open := func(a dbserver.Account, caps wire.Capability, schema string) *Conn {
		t.Helper()
		c, err := p.Get(t.Context(), &Want{Server: s.Describe(), Credential: credential(a), Caps: caps, Schema: schema})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s.Exec(t, "CREATE DATABASE app_other")
	c := open(farmtest.App, shape, farmtest.Schema)
	if !c.MariaDB || c.Secure || c.Server.Name != s.Name() || c.Status&wire.StatusAutocommit == 0 || !c.Caps.Has(shape|wire.ClientSessionTrack) {
		t.Errorf("the connection is %+v", c)
	}
	if got := answer(t, c, "SELECT CONNECTION_ID()"); got != fmt.Sprintf("[[%d]]", c.ThreadID) {
		t.Errorf("ThreadID is %d, and the server says %s", c.ThreadID, got)
	}
	put(p, c)
	for _, x := range []struct {
		what   string
		other  func() *Conn
		shared bool
	}{
		{"the same", func() *Conn { return open(farmtest.App, shape, farmtest.Schema) }, true},
		{"a flag that does not matter", func() *Conn {
			return open(farmtest.App, shape|wire.ClientIgnoreSigpipe|wire.ClientSSL, farmtest.Schema)
		}, true},
		{"another schema", func() *Conn { return open(farmtest.App, shape, "app_other") }, true},
		{"no schema", func() *Conn { return open(farmtest.App, shape, "") }, false},
		{"another shape", func() *Conn { return open(farmtest.App, shape|wire.ClientFoundRows, farmtest.Schema) }, false},
		{"another user", func() *Conn { return open(boss, shape, farmtest.Schema) }, false},
		{"another address", func() *Conn {
			place := s.Describe()
			place.Address = s.Socket()
			other, err := p.Get(t.Context(), &Want{Server: place, Credential: credential(farmtest.App), Caps: shape, Schema: farmtest.Schema})
			if err != nil {
				t.Fatal(err)
			}
			if !other.Secure {
				t.Error("a socket is not secure")
			}
			return other
		}, false},
	} {
		other := x.other()
		if (other == c) != x.shared {
			t.Errorf("%s: shared is %v", x.what, other == c)
		}
		if x.shared {
			put(p, other)
		} else {
			p.Close(other, "test")
		}
	}
	c = open(farmtest.App, shape, farmtest.Schema)
	if err := p.SetMultiStatements(c, []byte{byte(wire.ComSetOption), 0, 0}, true); err != nil {
		t.Fatal(err)
	}
	put(p, c)
	if other := open(farmtest.App, shape, farmtest.Schema); other == c {
		t.Error("a connection that takes several statements is shared with sessions that must not")
	} else {
		p.Close(other, "test")
	}
	if other := open(farmtest.App, shape|wire.ClientMultiStatements, farmtest.Schema); other != c {
		t.Error("a connection that takes several statements is not shared with sessions that may")
	}
	put(p, c)
}

func TestPoolLimits(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	opt := testOptions()
	opt.IdlePerUser = 2
	p := newPool(t, opt)
	var all []*Conn
	for range 3 {
		all = append(all, get(t, p, s, farmtest.App, ""))
	}
	checkCounts(t, p, s, Count{Active: 3})
	for _, c := range all {
		p.Put(c, false) // at once: each finds room when it is given back
	}
	p.work.Wait()
	checkCounts(t, p, s, Count{Idle: 2})
	if n := closed(p, s, "pool full"); n != 1 {
		t.Errorf("%d closed for want of room", n)
	}
	awaitSessions(t, s, "2")

	c := get(t, p, s, farmtest.App, "")
	c.MarkBroken()
	put(p, c)
	checkCounts(t, p, s, Count{Idle: 1})
	c = get(t, p, s, farmtest.App, "")
	p.opt.MaxLifetime = time.Nanosecond
	put(p, c)
	checkCounts(t, p, s, Count{})
	if broken, old := closed(p, s, "broken"), closed(p, s, "too old"); broken != 1 || old != 1 {
		t.Errorf("%d closed as broken, %d as too old", broken, old)
	}
	awaitSessions(t, s, "0")
	if n := s.Counter(t, "Aborted_clients"); n > 1 { // the broken one
		t.Errorf("the server counts %d clients that did not say goodbye", n)
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	opt := testOptions()
	opt.IdleTimeout = 50 * time.Millisecond
	p := newPool(t, opt)
	put(p, get(t, p, s, farmtest.App, ""))
	farmtest.Eventually(t, "the idle connection is closed", func() error {
		if n := closed(p, s, "idle"); n != 1 {
			return fmt.Errorf("%d closed", n)
		}
		return nil
	})
	checkCounts(t, p, s, Count{})
}

func TestKeepAndForget(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	p := newPool(t, testOptions())
	app, other := get(t, p, s, farmtest.App, ""), get(t, p, s, boss, "")
	put(p, app)
	put(p, other)
	p.Keep(func(server, address string) bool { return server == s.Name() && address == s.Addr() })
	checkCounts(t, p, s, Count{Idle: 2})
	p.Forget(credential(farmtest.App).Key())
	checkCounts(t, p, s, Count{Idle: 1})
	if c := get(t, p, s, boss, ""); c != other {
		t.Error("another login's connection is gone")
	}
	put(p, other)
	p.Keep(func(string, string) bool { return false })
	checkCounts(t, p, s, Count{})
	if left, changed := closed(p, s, "server left"), closed(p, s, "login changed"); left != 1 || changed != 1 {
		t.Errorf("%d closed with their server, %d with their login", left, changed)
	}
	put(p, get(t, p, s, boss, "")) // in use as long as somebody needs it, and not kept
	checkCounts(t, p, s, Count{})
	p.Keep(func(string, string) bool { return true })
	put(p, get(t, p, s, boss, ""))
	checkCounts(t, p, s, Count{Idle: 1})
}

// TestShutdown: Run ends when nothing is left, and what is given back after is
// closed at once.
func TestShutdown(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	p := NewPool(testOptions(), prometheus.NewRegistry())
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	held := get(t, p, s, farmtest.App, "")
	for range 3 {
		p.Put(get(t, p, s, farmtest.App, ""), false) // its cleaning may still go on
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	checkCounts(t, p, s, Count{Active: 1})
	p.Put(held, false)
	checkCounts(t, p, s, Count{})
	awaitSessions(t, s, "0")
}

func TestStaleConnectionsAreNotHandedOut(t *testing.T) {
	eachFlavor(t, func(t *testing.T, s *farmtest.Server) {
		p := newPool(t, testOptions())
		stale := func(what string, end func(c *Conn)) {
			t.Helper()
			c := get(t, p, s, farmtest.App, farmtest.Schema)
			put(p, c)
			end(c)
			farmtest.Eventually(t, "the pool's connection is dead: "+what, func() error {
				if c.Alive() == nil {
					return errors.New("it lives")
				}
				return nil
			})
			p.mu.Lock()
			c.idleSince = c.idleSince.Add(-unlooked) // as if it had been idle for longer
			p.mu.Unlock()
			next := get(t, p, s, farmtest.App, farmtest.Schema)
			if next == c {
				t.Fatalf("%s: the dead connection was handed out", what)
			}
			if got := answer(t, next, "SELECT 1"); got != "[[1]]" {
				t.Errorf("%s: the new connection answers %s", what, got)
			}
			p.Close(next, "test")
		}
		stale("killed", func(c *Conn) { s.Exec(t, fmt.Sprintf("KILL %d", c.ThreadID)) })
		stale("server stopped", func(*Conn) { s.Restart(t) })
		stale("server killed", func(*Conn) { s.Kill9(t); s.Restart(t) })
		s.Exec(t, "SET GLOBAL wait_timeout = 1")
		stale("timed out", func(*Conn) {})
		if n := closed(p, s, "closed by the server"); n != 4 {
			t.Errorf("%d were closed as dead", n)
		}
	})
}

// TestServerThatFellSilent: an idle connection whose server does not answer any
// more costs no more time than a new one.
func TestServerThatFellSilent(t *testing.T) {
	link := farmtest.NewLink(t, startServer(t, farm.MariaDB).Addr())
	p, reported := reportingPool(t, testOptions())
	p.verifyAfter = 0
	place := farm.Server{Name: "far away", Address: link.Addr()}
	open := func(ctx context.Context) (*Conn, error) {
		return p.Get(ctx, &Want{Server: place, Credential: credential(farmtest.App), Caps: 0, Schema: ""})
	}
	idle := func(n int) {
		t.Helper()
		var all []*Conn
		for range n {
			c, err := open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		for _, c := range all {
			put(p, c)
		}
	}
	idle(3)
	link.Stall()
	p.opt.ConnectTimeout = 100 * time.Millisecond
	begin := time.Now()
	_, err := open(t.Context())
	if connectError(t, err); !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("the error is %v", err)
	}
	if took := time.Since(begin); took > limit/2 {
		t.Errorf("it took %v", took)
	}
	if reported.take() == nil {
		t.Error("the silence was not reported")
	}

	// The one who asks may give up before.
	link.Restore()
	p.opt.ConnectTimeout = limit
	idle(1)
	link.Stall()
	ctx, cancel := context.WithCancelCause(t.Context())
	gaveUp := errors.New("gave up")
	time.AfterFunc(50*time.Millisecond, func() { cancel(gaveUp) })
	if _, err = open(ctx); !errors.Is(err, gaveUp) {
		t.Errorf("the error is %v", err)
	}
	if err := reported.take(); err != nil {
		t.Errorf("reported: %v", err)
	}
	link.Restore()
	idle(1)

	// Connections that were reset on the way are passed over.
	before, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(p, before)
	link.Reset()
	after, err := open(t.Context())
	if err != nil || after == before {
		t.Fatalf("the connection is the same: %v; %v", after == before, err)
	}
	put(p, after)
}

// TestManySessions gives and takes from many goroutines, while others sweep.
func TestManySessions(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	p := newPool(t, testOptions())
	const sessions, rounds = 8, 60
	var wg sync.WaitGroup
	for i := range sessions {
		wg.Go(func() {
			for j := range rounds {
				c, err := p.Get(t.Context(), &Want{Server: s.Describe(), Credential: credential(farmtest.App), Caps: wire.ClientDeprecateEOF, Schema: farmtest.Schema})
				if err != nil {
					t.Error(err)
					return
				}
				mine := fmt.Sprintf("[[%d]]", i*rounds+j)
				rows, refused, err := run(c, fmt.Appendf([]byte{byte(wire.ComQuery)}, "SELECT COALESCE(@seen, %d)", i*rounds+j))
				if err != nil || refused != nil || fmt.Sprint(rows) != mine {
					t.Errorf("%v, %v, %v, not %s", rows, refused, err, mine)
				}
				if _, refused, err := run(c, append([]byte{byte(wire.ComQuery)}, "SET @seen = -1"...)); err != nil || refused != nil {
					t.Error(refused, err)
				}
				if j%10 == 9 {
					c.MarkBroken()
				}
				p.Put(c, false)
			}
		})
	}
	done := make(chan struct{})
	var sweeps sync.WaitGroup
	sweeps.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				p.Keep(func(string, string) bool { return true })
				p.Forget([32]byte{})
				p.Counts()
			}
		}
	})
	wg.Wait()
	close(done)
	sweeps.Wait()
	p.work.Wait()
	n := p.Counts()[s.Name()]
	if n.Active != 0 || n.Idle == 0 || n.Idle > p.opt.IdlePerUser {
		t.Errorf("the pool counts %+v", n)
	}
	checkCounts(t, p, s, n)
}
