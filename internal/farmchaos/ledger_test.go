package farmchaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// ledger is what clients wrote and what they were told of it.
type ledger struct {
	db     *sql.DB
	breath time.Duration // between what a client does and what it does next
	next   atomic.Int64
	stop   context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	writes []written
	reads  []outcome
}

// written is one write and its outcome.
type written struct {
	id          int64
	began, told time.Time
	server      int64 // who took it
	err         error
}

// outcome is one read's.
type outcome struct {
	began, told time.Time
	err         error
}

// Each writer writes without a pause but this one.
const (
	writers = 4
	readers = 2
	breath  = 5 * time.Millisecond
)

// open connects to a proxy as PHP does: with no connection pool that hides
// anything.
func open(t testing.TB, address string) *sql.DB {
	t.Helper()
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.DBName = "tcp", address, "app", "app", "app"
	c.Timeout, c.Logger = 5*time.Second, &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// begin makes the table and has clients write and read until end is called.
func begin(t testing.TB, address string, breath time.Duration) *ledger {
	t.Helper()
	l := &ledger{db: open(t, address), breath: breath}
	// No unique key: a write that is there twice is to be seen.
	if _, err := l.db.Exec("CREATE TABLE IF NOT EXISTS ledger (id BIGINT, server INT, KEY (id)) ENGINE=InnoDB"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	for range writers {
		l.done.Go(func() { l.write(ctx) })
	}
	for range readers {
		l.done.Go(func() { l.read(ctx) })
	}
	t.Cleanup(l.end)
	return l
}

// end stops the clients, who finish what they have begun.
func (l *ledger) end() {
	l.stop()
	l.done.Wait()
}

// write has one session write, and another one when that breaks.
func (l *ledger) write(ctx context.Context) {
	var conn *sql.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for ctx.Err() == nil {
		w := written{id: l.next.Add(1), began: time.Now()}
		w.err = func() error {
			if conn == nil {
				c, err := l.db.Conn(context.Background())
				if err != nil {
					return fmt.Errorf("connect: %w", err)
				}
				conn = c
			}
			// The server that takes the write says who it is: in the row.
			if _, err := conn.ExecContext(context.Background(), "INSERT INTO ledger VALUES (?, @@server_id)", w.id); err != nil {
				return err
			}
			return nil
		}()
		w.told = time.Now()
		if w.err != nil && conn != nil && !isServerError(w.err) {
			_ = conn.Close()
			conn = nil
		}
		l.mu.Lock()
		l.writes = append(l.writes, w)
		l.mu.Unlock()
		time.Sleep(l.breath)
	}
}

func (l *ledger) read(ctx context.Context) {
	for ctx.Err() == nil {
		o := outcome{began: time.Now()}
		var n int64
		o.err = l.db.QueryRow("SELECT COUNT(*) FROM ledger WHERE id < 100").Scan(&n)
		o.told = time.Now()
		l.mu.Lock()
		l.reads = append(l.reads, o)
		l.mu.Unlock()
		time.Sleep(l.breath)
	}
}

func isServerError(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e)
}

// sums are what became of a time.
type sums struct {
	Acked   int           `json:"acked"`
	Unknown int           `json:"unknown"` // were sent to a server that was lost before it answered
	Failed  int           `json:"failed"`  // had any other error
	Gap     time.Duration `json:"gap"`     // the longest time without an acknowledged write
	ReadGap time.Duration `json:"read_gap"`
	ReadErr int           `json:"read_errors"`
	First   error         `json:"-"` // of the errors
}

// since sums up what clients were told after from.
func (l *ledger) since(from time.Time) sums {
	l.mu.Lock()
	defer l.mu.Unlock()
	var s sums
	note := func(err error) {
		if s.First == nil {
			s.First = err
		}
	}
	last := from
	for _, w := range sortedByEnd(l.writes) {
		if w.told.Before(from) {
			continue
		}
		switch {
		case w.err == nil:
			s.Acked++
			s.Gap = max(s.Gap, w.told.Sub(last))
			last = w.told
		case strings.Contains(w.err.Error(), "its outcome is unknown"):
			s.Unknown++ // it was on the way to a server that was lost
		default:
			s.Failed++
			note(w.err)
		}
	}
	lastRead := from
	for _, r := range l.reads {
		if r.told.Before(from) {
			continue
		}
		if r.err != nil {
			s.ReadErr++
			note(r.err)
			continue
		}
		if r.told.After(lastRead) {
			s.ReadGap = max(s.ReadGap, r.told.Sub(lastRead))
			lastRead = r.told
		}
	}
	return s
}

// auditUntil holds a server's ledger against what clients were told before then, and
// returns the ids that were acknowledged and are missing, and those that are there more
// than once.
func (l *ledger) auditUntil(db *sql.DB, then time.Time) (lost, twice []int64, err error) {
	rows, err := db.Query("SELECT id FROM ledger")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	there := map[int64]int{}
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, nil, err
		}
		there[id]++
	}
	if err := rows.Err(); err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.writes {
		if w.err == nil && w.told.Before(then) && there[w.id] == 0 {
			lost = append(lost, w.id)
		}
	}
	for id, n := range there {
		if n > 1 {
			twice = append(twice, id)
		}
	}
	return lost, twice, nil
}

