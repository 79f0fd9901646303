package mysqld

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"farmhand/internal/mysqladmin"
)

// yield has the server take no more writes, from anybody.
//
// read_only does not stop an account with READ ONLY ADMIN, and waits for the
// commits that wait for an acknowledgement. So clients are sent away until it is
// set, once more after that, and then the server is frozen, which stops
// administrators too for as long as our connection holds. Clients may come back, to
// read.
func (a *Agent) yield(ctx context.Context, p picture) error {
	f, err := a.facts(ctx, p)
	if err != nil {
		return err
	}
	if f.channel != nil {
		return a.hold(ctx, p) // it follows, and so has no writers
	}
	if !f.readOnly || !a.control.frozen {
		if !f.readOnly {
			if err := a.letFinish(ctx, p); err != nil {
				return err
			}
		}
		if err := a.refuseWrites(ctx, p); err != nil {
			return err
		}
		if err := a.insist(ctx, p, a.dialect.freeze); err != nil {
			return err
		}
		a.control.frozen = true
	}
	return nil
}

// finishLimit is how long what the proxies had begun before they held writes back may take
// to end by itself. Then its clients are sent away.
const finishLimit = 300 * time.Millisecond

// letFinish waits until no client executes anything, and no transaction is open.
func (a *Agent) letFinish(ctx context.Context, p picture) (err error) {
	conn, err := dial(ctx, p.server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	for began := time.Now(); time.Since(began) < finishLimit; {
		busy, err := a.busy(ctx, conn)
		if err != nil {
			return err
		}
		if busy {
			if err := pause(ctx, 2*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		if open, _, err := a.open.count(ctx, conn, a.dialect); err != nil || open == 0 {
			return err
		}
	}
	return nil
}

// busy reports whether a client executes something.
func (a *Agent) busy(ctx context.Context, conn *mysqladmin.Conn) (bool, error) {
	rows, err := conn.Query(ctx, a.dialect.clients)
	if err != nil {
		return false, fmt.Errorf("list the server's clients: %w", err)
	}
	return slices.ContainsFunc(rows, func(row mysqladmin.Row) bool {
		id, err := strconv.ParseUint(row.String("id"), 10, 32)
		return err == nil && row.String("command") != "Sleep" && !a.mayStay(row, uint32(id), conn.ID())
	}), nil
}

// refuseWrites makes the server read-only, and sends away everybody who may have
// begun to write. Commits that nobody has acknowledged are not told to have
// succeeded.
func (a *Agent) refuseWrites(ctx context.Context, p picture) error {
	if err := a.insist(ctx, p, a.dialect.readOnly); err != nil {
		return err
	}
	return a.sendClientsAway(ctx, p)
}

// insistFirst is how long a statement may wait for clients before they are sent
// away (again).
const insistFirst = 20 * time.Millisecond

// thaw ends the freeze. What waits for that must not be carried out when it ends.
func (a *Agent) thaw(ctx context.Context, p picture) error {
	if !a.control.frozen {
		return nil
	}
	if err := a.sendClientsAway(ctx, p); err != nil {
		return err
	}
	if err := a.exec(ctx, p, a.dialect.thaw...); err != nil {
		return err
	}
	a.control.frozen = false
	return nil
}

// insist has the server execute statements for which clients that write are in the
// way, sending them away.
func (a *Agent) insist(ctx context.Context, p picture, statements []string) error {
	if len(statements) == 0 {
		return nil
	}
	if err := a.sendClientsAway(ctx, p); err != nil {
		return err
	}
	// On the loop's connection, because that is what holds a lock, and the sending
	// away meanwhile on another one.
	done := make(chan error, 1)
	go func() { done <- a.exec(ctx, p, statements...) }()
	var errs error
	for wait := insistFirst; ; wait = min(2*wait, time.Second) {
		timer := time.NewTimer(wait)
		select {
		case err := <-done:
			timer.Stop()
			if err == nil {
				return nil
			}
			return errors.Join(err, errs)
		case <-timer.C:
			errs = a.sendClientsAway(ctx, p)
		}
	}
}

const (
	goLimit = 3 * time.Second
	// goSlowly is how long clients that were sent away may take before it is asked what
	// keeps them.
	goSlowly = 50 * time.Millisecond
)

// sendClientsAway ends every connection that may write: all but ours, the
// replication's and the proxies' watch. It returns when they are gone; others may
// have come.
func (a *Agent) sendClientsAway(ctx context.Context, p picture) (err error) {
	ctx, cancel := context.WithTimeout(ctx, goLimit)
	defer cancel()
	conn, err := dial(ctx, p.server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	sent, began, released := map[uint32]bool{}, time.Now(), false
	for first := true; ; first = false {
		rows, err := conn.Query(ctx, a.dialect.clients)
		if err != nil {
			return fmt.Errorf("list the server's clients: %w", err)
		}
		left := 0
		for _, row := range rows {
			id, err := strconv.ParseUint(row.String("id"), 10, 32)
			if err != nil || a.mayStay(row, uint32(id), conn.ID()) || !first && !sent[uint32(id)] {
				continue
			}
			left++
			if sent[uint32(id)] {
				continue
			}
			if _, err := conn.Exec(ctx, fmt.Sprintf("KILL %d", id)); err != nil && mysqladmin.Code(err) != errNoSuchThread {
				return fmt.Errorf("send client %d away: %w", id, err)
			}
			sent[uint32(id)] = true
		}
		if left == 0 {
			return nil
		}
		if time.Since(began) > goSlowly && !released {
			// Their connections are closed: nobody is told that the commit has succeeded.
			for _, statement := range a.dialect.release {
				if _, err := conn.Exec(ctx, statement); err != nil {
					return fmt.Errorf("%s: %w", statement, err)
				}
			}
			released = true
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return fmt.Errorf("%d clients do not go: %w", left, err)
		}
	}
}

func (a *Agent) mayStay(row mysqladmin.Row, id, self uint32) bool {
	switch row.String("user") {
	case "system user", "event_scheduler", "mysql.session", "mysql.infoschema", "", a.Replication().User, a.Monitor().User:
		return true
	}
	if slices.Contains([]string{"Binlog Dump", "Binlog Dump GTID", "Daemon"}, row.String("command")) {
		return true
	}
	return id == self || id == a.control.id.Load() || id == a.observer.Load()
}
