package monitor

import (
	"context"
	"fmt"
	"strconv"
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
	statements   uint64    // since the server began
	pages        uint64    // that were read from the disk since
	perStatement float64   // pages, of late
}

// after is the load once the counters were read again at the time at.
func (l load) after(at time.Time, statements, pages uint64) load {
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
func readLoad(ctx context.Context, conn *mysqladmin.Conn) (statements, pages uint64, err error) {
	rows, err := conn.Query(ctx, "SHOW GLOBAL STATUS WHERE Variable_name IN ('Questions','Innodb_buffer_pool_reads')")
	if err != nil {
		return 0, 0, fmt.Errorf("read the counters of its load: %w", err)
	}
	for _, row := range rows {
		n, err := strconv.ParseUint(row.String("Value"), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read the counters of its load: %s: %w", row.String("Variable_name"), err)
		}
		if row.String("Variable_name") == "Questions" {
			statements = n
		} else {
			pages = n
		}
	}
	return statements, pages, nil
}

// processors is how many processors a server has, as far as it tells.
func processors(variables map[string]string) int {
	const usual = 4
	if n, err := strconv.Atoi(variables["thread_pool_size"]); err == nil && n > 0 {
		return n
	}
	return usual
}
