package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

// longAgo is the age of a report that was there before we looked: nobody knows how
// old it is.
const longAgo = 24 * time.Hour

// arrived is a report of a node and when it came; the zero time is before we looked.
type arrived[R any] struct {
	report R
	at     time.Time
}

func (a arrived[R]) age(now time.Time) time.Duration {
	if a.at.IsZero() {
		return longAgo
	}
	return now.Sub(a.at)
}

// world is what a leader sees of the farm by the registry. Watchers write it, and
// each change wakes the leader.
type world struct {
	wake func()

	mu         sync.Mutex
	missing    map[string]error // what is not known, or may be old, and why
	members    map[string]registry.Member
	databases  map[string]arrived[*cluster.Report]
	nodes      map[string]arrived[*cluster.NodeReport]
	hooks      map[string]*cluster.HooksReport  // what each node has said last
	endings    map[string]*cluster.EndingReport // of nodes whose machine is taken away
	backups    map[string]arrived[*cluster.BackupReport]
	passwords  map[string]*cluster.PasswordsReport // how far each node is with taking others
	assignment *cluster.Assignment
	operations []registry.Operation
	known      time.Time // since when nothing is missing; zero if something is
}

// What is watched.
const (
	watchedMembers    = "the members"
	watchedReports    = "the reports"
	watchedAssignment = "the assignment"
	watchedOperations = "the operations"
)

var errNotYet = errors.New("it was not read yet")

func newWorld(wake func()) *world {
	return &world{
		wake: wake,
		missing: map[string]error{
			watchedMembers: errNotYet, watchedReports: errNotYet, watchedAssignment: errNotYet, watchedOperations: errNotYet,
		},
		databases: map[string]arrived[*cluster.Report]{}, nodes: map[string]arrived[*cluster.NodeReport]{},
		hooks:   map[string]*cluster.HooksReport{},
		endings: map[string]*cluster.EndingReport{},
		backups: map[string]arrived[*cluster.BackupReport]{},

		passwords: map[string]*cluster.PasswordsReport{},
	}
}

// change makes a change and notes whether what is watched is known.
func (w *world) change(watched string, lost error, change func() error) error {
	w.mu.Lock()
	if lost == nil {
		lost = change()
	}
	if lost != nil {
		w.missing[watched], w.known = lost, time.Time{}
	} else if delete(w.missing, watched); len(w.missing) == 0 && w.known.IsZero() {
		w.known = time.Now()
	}
	w.mu.Unlock()
	w.wake()
	return nil
}

// watch follows the registry until ctx ends.
func (w *world) watch(ctx context.Context, client *registry.Client, assignment registry.Record) error {
	group := service.NewGroup(ctx)
	group.Go(watchedMembers, func(ctx context.Context) error {
		return client.WatchMembers(ctx, func(v registry.MembersView) error {
			return w.change(watchedMembers, v.Lost, func() error {
				w.members = map[string]registry.Member{}
				for _, m := range v.Members {
					w.members[m.Name] = m
				}
				return nil
			})
		})
	})
	group.Go(watchedReports, func(ctx context.Context) error {
		return client.WatchReports(ctx, func(v registry.ReportsView) error {
			return w.change(watchedReports, v.Lost, func() error {
				// What the first view after a gap has, came at an unknown time.
				_, gap := w.missing[watchedReports]
				at := time.Now()
				if gap {
					at = time.Time{}
				}
				for _, r := range v.Changed {
					w.take(r, at)
				}
				return nil
			})
		})
	})
	group.Go(watchedAssignment, func(ctx context.Context) error {
		return client.Watch(ctx, assignment, func(v registry.Value) error {
			return w.change(watchedAssignment, v.Lost, func() error { return w.assigned(v.Data) })
		})
	})
	group.Go(watchedOperations, func(ctx context.Context) error {
		return client.WatchOperations(ctx, func(v registry.OperationsView) error {
			return w.change(watchedOperations, v.Lost, func() error { w.operations = v.Operations; return nil })
		})
	})
	return group.Wait()
}

