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
)

// beatEvery is how often a primary writes down that it can commit. A server whose
// disk is full or hangs still answers, and its followers' threads still say "Yes":
// only a commit that gets through shows that it works.
const beatEvery = 500 * time.Millisecond

// heartbeatTable has a row for each server that ever led. A column part was in the key once,
// and is in the tables that were made then: it is 0.
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
func writeHeartbeat(epoch farm.Epoch) string {
	return fmt.Sprintf("REPLACE INTO farmhand.heartbeat (server_id, part, at, epoch) SELECT @@server_id, 0, CURRENT_TIMESTAMP(6), %d FROM DUAL WHERE @@GLOBAL.read_only=0", epoch)
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

// beatWhileItLeads returns when p's server no longer leads, or cannot be written to.
func (a *Agent) beatWhileItLeads(ctx context.Context, p picture) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.lead, func() { cancel(context.Cause(p.lead)) })()
	conn, err := a.dialForHeartbeat(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	defer a.beat.set(time.Time{}, time.Time{})
	var last time.Time
	for {
		// Without a limit: for how long it waits is what is to be known.
		a.beat.set(time.Now(), last)
		if last.IsZero() {
			if err := makeHeartbeat(ctx, conn); err != nil {
				return err
			}
		}
		written, err := conn.Exec(ctx, writeHeartbeat(a.look().order.assignment.Epoch))
		if err != nil {
			return err
		}
		if written > 0 {
			last = time.Now()
		}
		a.beat.set(time.Time{}, last)
		if err := pause(ctx, beatEvery); err != nil {
			return err
		}
	}
}

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
