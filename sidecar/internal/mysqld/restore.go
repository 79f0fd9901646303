package mysqld

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/backup"
	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/objects"
	"farmhand/internal/restore"
)

// restoreTries is how often a restore is tried that has failed for a reason which may
// go away, before the farm is told that it has failed.
const restoreTries = 5

// asidePattern is what data from before a restore is called, in the server's directory,
// with the restore's ID.
const asidePattern = "aside-"

// restoreData replaces the server's data, which no process works on, by that of a backup
// as of a moment: the server is to lead with it.
func (a *Agent) restoreData(ctx context.Context, o *order) error {
	r := o.part.Restore
	got, err := a.fromStore(ctx, o)
	if err != nil {
		return a.notRestored(r.ID, err)
	}
	if err := a.furnishRestored(ctx, o); err != nil {
		return errors.Join(a.notRestored(r.ID, err), got.Discard())
	}
	if r.Over {
		err = a.swapOver(ctx, o, got)
	} else {
		err = got.Swap()
	}
	switch {
	case errors.Is(err, errCut):
		return errors.Join(err, got.Discard()) // it is tried until it is the one or the other
	case err != nil:
		return errors.Join(a.notRestored(r.ID, err), got.Discard())
	}
	a.o.Log.Info("data restored", zap.String("restore", r.ID), zap.String("position", got.Position), zap.Int("replayed", got.Replayed), zap.Duration("took", got.Took))
	if err := a.findAside(); err != nil {
		return err
	}
	return a.hasData(func(k *kept) {
		k.Restored, k.CopiedStored, k.CopiedBytes, k.CopiedTook = r.ID, true, got.Bytes, got.Took
	}, func(p *picture) { p.restored, p.restoreError = r.ID, "" })
}

// errCut: the store says that the history was cut, and the data is the old one still.
// The farm must not go on with that.
var errCut = errors.New("the history is cut in the store, and the data is not")

// swapOver puts restored data in the place of that which it takes back. What the store
// is told comes before anything is written here that has a number which was given before;
// the old data is in its place then, and leads again only after that was taken back.
func (a *Agent) swapOver(ctx context.Context, o *order, got *restore.Restored) error {
	store, err := a.cutHistory(ctx, o, got.Position)
	if err == nil {
		err = got.SwapKeeping(a.aside(o.part.Restore.ID))
	}
	if err != nil && store != nil {
		if undone := backup.DropCut(ctx, store, o.part.Restore.Cluster, o.assignment.Epoch); undone != nil {
			return errors.Join(errCut, err, undone)
		}
	}
	return err
}

// hasData notes that the server has other data than before.
func (a *Agent) hasData(keep func(*kept), how func(*picture)) error {
	a.history.forget()
	if err := a.memory.keep(func(k *kept) {
		k.Copied, k.Errant, k.ErrantAfter, k.Missing, k.Fresh, k.LedAsync, k.IntactPID = "", "", "", "", false, false, 0
		keep(k)
	}); err != nil {
		return err
	}
	a.change(func(p *picture) {
		p.empty, p.detail, p.unstarted, p.broken = false, "", 0, ""
		how(p)
	})
	return nil
}

// fromStore makes data of a backup beside the server's own.
func (a *Agent) fromStore(ctx context.Context, o *order) (_ *restore.Restored, err error) {
	r := o.part.Restore
	a.change(func(p *picture) { p.process, p.detail = cluster.Copying, "restores a backup of "+r.Cluster })
	defer a.change(func(p *picture) { p.process = cluster.Absent })
	target, err := restore.ParseTarget(r.To)
	if err != nil {
		return nil, err
	}
	from := restore.Source{Cluster: r.Cluster}
	if from.Keys, err = backup.ReadIdentities(r.IdentityFile); err != nil {
		return nil, err
	}
	if from.Store, err = openStore(ctx, r); err != nil {
		return nil, err
	}
	plan, err := restore.Find(ctx, from, target, r.Backup)
	if err != nil {
		return nil, err
	}
	if m := plan.Manifest; !m.Attributed() {
		return nil, fmt.Errorf("%w: backup %s does not say who wrote its transactions, as those of an older release; take a new one, or make a server of it by scaler restore --into", errUnusable, m.ID)
	}
	server := a.o.Server
	server.ServerID = o.part.ID
	return plan.Restore(ctx, restore.Into{Install: a.o.Install, Config: server, Tell: func(p restore.Progress) {
		text := fmt.Sprintf("restores backup %s of %s: %s, %d of %d MiB", plan.Manifest.ID, r.Cluster, p.Phase, p.Done>>20, p.Total>>20)
		if p.Left > 0 {
			text += fmt.Sprintf(", about %v more", p.Left.Round(time.Second))
		}
		a.say(text)
	}})
}

