package mysqld

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/service"
)

// beatEvery is how often a primary writes down that it can commit. A server whose
// disk is full or hangs still answers, and its followers' threads still say "Yes":
// only a commit that gets through shows that it works.
const beatEvery = 500 * time.Millisecond

// heartbeatTable has two rows for each server that ever led.
var heartbeatTable = []string{
	"CREATE DATABASE IF NOT EXISTS farmhand",
	"CREATE TABLE IF NOT EXISTS farmhand.heartbeat (server_id INT UNSIGNED NOT NULL, part TINYINT UNSIGNED NOT NULL, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), epoch BIGINT UNSIGNED NOT NULL, PRIMARY KEY (server_id, part)) ENGINE=InnoDB",
}

const (
	hasHeartbeat  = "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA='farmhand' AND TABLE_NAME='heartbeat'"
	readHeartbeat = "SELECT TIMESTAMPDIFF(MICROSECOND, MAX(at), CURRENT_TIMESTAMP(6)) AS age FROM farmhand.heartbeat"
)

// writeHeartbeat writes only where clients could, for an administrator's write is
// not refused.
func writeHeartbeat(part int, epoch farm.Epoch) string {
	return fmt.Sprintf("REPLACE INTO farmhand.heartbeat (server_id, part, at, epoch) SELECT @@server_id, %d, CURRENT_TIMESTAMP(6), %d FROM DUAL WHERE @@GLOBAL.read_only=0", part, epoch)
}

// beat is how a primary's heartbeat goes.
type beat struct {
	mu    sync.Mutex
	began time.Time // of the write that is on its way; zero for none
	last  time.Time // when the last one was committed; zero for none
}

func (b *beat) set(began, last time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.began, b.last = began, last
}

// stalled is for how long a write has been waiting.
func (b *beat) stalled(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.began.IsZero() {
		return 0
	}
	return now.Sub(b.began)
}

func (b *beat) committed() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// keepBeating writes the heartbeat whenever the server leads.
func (a *Agent) keepBeating(ctx context.Context) error {
	var last error
	for {
		if p := a.look(); p.lead != nil && p.server != nil {
			err := a.beatWhileItLeads(ctx, p)
			if err != nil && p.lead.Err() == nil && ctx.Err() == nil && !ended(p.server) && (last == nil || last.Error() != err.Error()) {
				a.o.Log.Warn("heartbeat not written", zap.Error(err))
			}
			last = err
		}
		if err := pause(ctx, beatEvery/5); err != nil {
			return err
		}
	}
}

func ended(server *dbserver.Server) bool {
	select {
	case <-server.Done():
		return true
	default:
		return false
	}
}

// nudgeAfter is how long a heartbeat waits before another one is written beside it.
//
// An acknowledgement can be lost: a follower has received a transaction and is told
// to stop, or loses its connection, before it has said so. When it connects again it
// asks for what comes after, and the commit waits until something does.
const nudgeAfter = time.Second

// beatWhileItLeads returns when p's server no longer leads, or cannot be written to.
func (a *Agent) beatWhileItLeads(ctx context.Context, p picture) error {
	group := service.NewGroup(ctx)
	defer context.AfterFunc(p.lead, func() { group.Stop(context.Canceled) })()
	beats := make(chan time.Time, 1) // when a write began that is still on its way; zero when it has ended
	group.Go("heartbeat", func(ctx context.Context) error {
		err := a.write(ctx, p, 0, func(began, last time.Time) {
			a.beat.set(began, last)
			select {
			case <-beats:
			default:
			}
			beats <- began
		}, func(ctx context.Context) error { return pause(ctx, beatEvery) })
		a.beat.set(time.Time{}, time.Time{})
		return err
	})
	group.Go("second heartbeat", func(ctx context.Context) error {
		return a.write(ctx, p, 1, func(time.Time, time.Time) {}, func(ctx context.Context) error { return awaitStall(ctx, beats) })
	})
	return group.Wait()
}

// awaitStall returns when a write has been waiting for nudgeAfter.
func awaitStall(ctx context.Context, beats <-chan time.Time) error {
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case began := <-beats:
			timer.Stop()
			if !began.IsZero() {
				timer.Reset(nudgeAfter)
			}
		case <-timer.C:
			return nil
		}
	}
}

// write writes a part of the heartbeat, waiting before each but the first of part 0.
// It tells when a write began and the last one ended.
func (a *Agent) write(ctx context.Context, p picture, part int, tell func(began, last time.Time), wait func(context.Context) error) (err error) {
	if part > 0 {
		if err := wait(ctx); err != nil {
			return err
		}
	}
	conn, err := a.dialForHeartbeat(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	var last time.Time
	for {
		// Without a limit: for how long it waits is what is to be known.
		tell(time.Now(), last)
		if part == 0 && last.IsZero() {
			if err := makeHeartbeat(ctx, conn); err != nil {
				return err
			}
		}
		written, err := conn.Exec(ctx, writeHeartbeat(part, a.look().order.assignment.Epoch))
		if mysqladmin.Code(err) == errNoSuchTable && part > 0 {
			err = nil // it is the table that waits
		}
		if err != nil {
			return err
		}
		if written > 0 {
			last = time.Now()
		}
		tell(time.Time{}, last)
		if err := wait(ctx); err != nil {
			return err
		}
	}
}

// errNoSuchTable is the server's code.
const errNoSuchTable = 1146

func (a *Agent) dialForHeartbeat(ctx context.Context, p picture) (*mysqladmin.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return dial(ctx, p.server)
}

// makeHeartbeat makes the table if it is not there. That is looked at first: the
// statement would be written to the binlog either way.
func makeHeartbeat(ctx context.Context, conn *mysqladmin.Conn) error {
	rows, err := conn.Query(ctx, hasHeartbeat)
	if err != nil || len(rows) > 0 {
		return err
	}
	for _, statement := range heartbeatTable {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
