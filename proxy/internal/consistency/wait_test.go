package consistency

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
)

var (
	waitChecks = flag.Int("wait.checks", 0, "check so many writes of every kind, by every way to apply; 0: some of some")
	waitTime   = flag.Duration("wait.time", time.Minute, "the longest time for one kind's checks")
)

// applying is how a replica applies.
type applying struct {
	flavor  farm.Flavor
	threads int
	mode    string // MariaDB's slave_parallel_mode
	logs    bool   // it logs what it applies
	// apart: the position may be ahead of what is committed in two phases.
	apart bool
}

func (a applying) String() string {
	return fmt.Sprintf("%v, %d threads, %s, logs=%t", a.flavor, a.threads, a.mode, a.logs)
}

var applyings = []applying{
	{flavor: farm.MariaDB, threads: 4, mode: "optimistic", logs: true, apart: true},
	{flavor: farm.MariaDB, threads: 4, mode: "aggressive", logs: true, apart: true},
	{flavor: farm.MariaDB, threads: 4, mode: "conservative", logs: true, apart: true},
	{flavor: farm.MariaDB, threads: 4, mode: "minimal", logs: true, apart: true},
	{flavor: farm.MariaDB, threads: 0, mode: "optimistic", logs: true},
	{flavor: farm.MariaDB, threads: 4, mode: "optimistic"},
	{flavor: farm.MariaDB, threads: 0, mode: "optimistic"},
	{flavor: farm.MySQL, threads: 4, mode: "ordered", logs: true},
	{flavor: farm.MySQL, threads: 4, mode: "ordered"},
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestWhatAReplicaSaysThatItHasItShows writes on a primary without a proxy and
// reads from its replica as soon as that says that it has executed the write:
// by a wait, or by its position. Others write at the same time.
//
// A MariaDB replica with parallel threads that logs what it applies says so too
// early of XA COMMIT: it logs that first, which lets later transactions commit
// and the position pass, and commits it in the engine after that. Until then
// the branch is among those that XA RECOVER shows.
func TestWhatAReplicaSaysThatItHasItShows(t *testing.T) {
	for _, a := range applyings {
		brief := *waitChecks == 0
		if brief && a != applyings[0] {
			continue
		}
		t.Run(a.String(), func(t *testing.T) {
			f := startApplying(t, a)
			for _, k := range kinds {
				if brief && !k.brief || k.here && a.flavor != farm.MariaDB {
					continue
				}
				t.Run(k.name, func(t *testing.T) { checkWrites(t, f, a, k) })
			}
		})
	}
}

func startApplying(t *testing.T, a applying) *farmtest.Farm {
	t.Helper()
	var args []string
	switch {
	case a.flavor == farm.MySQL:
		args = append(args, fmt.Sprintf("--replica-parallel-workers=%d", a.threads), fmt.Sprintf("--log-replica-updates=%t", a.logs))
	default:
		args = append(args, fmt.Sprintf("--slave-parallel-threads=%d", a.threads), "--slave-parallel-mode="+a.mode, fmt.Sprintf("--log-slave-updates=%t", a.logs))
	}
	f := farmtest.Start(t, farmtest.Options{Flavor: a.flavor, Replicas: 1, ExtraArgs: append(args, "--log-bin-trust-function-creators=1")})
	f.Primary().Exec(t, "GRANT ALL ON *.* TO "+farmtest.App.User)
	if a.mode == "conservative" || a.mode == "minimal" {
		// Only what was committed in one group is applied in parallel.
		f.Primary().Exec(t, "SET GLOBAL binlog_commit_wait_count=4", "SET GLOBAL binlog_commit_wait_usec=2000")
	}
	return f
}

// counts are what the checks of one kind found.
type counts struct {
	byWait, byPosition   atomic.Int64 // checks of what a wait and the position say
	missed               atomic.Int64 // the write was not there
	unsure               atomic.Int64 // branches were prepared
	sure, missedWhenSure atomic.Int64 // none was prepared
	others               atomic.Int64
}

func checkWrites(t *testing.T, f *farmtest.Farm, a applying, k kind) {
	const writers, others = 3, 3
	limit, most := *waitTime, *waitChecks
	if most == 0 {
		limit, most = time.Second, 2000
	}
	primary, replica := several(t, f.Primary()), several(t, f.Replica(0))
	f.Primary().Exec(t, "DROP DATABASE IF EXISTS app", "CREATE DATABASE app", "CREATE TABLE app.other (k BIGINT AUTO_INCREMENT PRIMARY KEY)")
	f.WaitCaughtUp(t)
	for _, s := range k.setup {
		if _, err := primary.Exec(s); err != nil {
			t.Fatal(err)
		}
	}

	var c counts
	var next atomic.Int64
	began := time.Now()
	over := func() bool { return time.Since(began) > limit || next.Load() > int64(most) }
	group, ctx := errgroup.WithContext(t.Context())
	for i := range writers + others {
		group.Go(func() (err error) {
			w, err := newWriter(ctx, primary, replica, a.flavor)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, w.close()) }()
			for n := 0; n == 0 || !over(); n++ {
				if i >= writers {
					c.others.Add(1)
					// Now and then they wait, so that the replica keeps up.
					if err = w.write(ctx, "INSERT INTO other () VALUES ()"); err == nil && n%10 == 9 {
						_, err = w.shows(ctx, "SELECT 1")
					}
				} else {
					number := int(next.Add(1))
					err = w.check(ctx, &c, fill(k.writes, number, i), fill(k.read, number, i), number)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v, %s: %d waits and %d positions, of which %d missed; %d while branches were prepared; with XA RECOVER empty %d checks of which %d missed; %d others' writes",
		a, k.name, c.byWait.Load(), c.byPosition.Load(), c.missed.Load(), c.unsure.Load(), c.sure.Load(), c.missedWhenSure.Load(), c.others.Load())
	if c.byWait.Load() == 0 {
		t.Error("nothing was checked")
	}
	if n := c.missedWhenSure.Load(); n > 0 {
		t.Errorf("%d writes were not there though the replica said so and no branch was prepared", n)
	}
	if n := c.missed.Load(); n > 0 && !(k.xa && a.apart) {
		t.Errorf("%d writes were not there though the replica said so", n)
	}
}

// writer writes on the primary and reads from the replica.
type writer struct {
	flavor           farm.Flavor
	primary, replica *sql.Conn
}

func newWriter(ctx context.Context, primary, replica *sql.DB, flavor farm.Flavor) (w *writer, err error) {
	w = &writer{flavor: flavor}
	if w.primary, err = primary.Conn(ctx); err != nil {
		return nil, err
	}
	if w.replica, err = replica.Conn(ctx); err != nil {
		return nil, errors.Join(err, w.primary.Close())
	}
	return w, nil
}

func (w *writer) close() error { return errors.Join(w.primary.Close(), w.replica.Close()) }

func (w *writer) write(ctx context.Context, statements string) error {
	for s := range strings.SplitSeq(statements, ";") {
		if _, err := w.primary.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// check writes, and reads once the replica says that it has the write, in one
// of three ways.
func (w *writer) check(ctx context.Context, c *counts, writes, read string, way int) error {
	if err := w.write(ctx, writes); err != nil {
		return err
	}
	switch way % 3 {
	case 0:
		a, err := w.shows(ctx, read)
		c.byWait.Add(1)
		c.count(a.there)
		return err
	case 1:
		a, err := w.positioned(ctx, read)
		c.byPosition.Add(1)
		c.count(a.there)
		return err
	}
	if w.flavor != farm.MariaDB {
		return nil
	}
	a, err := w.shows(ctx, "XA RECOVER", read)
	switch {
	case err != nil:
	case a.branches > 0:
		c.unsure.Add(1)
	default:
		c.sure.Add(1)
		if !a.there {
			c.missedWhenSure.Add(1)
		}
	}
	return err
}

func (c *counts) count(there bool) {
	if !there {
		c.missed.Add(1)
	}
}

// position is that of the last write.
func (w *writer) position(ctx context.Context) (text string, err error) {
	query := "SELECT @@last_gtid"
	if w.flavor == farm.MySQL {
		query = "SELECT @@gtid_executed"
	}
	err = w.primary.QueryRowContext(ctx, query).Scan(&text)
	return text, err
}

// shows waits on the replica for the last write and sends the statements behind
// the wait at once; the last one is the read.
func (w *writer) shows(ctx context.Context, statements ...string) (answer, error) {
	position, err := w.position(ctx)
	if err != nil {
		return answer{}, err
	}
	wait := "SELECT MASTER_GTID_WAIT('%s', 20);"
	if w.flavor == farm.MySQL {
		wait = "SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', 20);"
	}
	a, err := w.ask(ctx, fmt.Sprintf(wait, position)+strings.Join(statements, ";"))
	if err == nil && a.first != "0" {
		err = fmt.Errorf("the replica does not reach %s: %s", position, a.first)
	}
	return a, err
}

// positioned reads from the replica over and over, and returns what it shows
// when its position first has the last write.
func (w *writer) positioned(ctx context.Context, read string) (answer, error) {
	text, err := w.position(ctx)
	if err != nil {
		return answer{}, err
	}
	want, err := gtid.Parse(w.flavor, text)
	query := "SELECT @@gtid_slave_pos;" + read
	if w.flavor == farm.MySQL {
		query = "SELECT @@gtid_executed;" + read
	}
	for err == nil {
		var a answer
		if a, err = w.ask(ctx, query); err != nil {
			break
		}
		var have gtid.Position
		if have, err = gtid.Parse(w.flavor, a.first); err == nil && have.Contains(want) {
			return a, nil
		}
	}
	return answer{}, err
}

// answer is what the replica answers to several statements.
type answer struct {
	first    string // the first one's value
	branches int    // rows of XA RECOVER
	there    bool   // the read shows the write
}

func (w *writer) ask(ctx context.Context, statements string) (a answer, err error) {
	rows, err := w.replica.QueryContext(ctx, statements)
	if err != nil {
		return a, fmt.Errorf("%s: %w", statements, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for set := 0; ; set++ {
		columns, err := rows.Columns()
		if err != nil {
			return a, err
		}
		for rows.Next() {
			var number sql.NullInt64
			switch {
			case set == 0:
				err = rows.Scan(&a.first)
			case len(columns) > 1:
				a.branches++
			default:
				err = rows.Scan(&number)
				a.there = number.Int64 != 0
			}
			if err != nil {
				return a, err
			}
		}
		if !rows.NextResultSet() {
			break
		}
	}
	var refused *mysql.MySQLError
	if err = rows.Err(); errors.As(err, &refused) {
		switch refused.Number {
		case 1054, 1146, 1305, 1412: // no such column, table, function; another definition
			err = nil
		}
	}
	return a, err
}

// several opens a server for texts of several statements.
func several(t *testing.T, s *farmtest.Server) *sql.DB {
	t.Helper()
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.DBName, c.MultiStatements = "tcp", s.Addr(), farmtest.App.User, farmtest.App.Password, farmtest.Schema, true
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}
