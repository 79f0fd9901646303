package daemon

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"farmhand/internal/registry"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
)

// The kinds of operations beside steer's.
const (
	OpScale     = "scale"     // role, servers: a number, or "file" for the farm file's
	OpLaunch    = "launch"    // role
	OpTerminate = "terminate" // name; shrink: the role is to have one less
	OpDrain     = "drain"     // name; undo
	OpPause     = "pause"     // why
	OpResume    = "resume"
	OpRenew     = "renew"    // role: only this one's instances; roles: the digest of the farm file that is meant
	OpRebundle  = "rebundle" // instance; as: the image's name; batch; within
	OpRotate    = "rotate"   // the passwords of the farm's own accounts
	// OpRelease: role, batch, within; version, and for a new one what ReleaseArgs adds; or rollback.
	OpRelease = "release"
	OpAbort   = "abort" // id: of a rebundle or a release that goes on
)

// answer is how an operation stands.
type answer struct {
	done, refused bool
	text          string
}

func refused(format string, args ...any) answer {
	return answer{refused: true, text: fmt.Sprintf(format, args...)}
}

func finished(format string, args ...any) answer {
	return answer{done: true, text: fmt.Sprintf(format, args...)}
}

func waits(format string, args ...any) answer { return answer{text: fmt.Sprintf(format, args...)} }

// operations carry out the kinds: each is called again until it answers that it is
// done or refused; begun is set after the first time.
var operations = map[string]func(l *leader, m *moment, o registry.Operation, begun bool) answer{
	OpScale:     (*leader).scale,
	OpLaunch:    (*leader).launchOne,
	OpTerminate: (*leader).terminate,
	OpDrain:     (*leader).drain,
	OpPause:     (*leader).pause,
	OpResume:    (*leader).resume,
	OpRenew:     (*leader).renew,
	OpCron:      (*leader).runCron,
	OpRebundle:  (*leader).rebundle,
	OpRelease:   (*leader).release,
	OpAbort:     (*leader).abort,
	OpRotate:    (*leader).startRotation,
}

// requests goes on with what operators ask for.
func (l *leader) requests(ctx context.Context, m *moment) error {
	for _, o := range m.operations {
		if o.HasEnded() || (slices.Contains(steerKinds, o.Kind) || isBackupKind(o.Kind)) && l.database != "" {
			continue
		}
		do, ok := operations[o.Kind]
		a := refused("the scaler that leads knows no operation %q on this farm", o.Kind)
		if ok {
			a = do(l, m, o, o.State == registry.OperationRunning)
		}
		if err := l.answer(ctx, m, o, a); err != nil {
			return err
		}
	}
	return l.askForHandover(ctx)
}

// latest are the operations with what this leader has answered last: that may not be
// written yet. An operation's end is written in any case.
func (l *leader) latest(operations []registry.Operation) []registry.Operation {
	list, answered := slices.Clone(operations), map[string]registry.Operation{}
	for i, o := range list {
		if ours, ok := l.answered[o.ID]; ok && !o.HasEnded() {
			list[i], answered[o.ID] = ours, ours
		}
	}
	l.answered = answered
	return list
}

// answer has written how an operation stands, if that is news.
func (l *leader) answer(ctx context.Context, m *moment, o registry.Operation, a answer) error {
	o.Steps = slices.Clone(o.Steps)
	n := len(o.Steps)
	_, ours := l.answered[o.ID]
	if !a.done && !a.refused && o.State == registry.OperationRunning && (a.text == "" || ours && n > 0 && a.text == o.Steps[n-1].Text) {
		return nil
	}
	if a.text != "" && (n == 0 || o.Steps[n-1].Text != a.text) {
		o.Steps = append(o.Steps, registry.OperationStep{Time: time.Now().UTC(), Text: a.text})
	}
	o.State = registry.OperationRunning
	switch {
	case a.done:
		o.State, o.Result = registry.OperationDone, a.text
	case a.refused:
		o.State, o.Error = registry.OperationFailed, a.text
	}
	// What it has brought about must not be forgotten while it counts as done.
	if err := l.remember(ctx); err != nil {
		return err
	}
	if o.HasEnded() { // who hears of it finds it so
		if err := l.show(m, true); err != nil {
			return err
		}
	}
	l.answered[o.ID] = o
	l.notices.answer(o)
	if o.HasEnded() {
		l.journal.put(registry.Entry{Kind: "operation-ended", Text: fmt.Sprintf("%s asked by %s: %s: %s", o.Kind, o.By, o.State, a.text), Fields: map[string]string{"operation": o.ID}})
		poke(l.wake)
	}
	return nil
}