func (w *world) take(r registry.Reported, at time.Time) {
	switch r.Name {
	case cluster.ReportName:
		report, err := cluster.DecodeReport(r.Data)
		if r.Gone || err != nil || report.Name != r.Node {
			delete(w.databases, r.Node) // one that cannot be read is none
			return
		}
		w.databases[r.Node] = arrived[*cluster.Report]{report, at}
	case cluster.NodeReportName:
		report, err := cluster.DecodeNodeReport(r.Data)
		if r.Gone || err != nil || report.Name != r.Node {
			delete(w.nodes, r.Node)
			return
		}
		w.nodes[r.Node] = arrived[*cluster.NodeReport]{report, at}
	case cluster.HooksReportName:
		report, err := cluster.DecodeHooksReport(r.Data)
		if r.Gone || err != nil {
			delete(w.hooks, r.Node)
			return
		}
		w.hooks[r.Node] = report
	case cluster.EndingReportName:
		report, err := cluster.DecodeEndingReport(r.Data)
		if r.Gone || err != nil || report.Name != r.Node {
			delete(w.endings, r.Node)
			return
		}
		w.endings[r.Node] = report
	case cluster.PasswordsReportName:
		report, err := cluster.DecodePasswordsReport(r.Data)
		if r.Gone || err != nil {
			delete(w.passwords, r.Node)
			return
		}
		w.passwords[r.Node] = report
	case cluster.BackupReportName:
		report, err := cluster.DecodeBackupReport(r.Data)
		if r.Gone || err != nil || report.Name != r.Node {
			delete(w.backups, r.Node)
			return
		}
		w.backups[r.Node] = arrived[*cluster.BackupReport]{report, at}
	}
}

// assigned takes the assignment that the registry has, unless it is older than one
// that is known: what this leader has written may come back late.
func (w *world) assigned(data []byte) error {
	if data == nil {
		w.assignment = nil
		return nil
	}
	a, err := cluster.Decode(data)
	if err != nil {
		return err
	}
	if a.Newer(w.assignment) {
		w.assignment = a
	}
	return nil
}

// wrote notes an assignment that was written just now.
func (w *world) wrote(a *cluster.Assignment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.assignment = a
}

// moment is the world at one time. Nothing in it is changed.
type moment struct {
	now        time.Time
	members    map[string]registry.Member
	databases  map[string]arrived[*cluster.Report]
	nodes      map[string]arrived[*cluster.NodeReport]
	hooks      map[string]*cluster.HooksReport  // what each node has said last
	endings    map[string]*cluster.EndingReport // of nodes whose machine is taken away
	backups    map[string]arrived[*cluster.BackupReport]
	passwords  map[string]*cluster.PasswordsReport
	assignment *cluster.Assignment
	operations []registry.Operation
}

// look returns the world now, or why it is not known well enough to decide anything.
func (w *world) look(now time.Time) (moment, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := moment{
		now: now, members: w.members, databases: maps.Clone(w.databases), nodes: maps.Clone(w.nodes), hooks: maps.Clone(w.hooks),
		endings:    maps.Clone(w.endings),
		backups:    maps.Clone(w.backups),
		passwords:  maps.Clone(w.passwords),
		assignment: w.assignment, operations: w.operations,
	}
	var texts []string
	for _, watched := range slices.Sorted(maps.Keys(w.missing)) {
		texts = append(texts, watched+": "+w.missing[watched].Error())
	}
	if len(texts) > 0 {
		return m, fmt.Errorf("nothing is decided: %s", strings.Join(texts, "; "))
	}
	if old := m.unheard(); len(old) > 0 && now.Sub(w.known) < silent {
		return m, fmt.Errorf("nothing is decided: listening for %s", strings.Join(old, ", "))
	}
	return m, nil
}

// unheard are the servers of the assignment of which a report is known, and not how
// old it is. That is no silence yet: they have hardly had the time to speak.
func (m *moment) unheard() []string {
	var names []string
	for name, a := range m.databases {
		if _, known := m.assignment.Server(name); known && a.at.IsZero() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// operation returns the oldest operation of one of the kinds that has not ended.
func (m *moment) operation(is func(registry.Operation) bool) (registry.Operation, bool) {
	for _, o := range m.operations {
		if !o.HasEnded() && is(o) {
			return o, true
		}
	}
	return registry.Operation{}, false
}
