package localfarm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

// patience is after how long of waiting it is said what is waited for.
const patience = 10 * time.Second

// answerWithin is how long answers are waited for before it is looked again who the
// servers are.
const answerWithin = 2 * time.Second

// awaitFarm returns when every server that is to be there has its task, and the
// application's account gets answers through every place of the first web node's
// proxy. Who the primary is may change meanwhile.
func (r *run) awaitFarm(ctx context.Context, client *registry.Client) (Running, error) {
	said := time.Now()
	for {
		v, err := r.awaitServers(ctx, client)
		if err != nil {
			return Running{}, err
		}
		running, err := awaitAnswers(ctx, v)
		if err == nil {
			return running, nil
		}
		if ctx.Err() != nil {
			return Running{}, fmt.Errorf("the farm does not answer: %w: %w", context.Cause(ctx), err)
		}
		if time.Since(said) > patience {
			said = time.Now()
			r.say("waiting for the farm to answer: %v", err)
		}
	}
}

// awaitAnswers returns when what v shows answers through every place of the first web
// node's proxy, or what is missing still in one of them after [answerWithin].
func awaitAnswers(ctx context.Context, v *daemon.View) (Running, error) {
	running := Running{Primary: v.Assignment.Primary, Replicas: len(v.Assignment.Servers) - 1}
	var log string
	for _, n := range v.Nodes {
		if n.Kind == farmfile.WebKind && running.Listen == "" && running.Socket == "" {
			running.Listen, running.Socket, log = n.Listen, n.Socket, n.Log
		}
	}
	var targets []mysqladmin.Target
	if running.Listen != "" {
		targets = append(targets, mysqladmin.Target{Network: "tcp", Address: running.Listen})
	}
	if running.Socket != "" {
		targets = append(targets, mysqladmin.Target{Network: "unix", Address: running.Socket})
	}
	for _, target := range targets {
		target.User, target.Password, target.Program = provider.AppUser, provider.AppUser, "scaler"
		if err := awaitAnswer(ctx, target, v.Assignment, log); err != nil {
			return Running{}, err
		}
	}
	return running, nil
}

var errReady = errors.New("the servers are ready")

// awaitServers returns what the leader sees when nothing is missing any more.
func (r *run) awaitServers(ctx context.Context, client *registry.Client) (ready *daemon.View, err error) {
	began := time.Now()
	said, missing := time.Now(), "nobody leads"
	err = daemon.WatchView(ctx, client, func(v *daemon.View, lost error) error {
		switch {
		case lost != nil:
			missing = lost.Error()
		case v == nil || v.Time.Before(began.Add(-time.Second)):
			return nil // of an earlier run
		default:
			if missing = r.notReady(v); missing == "" {
				ready = v
				return errReady
			}
		}
		if time.Since(said) > patience {
			said = time.Now()
			r.say("waiting: %s", missing)
		}
		return nil
	})
	if errors.Is(err, errReady) {
		return ready, nil
	}
	return nil, fmt.Errorf("the farm is not there: %w; waiting for: %s", err, missing)
}

// notReady says what the farm lacks; empty means nothing.
func (r *run) notReady(v *daemon.View) string {
	var waiting []string
	for name, role := range r.Farm.Roles {
		there := 0
		for _, n := range v.Nodes {
			if n.RoleName != name {
				continue
			}
			there++
			if why := nodeNotReady(v, n); why != "" {
				waiting = append(waiting, n.Name+" "+why)
			}
		}
		if there < role.Count.Min {
			text := fmt.Sprintf("%s has %d of %d servers", name, there, role.Count.Min)
			if failure := v.Roles[name].Failure; failure != "" {
				text += " (" + failure + ")"
			}
			waiting = append(waiting, text)
		}
	}
	switch {
	case v.Cluster != "" && (v.Assignment == nil || v.Assignment.Primary == ""):
		waiting = append(waiting, strings.Join(v.Reasons, "; "))
	case v.Cluster != "" && v.Assignment.Phase != cluster.Steady:
		waiting = append(waiting, "a change of primary goes on")
	}
	return strings.Join(waiting, "; ")
}

func nodeNotReady(v *daemon.View, n daemon.NodeView) string {
	switch {
	case n.State != provider.Running:
		return "is " + string(n.State)
	case n.Database == nil && n.Report == nil:
		return "has not reported yet (see " + n.Log + ")"
	case n.Report != nil && !n.Report.Well:
		return strings.TrimSpace("is not well yet " + n.Report.Detail)
	case n.Database == nil:
		return ""
	}
	s, ok := v.Assignment.Server(n.Name)
	switch {
	case !ok:
		return "is not in the cluster yet"
	case !n.Database.Answers:
		return strings.TrimSpace("is " + string(n.Database.Process) + " " + n.Database.Detail)
	case s.Task != cluster.Lead && s.State != farm.Serving:
		return strings.TrimSpace("is to " + string(s.Task) + " and does not serve yet " + n.Database.Detail)
	}
	return ""
}

// awaitAnswer returns when the application's account gets answers through the
// proxy: from the primary in a transaction, from every replica to plain reads.
func awaitAnswer(ctx context.Context, target mysqladmin.Target, a *cluster.Assignment, log string) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	missing := map[string]string{} // names by server id
	for _, s := range a.Servers {
		missing[strconv.FormatUint(uint64(s.ID), 10)] = s.Name
	}
	leader, _ := a.Leader()
	for {
		err := ask(ctx, target, strconv.FormatUint(uint64(leader.ID), 10), missing)
		if err == nil && len(missing) == 0 {
			return nil
		}
		if err == nil {
			var names []string
			for _, name := range missing {
				names = append(names, name)
			}
			err = fmt.Errorf("no answer came from %s yet", strings.Join(names, ", "))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("through %s: %w; %s says: %s", target.Address, err, log, lastLine(log))
		}
	}
}

// ask asks the farm through the proxy who answers and strikes that off. Only the
// primary may answer in a transaction.
func ask(ctx context.Context, target mysqladmin.Target, primary string, missing map[string]string) (err error) {
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
	if len(rows) != 1 {
		return fmt.Errorf("%q had %d rows", who, len(rows))
	}
	if id, readOnly := rows[0].String("id"), rows[0].String("ro"); id != primary || readOnly != "0" {
		return fmt.Errorf("a transaction went to server %s (read_only %s), not to the primary, server %s", id, readOnly, primary)
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
