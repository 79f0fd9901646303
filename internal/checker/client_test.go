package checker_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"farmhand/internal/checker"
)

// operationLimit bounds one statement; what takes longer has an unknown outcome.
const operationLimit = 8 * time.Second

// workload is what all clients of a round share.
type workload struct {
	began    time.Time
	sessions atomic.Int64
	ids      atomic.Int64 // of elements and ledger entries
	elements atomic.Int64

	registers [registers]struct {
		sync.Mutex // held by the one writer
		version    int64
	}

	mu      sync.Mutex
	history []checker.Op
	refused map[string]int // errors that clients got, by text
	strange []string       // what no check of the history could see
}

func newWorkload() *workload {
	return &workload{began: time.Now(), refused: map[string]int{}}
}

func (w *workload) now() time.Duration { return time.Since(w.began) }

// client opens sessions through one proxy, one after the other, until ctx ends.
func (w *workload) client(ctx context.Context, number int, db *sql.DB, seed uint64) {
	r := rand.New(rand.NewPCG(seed, uint64(number)))
	for ctx.Err() == nil {
		s := &client{workload: w, proxy: number % proxies, session: int(w.sessions.Add(1)), rand: r}
		s.run(ctx, db)
		pause(ctx, time.Duration(r.IntN(4000))*time.Microsecond)
	}
}

// client is one session.
type client struct {
	*workload
	proxy   int
	session int
	rand    *rand.Rand
	conn    *sql.Conn
}

// run is a session of a few operations, as a page makes them.
func (c *client) run(ctx context.Context, db *sql.DB) {
	// The end of the round lets an operation that has begun end.
	opening, cancel := context.WithTimeout(context.Background(), operationLimit)
	conn, err := db.Conn(opening)
	cancel()
	if err != nil {
		c.note(err)
		pause(ctx, 20*time.Millisecond)
		return
	}
	c.conn = conn
	defer conn.Close() // a broken one says so again
	for n := 2 + c.rand.IntN(12); n > 0 && ctx.Err() == nil; n-- {
		if !c.step() {
			return
		}
		if c.rand.IntN(8) == 0 {
			pause(ctx, sessionIdle+time.Duration(c.rand.IntN(10))*time.Millisecond)
		}
	}
}

// step runs one operation; false means that the session has ended.
func (c *client) step() bool {
	op := checker.Op{Session: c.session, Proxy: c.proxy}
	limit, cancel := context.WithTimeout(context.Background(), operationLimit)
	defer cancel()
	var do func(context.Context, *checker.Op) error
	switch n := c.rand.IntN(100); {
	case n < 12:
		op.Action, do = checker.Write, c.write
		op.Object = c.rand.IntN(registers)
		register := &c.registers[op.Object]
		if !register.TryLock() {
			return true // another session is its writer
		}
		defer register.Unlock()
		register.version++
		op.Value = register.version
	case n < 22:
		op.Action, op.Value, do = checker.Append, c.ids.Add(1), c.append
		op.Object = int(c.elements.Add(1) / listLength)
	case n < 30:
		op.Action, op.Value, do = checker.Insert, c.ids.Add(1), c.insert
	case n < 35:
		op.Action, op.Value, do = checker.Transfer, c.ids.Add(1), c.transfer
		from := c.rand.IntN(accounts)
		op.Values = []int64{int64(from), int64((from + 1 + c.rand.IntN(accounts-1)) % accounts), 1 + c.rand.Int64N(50)}
	case n < 75:
		op.Action, do = checker.ReadRegisters, c.readRegisters
	case n < 93:
		op.Action, do = checker.ReadList, c.readList
		op.Object = int(max(0, c.elements.Load()-c.rand.Int64N(listLength))) / listLength
	default:
		op.Action, do = checker.ReadAccounts, c.readAccounts
	}
	op.Invoke = c.now()
	err := do(limit, &op)
	op.Complete = c.now()
	if err != nil {
		op.Outcome, op.Error = outcome(err), err.Error()
		c.note(err)
	}
	c.mu.Lock()
	c.history = append(c.history, op)
	c.mu.Unlock()
	return err == nil
}

// failedForSure is the error of a transaction that was not committed.
type failedForSure struct{ error }

func (f failedForSure) Unwrap() error { return f.error }

// outcome is what an error tells of whether the operation happened.
func outcome(err error) checker.Outcome {
	var sure failedForSure
	if errors.As(err, &sure) || errors.Is(err, driver.ErrBadConn) {
		return checker.Failed // the driver gives ErrBadConn only if nothing was sent
	}
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		switch e.Number {
		case 2003, // the proxy's: nothing was sent
			1290, 1792, 1836, // read-only
			1205, 1213: // lock wait, deadlock
			return checker.Failed
		}
	}
	return checker.Unknown
}

func (c *client) note(err error) {
	text := err.Error()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[text[:min(len(text), 160)]]++
}