func (l *leader) scale(_ *moment, o registry.Operation, begun bool) answer {
	role := o.Args["role"]
	if err := l.checkRole(role); err != nil {
		return refused("%v", err)
	}
	if !begun {
		if o.Args["servers"] == "file" {
			delete(l.memory.Pinned, role)
			p := l.policy(role)
			return finished("the farm file says again how many servers %s has: %d to %d", role, p.Min, p.Max)
		}
		n, err := strconv.Atoi(o.Args["servers"])
		if err != nil {
			return refused("%q is not a number of servers", o.Args["servers"])
		}
		if err := l.pin(role, n); err != nil {
			return refused("%v", err)
		}
	}
	n, pinned := l.memory.Pinned[role]
	if !pinned {
		return refused("another operation has let the farm file say again how many servers %s has", role)
	}
	return l.sizeOf(role, n)
}

// mostServers is what the farm file allows of a count.
const mostServers = 100

func (l *leader) pin(role string, n int) error {
	if n < 1 || n > mostServers {
		return fmt.Errorf("%d servers are not possible; expected 1 to %d", n, mostServers)
	}
	if my := l.farm.Roles[role].Parameters.MySQL; my != nil && my.Durability == farmfile.Lossless && n < 2 {
		return errors.New("lossless needs a replica at all times: 2 servers at least")
	}
	if l.farm.Roles[role].Kind == farmfile.StorageServerKind && n != 1 {
		return fmt.Errorf("%s is a storage: there is one disk, and one server at a time has it", role)
	}
	l.memory.Pinned[role] = n
	l.sized = time.Time{} // at once
	return nil
}

// sizeOf says how far a role is from having n servers.
func (l *leader) sizeOf(role string, n int) answer {
	ready, others := 0, map[string]int{}
	for _, s := range l.servers[role] {
		if s.State == decide.Ready {
			ready++
		} else {
			others[s.State.String()]++
		}
	}
	if ready == n && len(others) == 0 {
		return finished("%s has %s", role, servers(n))
	}
	text := fmt.Sprintf("%s has %d of %s", role, ready, servers(n))
	for _, state := range slices.Sorted(maps.Keys(others)) {
		text += fmt.Sprintf(", %d %s", others[state], state)
	}
	if v := l.roles[role]; v.Held != "" {
		text += "; it waits: " + v.Held
	} else if v.Failure != "" {
		text += "; the last launch failed: " + v.Failure
	}
	return waits("%s", text)
}

func (l *leader) launchOne(_ *moment, o registry.Operation, begun bool) answer {
	role := o.Args["role"]
	if err := l.checkRole(role); err != nil {
		return refused("%v", err)
	}
	if !begun {
		if err := l.pin(role, live(l.servers[role])+1); err != nil {
			return refused("%v", err)
		}
	}
	n, ok := l.memory.Pinned[role]
	if !ok {
		return refused("the farm file says again how many servers %s has", role)
	}
	return l.sizeOf(role, n)
}

func (l *leader) instanceNames() string {
	var names []string
	for _, i := range l.instances {
		names = append(names, i.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (l *leader) pause(_ *moment, o registry.Operation, _ bool) answer {
	if l.memory.Paused = o.Args["why"]; l.memory.Paused == "" {
		l.memory.Paused = "by " + o.By
	}
	return finished("paused: no failover, no scaling and no repair is begun until scaler resume")
}

func (l *leader) resume(*moment, registry.Operation, bool) answer {
	if l.memory.Paused == "" {
		return finished("the farm was not paused")
	}
	l.memory.Paused = ""
	return finished("the farm is not paused any more")
}

func sortedRoles(f *farmfile.Farm) iter.Seq[string] {
	return sortedKeys(f.Roles)
}

func sortedKeys[V any](m map[string]V) iter.Seq[string] {
	return slices.Values(slices.Sorted(maps.Keys(m)))
}
