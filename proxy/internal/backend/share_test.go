package backend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/proxy/internal/rawio"
	"farmhand/proxy/internal/wire"
)

// sharingPool is a pool that allows so many connections to a server.
func sharingPool(t *testing.T, most, perUser int) *Pool {
	t.Helper()
	opt := testOptions()
	opt.MaxPerServer, opt.MaxPerUser, opt.WaitTimeout = most, perUser, limit
	return newPool(t, opt)
}

func want(s *farmtest.Server, a dbserver.Account, settings *Settings) *Want {
	return &Want{
		Server: s.Describe(), Credential: credential(a), Caps: wire.ClientMultiResults | wire.ClientDeprecateEOF,
		Schema: farmtest.Schema, Settings: settings,
	}
}

// asked is a Get under way.
type asked struct {
	conn *Conn
	err  error
}

func ask(ctx context.Context, p *Pool, w *Want) <-chan asked {
	got := make(chan asked, 1)
	go func() {
		c, err := p.Get(ctx, w)
		got <- asked{c, err}
	}()
	return got
}

func answered(t *testing.T, got <-chan asked) *Conn {
	t.Helper()
	select {
	case a := <-got:
		if a.err != nil {
			t.Fatal(a.err)
		}
		return a.conn
	case <-time.After(limit):
		t.Fatal("nobody was given a connection")
	}
	return nil
}

// awaitWaiting returns when so many wait for a connection to a server.
func awaitWaiting(t *testing.T, p *Pool, s *farmtest.Server, n int) {
	t.Helper()
	farmtest.Eventually(t, fmt.Sprintf("%d wait", n), func() error {
		if got := p.Counts()[s.Name()].Waiting; got != n {
			return fmt.Errorf("%d wait", got)
		}
		return nil
	})
}

func TestLentConnectionsAreTakenWhenThereAreNoOthers(t *testing.T) {
	eachFlavor(t, func(t *testing.T, s *farmtest.Server) {
		p := sharingPool(t, 1, 0)
		ctx := t.Context()
		utc := NewSettings([]Setting{{"time_zone", "SESSION time_zone='+00:00'"}})
		c, err := p.Get(ctx, want(s, farmtest.App, utc))
		if err != nil {
			t.Fatal(err)
		}
		lease := c.Lease()
		must(t, c, "SET SESSION time_zone='+00:00'", "CREATE TABLE ids (id INT AUTO_INCREMENT PRIMARY KEY)", "INSERT INTO ids VALUES ()")
		c.Settings, c.Used = utc, true
		id := NewInserted()
		p.Lend(c, lease, Parting{Since: time.Now(), Inserted: id})
		if !c.Retake(lease) {
			t.Fatal("the connection is gone though nobody wanted it")
		}
		p.Lend(c, lease, Parting{Since: time.Now(), Inserted: id})

		// Another session with the same settings gets it as it is, and tells what the
		// first one has left there.
		c2, err := p.Get(ctx, want(s, farmtest.App, utc))
		if err != nil || c2 != c {
			t.Fatalf("another connection, %v", err)
		}
		if c.Retake(lease) {
			t.Error("two sessions have one connection")
		}
		if got, err := id.Wait(ctx); err != nil || got != 1 || c2.InsertID != 1 {
			t.Errorf("LAST_INSERT_ID() is %d, %v; the connection's is %d", got, err, c2.InsertID)
		}
		if got := answer(t, c2, "SELECT @@time_zone"); got != "[[+00:00]]" {
			t.Errorf("its settings are gone: %s", got)
		}

		// One with other settings does not find any of them.
		lease = c2.Lease()
		p.Lend(c2, lease, Parting{Since: time.Now()})
		c3, err := p.Get(ctx, want(s, farmtest.App, nil))
		if err != nil || c3 != c {
			t.Fatalf("another connection, %v", err)
		}
		if got := answer(t, c3, "SELECT @@time_zone, LAST_INSERT_ID()"); got != "[[SYSTEM 0]]" {
			t.Errorf("it has %s of the session before", got)
		}

		// What the session can ask for nowhere else is kept for a moment only.
		p.Lend(c3, c3.Lease(), Parting{Since: time.Now().Add(-2 * keepFor), Keep: true})
		if c4, err := p.Get(ctx, want(s, farmtest.App, nil)); err != nil || c4 != c {
			t.Fatalf("another connection, %v", err)
		}
		p.Close(c, "test")
	})
}