// querier is a connection or a transaction on it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (c *client) write(ctx context.Context, op *checker.Op) error {
	// A write that was believed lost must not undo a later one.
	result, err := c.conn.ExecContext(ctx, fmt.Sprintf("UPDATE register SET version = %d WHERE id = %d AND version < %d", op.Value, op.Object, op.Value))
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.strange = append(c.strange, fmt.Sprintf("write of version %d of register %d changed %d rows (%v): it happened before, too", op.Value, op.Object, n, err))
	}
	return nil
}

func (c *client) append(ctx context.Context, op *checker.Op) error {
	_, err := c.conn.ExecContext(ctx, "INSERT INTO list VALUES (?, ?) ON DUPLICATE KEY UPDATE elements = CONCAT(elements, ',', VALUES(elements))", op.Object, strconv.FormatInt(op.Value, 10))
	return err
}

func (c *client) insert(ctx context.Context, op *checker.Op) error {
	_, err := c.conn.ExecContext(ctx, fmt.Sprintf("INSERT INTO ledger (entry) VALUES (%d)", op.Value))
	return err
}

func (c *client) transfer(ctx context.Context, op *checker.Op) error {
	tx, err := c.conn.BeginTx(ctx, nil)
	if err != nil {
		return failedForSure{err}
	}
	for _, statement := range []string{
		fmt.Sprintf("UPDATE account SET balance = balance - %d WHERE id = %d", op.Values[2], op.Values[0]),
		fmt.Sprintf("UPDATE account SET balance = balance + %d WHERE id = %d", op.Values[2], op.Values[1]),
		fmt.Sprintf("INSERT INTO ledger (entry) VALUES (%d)", op.Value),
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return failedForSure{errors.Join(err, ignoreDone(tx.Rollback()))}
		}
	}
	return tx.Commit()
}

// ignoreDone drops the error of a rollback of what has ended already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) {
		return nil
	}
	return err
}

// snapshot runs a query as text, prepared, or in a read-only transaction, and
// returns the server that answered and the second and later columns of its
// rows.
func (c *client) snapshot(ctx context.Context, query string) (server uint32, values []string, err error) {
	switch c.rand.IntN(6) {
	case 0:
		tx, err := c.conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return 0, nil, err
		}
		server, values, err = read(ctx, tx, query)
		if err != nil {
			return 0, nil, errors.Join(err, ignoreDone(tx.Rollback()))
		}
		return server, values, tx.Commit()
	case 1:
		stmt, err := c.conn.PrepareContext(ctx, query)
		if err != nil {
			return 0, nil, err
		}
		server, values, err = read(ctx, prepared{stmt}, query)
		return server, values, errors.Join(err, stmt.Close())
	}
	return read(ctx, c.conn, query)
}

type prepared struct{ *sql.Stmt }

func (p prepared) QueryContext(ctx context.Context, _ string, args ...any) (*sql.Rows, error) {
	return p.Stmt.QueryContext(ctx, args...)
}

func read(ctx context.Context, q querier, query string) (server uint32, values []string, err error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return 0, nil, err
	}
	defer rows.Close() // Err below says what went wrong
	for rows.Next() {
		var value string
		if err := rows.Scan(&server, &value); err != nil {
			return 0, nil, err
		}
		values = append(values, value)
	}
	return server, values, rows.Err()
}

func (c *client) readRegisters(ctx context.Context, op *checker.Op) error {
	return c.numbers(ctx, op, "SELECT @@server_id, version FROM register ORDER BY id", registers)
}

func (c *client) readAccounts(ctx context.Context, op *checker.Op) error {
	return c.numbers(ctx, op, "SELECT @@server_id, balance FROM account ORDER BY id", accounts)
}

func (c *client) numbers(ctx context.Context, op *checker.Op, query string, want int) error {
	server, values, err := c.snapshot(ctx, query)
	if err != nil {
		return err
	}
	if len(values) != want {
		return fmt.Errorf("%d rows instead of %d from server %d", len(values), want, server)
	}
	op.Server = server
	for _, v := range values {
		n, err := parse(v)
		if err != nil {
			return err
		}
		op.Values = append(op.Values, n)
	}
	return nil
}

func (c *client) readList(ctx context.Context, op *checker.Op) error {
	server, values, err := c.snapshot(ctx, fmt.Sprintf("SELECT @@server_id, elements FROM list WHERE id = %d UNION ALL SELECT @@server_id, ''", op.Object))
	if err != nil {
		return err
	}
	op.Server = server
	for _, v := range values {
		if v == "" {
			continue // the row that names the server where there is no list
		}
		if op.Values, err = split(v); err != nil {
			return err
		}
	}
	return nil
}

func parse(text string) (int64, error) { return strconv.ParseInt(text, 10, 64) }

func split(text string) (elements []int64, err error) {
	for _, part := range strings.Split(text, ",") {
		n, err := parse(part)
		if err != nil {
			return nil, fmt.Errorf("list %q: %w", text, err)
		}
		elements = append(elements, n)
	}
	return elements, nil
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
