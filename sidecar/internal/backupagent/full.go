package backupagent

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/backup"
	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/objects"
	take "farmhand/sidecar/internal/backup"
	"farmhand/sidecar/internal/drill"
)

// errBegun: the process that took a backup has died in between.
var errBegun = errors.New("it was begun before, and who took it has ended")

// takeFull takes a full backup, unless one of the name was begun before: there is
// one attempt under a name, whatever dies meanwhile.
func (a *Agent) takeFull(ctx context.Context, p *cluster.BackupPlan, t cluster.FullTask, epoch farm.Epoch) {
	a.mu.Lock()
	known := a.full != nil && a.full.ID == t.ID
	a.mu.Unlock()
	if known {
		return // it is reported how it ended
	}
	r := cluster.FullReport{ID: t.ID, State: cluster.Working, Began: time.Now().UTC()}
	a.note(func() { a.full = &r })
	a.o.Log.Info("full backup begins", zap.String("backup", t.ID), zap.String("store", p.Store), zap.String("why", t.Why))
	m, told, err := a.attempt(ctx, p, t, epoch)
	ended := time.Now().UTC()
	if err != nil {
		a.o.Log.Error("full backup failed", zap.String("backup", t.ID), zap.Error(err))
		a.note(func() {
			r := *a.full
			r.State, r.Ended, r.Error = cluster.Failed, ended, firstOf(err)
			a.full = &r
		})
		a.event(farm.BackupFailed, map[string]string{"backup": t.ID, "reason": firstOf(err)})
		return
	}
	a.o.Log.Info("full backup is complete", zap.String("backup", t.ID), zap.String("position", m.Position), zap.Int64("stored", m.Stored()))
	a.note(func() {
		a.full = &cluster.FullReport{
			ID: t.ID, State: cluster.Done, Bytes: m.Bytes, Total: m.Bytes, Began: m.Began, Ended: m.Ended, Position: m.Position, Stored: m.Stored(),
		}
	})
	if !told {
		a.event(farm.BackupComplete, map[string]string{
			"backup": t.ID, "store": p.Store, "position": m.Position, "bytes": strconv.FormatInt(m.Bytes, 10), "stored": strconv.FormatInt(m.Stored(), 10),
		})
	}
}

// attempt takes the backup. before says that it was complete already.
func (a *Agent) attempt(ctx context.Context, p *cluster.BackupPlan, t cluster.FullTask, epoch farm.Epoch) (m *backup.Manifest, before bool, err error) {
	store, to, err := open(ctx, p)
	if err != nil {
		return nil, false, err
	}
	m, begun, err := backup.Begun(ctx, store, a.o.Cluster, t.ID)
	switch {
	case err != nil:
		return nil, false, err
	case m != nil:
		return m, true, nil
	case begun:
		return nil, false, errors.Join(errBegun, a.tidy(ctx, store, t.ID))
	}
	total, err := dbserver.DataSize(a.o.Server.DataDir())
	if err != nil {
		return nil, false, err
	}
	progress := func(bytes int64) {
		a.note(func() {
			r := *a.full
			r.Bytes, r.Total = bytes, max(total, bytes)
			a.full = &r
		})
	}
	progress(0)
	m, err = take.Take(ctx, take.Full{
		Install: a.o.Install, Config: a.o.Server, Store: store, ID: t.ID, Cluster: a.o.Cluster, Node: a.o.Name, Epoch: epoch, To: to, Logical: t.Logical,
		Rate: p.Throttle, Tell: progress,
	})
	return m, false, err
}

// tidyLimit bounds the removal of what nobody needs.
const tidyLimit = 30 * time.Second

func (a *Agent) tidy(ctx context.Context, store objects.Store, id string) error {
	ctx, cancel := context.WithTimeout(ctx, tidyLimit)
	defer cancel()
	return backup.Remove(ctx, store, a.o.Cluster, id)
}

// makeDrill tries a restore out.
func (a *Agent) makeDrill(ctx context.Context, p *cluster.BackupPlan, t cluster.DrillTask) {
	a.mu.Lock()
	known := a.drill != nil && a.drill.ID == t.ID
	a.mu.Unlock()
	if known {
		return
	}
	r := cluster.DrillReport{ID: t.ID, State: cluster.Working, Began: time.Now().UTC()}
	a.note(func() { a.drill = &r })
	a.o.Log.Info("restore drill begins", zap.String("drill", t.ID))
	proof, err := a.try(ctx, p, t)
	ended := time.Now().UTC()
	fields := map[string]string{"drill": t.ID, "store": p.Store}
	if err != nil {
		var differs *drill.DiffersError
		isDifferent := errors.As(err, &differs)
		a.o.Log.Error("restore drill failed", zap.String("drill", t.ID), zap.Error(err))
		a.note(func() {
			r := *a.drill
			r.State, r.Ended, r.Error = cluster.Failed, ended, firstOf(err)
			if isDifferent {
				r.Backup, r.Position, r.Differs = differs.Backup, differs.Position, firstOf(err)
			}
			a.drill = &r
		})
		fields["reason"] = firstOf(err)
		a.event(farm.DrillFailed, fields)
		return
	}
	a.o.Log.Info("restore is proven", zap.String("drill", t.ID), zap.String("backup", proof.Backup), zap.String("position", proof.Position))
	a.note(func() {
		r := *a.drill
		r.State, r.Ended, r.Backup, r.Position, r.Until = cluster.Done, ended, proof.Backup, proof.Position, proof.Time
		a.drill = &r
	})
	maps.Copy(fields, map[string]string{
		"backup": proof.Backup, "position": proof.Position, "until": proof.Time.UTC().Format(time.RFC3339),
		"tables": strconv.Itoa(proof.Tables), "rows": strconv.FormatInt(proof.Rows, 10),
	})
	a.event(farm.DrillComplete, fields)
}

func (a *Agent) try(ctx context.Context, p *cluster.BackupPlan, t cluster.DrillTask) (drill.Proof, error) {
	keys, err := backup.ReadIdentities(t.IdentityFile)
	if err != nil {
		return drill.Proof{}, err
	}
	store, _, err := open(ctx, p)
	if err != nil {
		return drill.Proof{}, err
	}
	return a.o.Drill(ctx, drill.Config{
		Install: a.o.Install, Server: a.o.Server, Scratch: a.o.Scratch, Store: store, Cluster: a.o.Cluster, Identities: keys,
		Progress: func(done, total int64) {
			a.note(func() {
				r := *a.drill
				r.Done, r.Total = done, total
				a.drill = &r
			})
		},
	})
}

// mostTold bounds an error in a report.
const mostTold = 1000

// firstOf is an error as a report can have it.
func firstOf(err error) string {
	text := strings.ToValidUTF8(err.Error(), "?")
	return strings.ToValidUTF8(text[:min(len(text), mostTold)], "")
}
