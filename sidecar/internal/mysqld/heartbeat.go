package mysqld

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
)

// beatEvery is how often a primary writes down that it can commit. A server whose
// disk is full or hangs still answers, and its followers' threads still say "Yes":
// only a commit that gets through shows that it works.
const beatEvery = 500 * time.Millisecond

// heartbeatTable has one row for each server that ever led.
var heartbeatTable = []string{
	"CREATE DATABASE IF NOT EXISTS farmhand",
	"CREATE TABLE IF NOT EXISTS farmhand.heartbeat (server_id INT UNSIGNED NOT NULL PRIMARY KEY, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), epoch BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB",
}

const (
	hasHeartbeat  = "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA='farmhand' AND TABLE_NAME='heartbeat'"
	readHeartbeat = "SELECT TIMESTAMPDIFF(MICROSECOND, MAX(at), CURRENT_TIMESTAMP(6)) AS age FROM farmhand.heartbeat"
)

// writeHeartbeat writes only where clients could, for an administrator's write is
// not refused.
func writeHeartbeat(epoch farm.Epoch) string {
	return fmt.Sprintf("REPLACE INTO farmhand.heartbeat (server_id, at, epoch) SELECT @@server_id, CURRENT_TIMESTAMP(6), %d FROM DUAL WHERE @@GLOBAL.read_only=0", epoch)
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
			if err != nil && p.lead.Err() == nil && (last == nil || last.Error() != err.Error()) {
				a.o.Log.Warn("heartbeat not written", zap.Error(err))
			}
			last = err
		}
		if err := pause(ctx, beatEvery/5); err != nil {
			return err
		}
	}
}

// beatWhileItLeads returns when p's server no longer leads, or cannot be written to.
func (a *Agent) beatWhileItLeads(ctx context.Context, p picture) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.lead, cancel)()
	dialling, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	conn, err := dial(dialling, p.server)
	if err != nil {
		return err
	}
	defer func() {
		a.beat.set(time.Time{}, time.Time{})
		if cerr := conn.Close(); cerr != nil && !errors.Is(cerr, mysqladmin.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}()
	rows, err := conn.Query(dialling, hasHeartbeat)
	if err != nil {
		return err
	}
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	missing, last := len(rows) == 0, time.Time{}
	for {
		// Without a limit: a second write would wait for the first one's lock. For how
		// long it waits is reported.
		a.beat.set(time.Now(), last)
		if missing {
			for _, statement := range heartbeatTable {
				if _, err := conn.Exec(ctx, statement); err != nil {
					return err
				}
			}
			missing = false
		}
		written, err := conn.Exec(ctx, writeHeartbeat(a.look().order.assignment.Epoch))
		if err != nil {
			return err
		}
		if written > 0 {
			last = time.Now()
		}
		a.beat.set(time.Time{}, last)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
