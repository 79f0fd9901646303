package monitor

import (
	"context"
	"fmt"
	"time"

	"farmhand/internal/mysqladmin"
)

// What a server's work is measured over, at least.
const (
	loadEvery      = time.Second
	loadStatements = 200 // fewer say nothing
)

// load is what a server's statements have been like of late. Its zero value knows
// nothing yet.
type load struct {
	at           time.Time // when the counters were read
	statements   int64     // since the server began
	pages        int64     // that were read from the disk since
	perStatement float64   // pages, of late
}

// after is the load once the counters were read again at the time at.
func (l load) after(at time.Time, statements, pages int64) load {
	next := load{at: at, statements: statements, pages: pages, perStatement: l.perStatement}
	if l.at.IsZero() || statements < l.statements || pages < l.pages {
		return next // the server has begun anew
	}
	n := statements - l.statements
	if n < loadStatements {
		l.at = at // they are counted with the next
		return l
	}
	next.perStatement = (l.perStatement + float64(pages-l.pages)/float64(n)) / 2
	return next
}

// readLoad reads the counters of a server's load.
func readLoad(ctx context.Context, conn *mysqladmin.Conn) (statements, pages int64, err error) {
	rows, err := conn.Query(ctx, "SHOW GLOBAL STATUS WHERE Variable_name IN ('Questions','Innodb_buffer_pool_reads')")
	if err != nil {
		return 0, 0, fmt.Errorf("read the counters of its load: %w", err)
	}
	for _, row := range rows {
		name := row.String("Variable_name")
		n, ok := row.Int("Value")
		if !ok {
			return 0, 0, fmt.Errorf("read the counters of its load: %s is %q", name, row.String("Value"))
		}
		if name == "Questions" {
			statements = n
		} else {
			pages = n
		}
	}
	return statements, pages, nil
}
