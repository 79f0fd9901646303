package mysqld

import (
	"context"
	"fmt"
	"sync"
	"time"

	"farmhand/internal/mysqladmin"
)

// InnoDB renews what INNODB_TRX shows only if nobody has looked at it for 100 ms: who looks
// more often sees the same for ever.
const innodbRenews = 105 * time.Millisecond

// transactions counts those that are open on the server; it is for all who do.
type transactions struct {
	mu     sync.Mutex
	looked time.Time // the last look that was taken or is waited for
}

// due is when the next look shows what is so then. It counts as taken.
func (t *transactions) due() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := time.Now()
	if next := t.looked.Add(innodbRenews); next.After(at) {
		at = next
	}
	t.looked = at
	return at
}

// fresh reports whether a look would not have to wait.
func (t *transactions) fresh() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.looked) >= innodbRenews
}

// count returns how many transactions of clients are open, and of how many the client
// does nothing just now: those do not end by themselves. It may have to wait.
func (t *transactions) count(ctx context.Context, conn *mysqladmin.Conn, d dialect) (open, idle int, err error) {
	if err := pause(ctx, time.Until(t.due())); err != nil {
		return 0, 0, err
	}
	rows, err := conn.Query(ctx, d.open)
	if err != nil {
		return 0, 0, err
	}
	if len(rows) != 1 {
		return 0, 0, fmt.Errorf("%q had %d rows", d.open, len(rows))
	}
	n, _ := rows[0].Int("n")
	i, _ := rows[0].Int("idle")
	return int(n), int(i), nil
}