func TestTheQueueIsFair(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	p := sharingPool(t, 1, 0)
	p.patience = 0
	c, err := p.Get(t.Context(), want(s, farmtest.App, nil))
	if err != nil {
		t.Fatal(err)
	}
	// One user asks three times before another one does.
	var first []<-chan asked
	for n := range 3 {
		first = append(first, ask(t.Context(), p, want(s, farmtest.App, nil)))
		awaitWaiting(t, p, s, n+1)
	}
	other := ask(t.Context(), p, want(s, boss, nil))
	awaitWaiting(t, p, s, 4)
	put(p, c)
	put(p, answered(t, first[0]))
	// The users take turns: the other one is next, whose connection takes the
	// place of the first one's.
	o := answered(t, other)
	select {
	case <-first[1]:
		t.Error("the first user was served twice before the other")
	default:
	}
	if n := p.Counts()[s.Name()]; n.Active != 1 || n.Idle != 0 || n.Waiting != 2 {
		t.Errorf("the pool counts %+v", n)
	}
	put(p, o)
	put(p, answered(t, first[1]))
	put(p, answered(t, first[2]))
	checkCounts(t, p, s, Count{Idle: 1})
}

func TestWaitingEnds(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	p := sharingPool(t, 1, 0)
	c, err := p.Get(t.Context(), want(s, farmtest.App, nil))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client left")
	got := ask(ctx, p, want(s, farmtest.App, nil))
	awaitWaiting(t, p, s, 1)
	cancel(gone)
	if a := <-got; !errors.Is(a.err, gone) {
		t.Errorf("the error is %v", a.err)
	}
	p.opt.WaitTimeout = 20 * time.Millisecond
	if _, err := p.Get(t.Context(), want(s, farmtest.App, nil)); connectError(t, err).Server != s.Name() {
		t.Errorf("the error is %v", err)
	}
	// To kill what holds the others up one need not wait.
	w := want(s, farmtest.App, nil)
	w.Urgent = true
	u, err := p.Get(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	p.Close(u, "test")
	p.Close(c, "test")
	checkCounts(t, p, s, Count{})
}

func TestAUserHasALimitOfItsOwn(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	p := sharingPool(t, 3, 1)
	c, err := p.Get(t.Context(), want(s, farmtest.App, nil))
	if err != nil {
		t.Fatal(err)
	}
	next := ask(t.Context(), p, want(s, farmtest.App, nil))
	awaitWaiting(t, p, s, 1)
	o, err := p.Get(t.Context(), want(s, boss, nil)) // there is room for another user
	if err != nil {
		t.Fatal(err)
	}
	// Of another shape: the user's own connection makes room for it.
	w := want(s, farmtest.App, nil)
	w.Caps |= wire.ClientFoundRows
	shaped := ask(t.Context(), p, w)
	awaitWaiting(t, p, s, 2)
	put(p, c)
	put(p, answered(t, next))
	p.Close(answered(t, shaped), "test")
	p.Close(o, "test")
}

// TestAServerThatIsFull: what the server itself allows is a limit, too.
func TestAServerThatIsFull(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	s.Exec(t, "CREATE USER few@'%' IDENTIFIED BY 'few' WITH MAX_USER_CONNECTIONS 1")
	few := dbserver.Account{User: "few", Password: "few"}
	p := sharingPool(t, 0, 0)
	w := want(s, few, nil)
	w.Schema = ""
	c, err := p.Get(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	got := ask(t.Context(), p, w)
	awaitWaiting(t, p, s, 1)
	p.Lend(c, c.Lease(), Parting{Since: time.Now()})
	if next := answered(t, got); next != c {
		t.Error("the connection is another one")
	}
	p.Close(c, "test")
}

// TestConnectionsAreOpenedAheadOfDemand, on a server that was added as well.
// TestABurstFindsTheConnectionsOfTheOneBefore: as many as were in use at once are
// kept, for a while, whatever there is at the moments at which the pool looks.
func TestABurstFindsTheConnectionsOfTheOneBefore(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	opt := testOptions()
	opt.IdlePerUser, opt.Warm = 2, true
	p := newPool(t, opt)
	for burst := range 3 {
		var all []*Conn
		for range 6 {
			all = append(all, get(t, p, s, farmtest.App, ""))
		}
		for _, c := range all {
			put(p, c)
		}
		if n := closed(p, s, "pool full"); n != 0 {
			t.Fatalf("after burst %d, %d connections were closed", burst+1, n)
		}
	}
	if n := value(p.metrics.opened.WithLabelValues(s.Name())); n > 6+1 { // one spare
		t.Errorf("%d connections were opened for 6 at once", n)
	}
}

func TestConnectionsAreOpenedAheadOfDemand(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	opt := testOptions()
	opt.Warm, opt.IdleTimeout = true, limit
	p := newPool(t, opt)
	one, two := f.Primary(), f.Replica(0)
	c, err := p.Get(t.Context(), want(one, farmtest.App, nil))
	if err != nil {
		t.Fatal(err)
	}
	p.Expect([]farm.Server{two.Describe()})
	for _, s := range []*farmtest.Server{one, two} {
		farmtest.Eventually(t, "a spare connection to "+s.Name(), func() error {
			if n := p.Counts()[s.Name()].Idle; n == 0 {
				return errors.New("there is none")
			}
			return nil
		})
	}
	p.Close(c, "test")
}

// TestManyShare has many sessions lend and take a few connections; each finds
// nothing of another's.
func TestManyShare(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	p := sharingPool(t, 3, 0)
	const sessions, rounds = 12, 50
	var group sync.WaitGroup
	for i := range sessions {
		group.Go(func() {
			mine := NewSettings([]Setting{{"@n", fmt.Sprintf("@n=%d", i)}})
			var c *Conn
			var lease Lease
			for range rounds {
				if c == nil || !c.Retake(lease) {
					var err error
					if c, err = p.Get(t.Context(), want(s, farmtest.App, mine)); err != nil {
						t.Error(err)
						return
					}
					lease = c.Lease()
					if !mine.Equal(c.Settings) {
						if c.Settings != nil {
							t.Errorf("the connection has settings that are not overridden")
						}
						if _, refused, err := run(c, fmt.Appendf([]byte{byte(wire.ComQuery)}, "SET @n=%d", i)); err != nil || refused != nil {
							t.Error(refused, err)
							return
						}
						c.Settings = mine
					}
				}
				rows, refused, err := run(c, append([]byte{byte(wire.ComQuery)}, "SELECT @n"...))
				if err != nil || refused != nil || fmt.Sprint(rows) != fmt.Sprintf("[[%d]]", i) {
					t.Errorf("session %d: %v, %v, %v", i, rows, refused, err)
					return
				}
				c.Used = true
				p.Lend(c, lease, Parting{Since: time.Now()})
			}
			if c.Retake(lease) {
				p.Put(c, false)
			}
		})
	}
	group.Wait()
	p.work.Wait()
	if n := p.Counts()[s.Name()]; n.Active != 0 || n.Waiting != 0 || n.Idle == 0 || n.Idle > 3 {
		t.Errorf("the pool counts %+v", n)
	}
}

// TestALoginThatAResetDoesNotBringBack: IGNORE_SPACE is a variable that the login
// sets. A connection that has it is never reset, however long it was idle.
func TestALoginThatAResetDoesNotBringBack(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	p := sharingPool(t, 1, 0)
	p.verifyAfter = 0
	w := want(s, farmtest.App, nil)
	w.Caps |= wire.ClientIgnoreSpace
	open := func(settings *Settings) *Conn {
		t.Helper()
		w.Settings = settings
		c, err := p.Get(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		if got := answer(t, c, "SELECT COUNT (*) FROM (SELECT 1) x"); got != "[[1]]" {
			t.Errorf("IGNORE_SPACE is gone: %s", got)
		}
		return c
	}
	c := open(nil)
	p.keep(c) // as one that was opened ahead of demand
	if next := open(nil); next != c {
		t.Error("an idle connection was not used")
	}
	c.Settings = NewSettings([]Setting{{"@a", "@a=1"}})
	p.Lend(c, c.Lease(), Parting{Since: time.Now()})
	if next := open(nil); next == c {
		t.Error("a connection with settings that are not overridden was used")
	} else {
		p.Close(next, "test")
	}
}

// TestWhoIsWokenMayNeedThePool: a connection whose end is told at once, by who breaks
// it, is given back from there.
func TestWhoIsWokenMayNeedThePool(t *testing.T) {
	s := startServer(t, farm.MariaDB)
	p := sharingPool(t, 0, 0)
	c, err := p.Get(t.Context(), want(s, farmtest.App, nil))
	if err != nil {
		t.Fatal(err)
	}
	var w *rawio.Watched
	w, err = rawio.Watch(c.NetConn(), func(bool) {
		w.End()
		c.MarkBroken()
		p.Close(c, "told")
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Break(s.Name(), s.Describe().Address)
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatal("it waits for itself")
	}
}
