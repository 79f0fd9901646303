package localfarm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"farmhand/internal/mysqladmin"
	"farmhand/internal/report"
)

// awaitServers returns when every server runs and every replica replicates.
func (r *run) awaitServers(ctx context.Context) error {
	for {
		state, changed := r.board.read()
		var waiting []string
		for _, s := range state.Servers {
			if missing := notReady(s); missing != "" {
				waiting = append(waiting, s.Name+" "+missing)
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the servers do not run: %w; waiting for: %s", context.Cause(ctx), strings.Join(waiting, "; "))
		}
	}
}

// notReady says what a server lacks; empty means nothing.
func notReady(s report.Report) string {
	switch {
	case s.State != report.Running:
		return "is " + strings.TrimSpace(string(s.State)+" "+s.Detail)
	case s.Role == "replica" && s.Replication == nil:
		return "does not replicate " + s.Detail
	case s.Role == "replica" && !(mysqladmin.Running(s.Replication.Receiver) && mysqladmin.Running(s.Replication.Applier)):
		return fmt.Sprintf("does not replicate: receiver %s, applier %s %s", s.Replication.Receiver, s.Replication.Applier, s.Replication.Error)
	case s.Detail != "":
		return s.Detail
	}
	return ""
}

// awaitAnswers returns when the application's account gets answers through
// every address of the proxy: from the primary in a transaction, from every
// replica to plain reads.
func (r *run) awaitAnswers(ctx context.Context) error {
	targets := []mysqladmin.Target{{Network: "tcp", Address: r.Listen.String()}}
	if r.Socket != "" {
		targets = append(targets, mysqladmin.Target{Network: "unix", Address: r.Socket})
	}
	for _, target := range targets {
		target.User, target.Password, target.Program = AppUser, AppUser, "scaler"
		if err := r.awaitAnswer(ctx, target); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) awaitAnswer(ctx context.Context, target mysqladmin.Target) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	missing := map[string]bool{}
	for _, i := range r.instances {
		missing[strconv.FormatUint(uint64(i.ServerID), 10)] = true
	}
	patience := time.Now().Add(5 * time.Second)
	for {
		err := r.ask(ctx, target, missing)
		if err == nil && len(missing) == 0 {
			return nil
		}
		if err == nil {
			var names []string
			for _, i := range r.instances {
				if missing[strconv.FormatUint(uint64(i.ServerID), 10)] {
					names = append(names, i.Name)
				}
			}
			err = fmt.Errorf("no answer came from %s yet", strings.Join(names, ", "))
		}
		if time.Now().After(patience) {
			r.say("waiting for the farm to answer through %s: %v", target.Address, err)
			patience = time.Now().Add(5 * time.Second)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the farm does not answer through %s: %w: %w; %s says: %s",
				target.Address, context.Cause(ctx), err, r.layout.proxyLog(), lastLine(r.layout.proxyLog()))
		}
	}
}

// ask asks the farm through the proxy who answers and strikes that off. Only
// the primary may answer in a transaction.
func (r *run) ask(ctx context.Context, target mysqladmin.Target, missing map[string]bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := mysqladmin.Dial(ctx, target)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := conn.Close(); !errors.Is(cerr, mysqladmin.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}()
	const who = "SELECT @@server_id AS id, @@read_only AS ro"
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, who)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		return err
	}
	primary := strconv.FormatUint(uint64(r.instances[0].ServerID), 10)
	if len(rows) != 1 || rows[0].String("id") != primary || rows[0].String("ro") != "0" {
		return errors.New("a transaction did not go to the primary")
	}
	delete(missing, primary)
	// Reads are spread at random: ask until everyone had a turn, or later again.
	for range 16 {
		if len(missing) == 0 {
			return nil
		}
		rows, err := conn.Query(ctx, who)
		if err != nil {
			return err
		}
		if len(rows) == 1 {
			delete(missing, rows[0].String("id"))
		}
	}
	return nil
}

// lastLine is the last line of a log, for an error message.
func lastLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