func openStore(ctx context.Context, r *cluster.Restore) (objects.Store, error) {
	c, err := objects.ParseURL(r.Store)
	if err != nil {
		return nil, err
	}
	return objects.Open(ctx, c)
}

// errUnusable is a reason that does not go away.
var errUnusable = errors.New("the backup cannot be used")

// furnishRestored gives restored data, which has the accounts of its time, those of
// this farm.
func (a *Agent) furnishRestored(ctx context.Context, o *order) error {
	statements := dbserver.Anew(slices.Concat(
		dbserver.ReplicationAccount(a.o.Install.Flavor, a.Replication()), dbserver.MonitorAccount(a.o.Install.Flavor, a.Monitor()), a.o.Application,
	))
	in := dbserver.Incoming(a.o.Server)
	in.ServerID = o.part.ID
	return dbserver.Settle(ctx, a.o.Install, in, func(ctx context.Context, conn *mysqladmin.Conn) error {
		for _, s := range statements {
			if _, err := conn.Exec(ctx, s); err != nil {
				return fmt.Errorf("the farm's accounts in restored data: %w", err)
			}
		}
		return nil
	})
}

// cutHistory notes in the store that the cluster goes on from a position. It returns the
// store if that may have been noted, whatever the error.
func (a *Agent) cutHistory(ctx context.Context, o *order, position string) (objects.Store, error) {
	// An assignment may have come meanwhile that does not know of this.
	if err := a.stillLeads(ctx, o); err != nil {
		return nil, err
	}
	store, err := openStore(ctx, o.part.Restore)
	if err != nil {
		return nil, err
	}
	return store, backup.PutCut(ctx, store, o.part.Restore.Cluster, backup.Cut{
		Epoch: o.assignment.Epoch, Position: position, At: time.Now().UTC(), Why: "restore " + o.part.Restore.ID,
	})
}

// notRestored notes why a restore has failed, for the farm if there is no use in trying
// again.
func (a *Agent) notRestored(id string, err error) error {
	var unreachable *restore.UnreachableError
	a.change(func(p *picture) {
		if p.restoring != id {
			p.restoring, p.restoreTries = id, 0
		}
		p.restoreTries++
		if errors.As(err, &unreachable) || errors.Is(err, backup.ErrNoKey) || errors.Is(err, errUnusable) || p.restoreTries >= restoreTries {
			text := strings.ToValidUTF8(err.Error(), "?")
			p.restoreError = strings.ToValidUTF8(text[:min(len(text), 1000)], "")
		}
	})
	return err
}

func (a *Agent) aside(id string) string { return filepath.Join(a.o.Server.Dir, asidePattern+id) }

// asides are the directories with data from before restores, the oldest first.
func asides(dir string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(dir, asidePattern+"*"))
	slices.Sort(found)
	return found, err
}

// clearAside removes what was kept aside before a restore that a person has confirmed.
func (a *Agent) clearAside(o *order) error {
	found, err := asides(a.o.Server.Dir)
	if err != nil {
		return err
	}
	for _, dir := range found {
		if id := strings.TrimPrefix(filepath.Base(dir), asidePattern); id > o.assignment.Confirmed {
			continue
		}
		a.o.Log.Info("data from before a restore is removed, as was confirmed", zap.String("directory", dir))
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove data from before a restore: %w", err)
		}
	}
	return a.findAside()
}

// findAside notes what is kept aside.
func (a *Agent) findAside() error {
	found, err := asides(a.o.Server.Dir)
	a.change(func(p *picture) { p.aside = strings.Join(found, ", ") })
	return err
}