// overlap finds two servers that acknowledged writes at the same time, since a moment after
// which there were so many epochs.
func (l *ledger) overlap(db *sql.DB, since time.Time, epochs int) (string, error) {
	rows, err := db.Query("SELECT id, server FROM ledger")
	if err != nil {
		return "", err
	}
	defer func() { _ = rows.Close() }()
	server := map[int64]int64{}
	for rows.Next() {
		var id, who int64
		if err := rows.Scan(&id, &who); err != nil {
			return "", err
		}
		server[id] = who
	}
	if err := rows.Err(); err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var writes []written
	for _, w := range sortedByEnd(l.writes) {
		if w.server = server[w.id]; w.err == nil && w.server != 0 && w.told.After(since) {
			writes = append(writes, w)
		}
	}
	return turns(writes, epochs), nil
}

// turns says where servers took more turns at acknowledging writes than there were epochs. A
// write that was told after another server's and had begun before that was on its way:
// it is no turn.
func turns(writes []written, epochs int) string {
	var last written
	taken := 0
	for _, w := range writes {
		if last.server != 0 && w.server != last.server && w.began.After(last.told) {
			if taken++; taken > epochs {
				return fmt.Sprintf("server %d acknowledged a write at %s, %v after server %d; it is turn %d of %d epochs",
					w.server, w.told.Format("15:04:05.000"), w.told.Sub(last.told), last.server, taken, epochs)
			}
		}
		last = w
	}
	return ""
}

func TestTurnsAreSeen(t *testing.T) {
	at := time.Now()
	wrote := func(server int64, began, told int) written {
		return written{server: server, began: at.Add(time.Duration(began) * time.Millisecond), told: at.Add(time.Duration(told) * time.Millisecond)}
	}
	change := []written{wrote(1, 0, 1), wrote(1, 1, 2), wrote(2, 1, 100), wrote(2, 101, 102)}
	back := append(slices.Clone(change), wrote(1, 103, 300), wrote(1, 301, 302))
	late := append(slices.Clone(change), wrote(1, 2, 103), wrote(2, 104, 105))
	both := append(slices.Clone(change), wrote(1, 103, 104), wrote(2, 105, 106))
	for name, c := range map[string]struct {
		writes []written
		epochs int
		want   bool
	}{
		"a change": {change, 1, false}, "there and back": {back, 2, false}, "one that was on its way": {late, 1, false},
		"two at once": {both, 1, true}, "a change in no epoch": {[]written{wrote(1, 0, 1), wrote(2, 2, 3)}, 0, true},
	} {
		if got := turns(c.writes, c.epochs); (got != "") != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// sortedByEnd returns the writes in the order in which their clients were told.
func sortedByEnd(writes []written) []written {
	list := slices.Clone(writes)
	slices.SortStableFunc(list, func(a, b written) int { return a.told.Compare(b.told) })
	return list
}
