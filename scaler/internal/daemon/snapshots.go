package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/backup"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/roles"
	"farmhand/scaler/internal/volume"
)

// snapshotLimit is how long a snapshot may take, all in all.
const snapshotLimit = 2 * time.Hour

// snapshots has a snapshot taken of each volume that a server has and that is due one by the farm
// file, one at a time, and those removed that its rules do not keep. None is taken of a
// primary's: its writes would be held up.
func (l *leader) snapshots(m *moment) {
	if l.volumes == nil || l.memory.Paused != "" {
		return
	}
	for role := range sortedRoles(l.farm) {
		r := l.farm.Roles[role]
		every := time.Duration(r.Storage.Snapshots.Every)
		if every == 0 || r.Storage.Kind == farmfile.DirectoryStorage {
			continue
		}
		for _, i := range l.instances {
			if i.RoleName != role || i.Volume == "" || l.steps[i.Name] != roles.Stay || primary(m.assignment, i.Name) {
				continue
			}
			last, known := l.snapped.last(i.Volume)
			if known && m.now.Sub(last) < every {
				continue
			}
			rule := backup.Policy{Last: r.Storage.Snapshots.Last, For: time.Duration(r.Storage.Snapshots.For)}
			// One topic: what holds up one volume's writes is not done to several at a time.
			l.errands.do(snapshotTopic, snapshotTopic, "a snapshot of "+i.Volume, func(ctx context.Context) error {
				err := l.snapshot(ctx, role, i.Volume, every, rule)
				if err != nil && ctx.Err() == nil {
					l.log.Error("snapshot failed", zap.String("volume", i.Volume), zap.Error(err))
					l.journal.put(registry.Entry{Kind: "snapshot-failed", Text: fmt.Sprintf("no snapshot of %s was taken: %v", i.Volume, err), Fields: map[string]string{"role": role, "volume": i.Volume}})
				}
				return err
			})
		}
	}
}

const snapshotTopic = "snapshots"

// snapshot takes one of a volume, if it is still due by what the provider has, and removes those
// that the rule does not keep.
func (l *leader) snapshot(ctx context.Context, role, name string, every time.Duration, rule backup.Policy) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotLimit)
	defer cancel()
	fields := map[string]string{"role": role, "volume": name, registry.Minor: "true"}
	taken, last, err := snapshotOf(ctx, l.volumes, name, every, rule, func(id string) error {
		return l.fence(ctx, registry.Entry{Kind: registry.Decision, Text: fmt.Sprintf("snapshot %s of %s is removed: no rule keeps it", id, name), Fields: fields})
	})
	if taken != nil {
		l.journal.put(registry.Entry{
			Kind: registry.Decision, Fields: fields,
			Text: fmt.Sprintf("snapshot %s of %s was taken: %d bytes more, writes were held up for %v", taken.ID, name, taken.Stored, taken.Held.Round(time.Millisecond)),
		})
	}
	if last.IsZero() {
		// Not again at once: it holds up writes.
		last = time.Now().Add(min(every, snapshotRetry) - every)
	}
	l.snapped.note(name, last)
	return err
}

// snapshotOf takes a snapshot of a volume if there is none that is younger than every, and removes those that
// the rule does not keep, if remove allows it. It returns the one that was taken, nil if none was due, and when the
// last one was taken, zero if that is not known or none was.
func snapshotOf(ctx context.Context, store volume.Store, name string, every time.Duration, rule backup.Policy, remove func(id string) error) (taken *volume.Snapshot, last time.Time, err error) {
	all, err := store.Snapshots(ctx) // the oldest first
	if err != nil {
		return nil, last, err
	}
	mine := slices.DeleteFunc(all, func(s volume.Snapshot) bool { return s.Volume != name })
	if n := len(mine); n == 0 || time.Since(mine[n-1].Taken) >= every {
		one, err := store.Snapshot(ctx, name, volume.SnapshotOptions{})
		if err != nil {
			return nil, last, err
		}
		taken, mine = &one, append(mine, one)
	}
	last = mine[len(mine)-1].Taken
	for _, v := range volume.Prune(rule, mine, time.Now()) {
		if v.Keep {
			continue
		}
		err := remove(v.ID)
		if err == nil {
			err = store.DeleteSnapshot(ctx, v.ID)
		}
		if err != nil {
			return taken, last, err
		}
	}
	return taken, last, nil
}

// snapshotRetry is how long to wait after one that failed.
const snapshotRetry = 10 * time.Minute

// snapped is when each volume's last snapshot was taken, as far as is known.
type snapped struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (s *snapped) last(volume string) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, known := s.at[volume]
	return at, known
}

func (s *snapped) note(volume string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[string]time.Time{}
	}
	s.at[volume] = at
}
