package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"farmhand/internal/atomicfile"
	"farmhand/internal/volumemark"
)

// always are the names at the top of a volume that are its own, besides Local.Leave.
var always = []string{volumemark.File, "lost+found"}

// Snapshot is [Store.Snapshot].
//
// Its content is read twice: once while everything goes on, so that most of it is
// stored, and once while writes are held up, which then takes no longer than to read
// it. So writes are held up for the time that the volume's content takes to be read.
func (l *Local) Snapshot(ctx context.Context, name string, o SnapshotOptions) (s Snapshot, err error) {
	if o.Freeze == 0 {
		o.Freeze = DefaultFreeze
	}
	_, err = l.with(ctx, name, func(g *grip, r *record) (err error) {
		a, err := l.archive(ctx, name)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.lock.Close()) }()
		s, err = g.snapshot(ctx, a, r, o)
		return err
	})
	if err != nil {
		return Snapshot{}, fmt.Errorf("snapshot of volume %s: %w", name, err)
	}
	return s, nil
}

func (g *grip) snapshot(ctx context.Context, a *archive, r *record, o SnapshotOptions) (Snapshot, error) {
	s := Snapshot{Volume: r.Name, Spec: r.Spec, Moment: AtRest}
	if r.Filling {
		return s, fmt.Errorf("it does not have all of %s yet: restore it again", r.From)
	}
	if r.Kind == Directory && r.Instance != "" {
		return s, fmt.Errorf("%w hold up writes to a plain directory, and %s has it: files would be of different moments; detach it first, or use storage of kind volume or array", ErrUnable, r.Instance)
	}
	if err := a.begin(); err != nil {
		return s, err
	}
	root, leave := g.Content(r.Name), append(slices.Clone(g.Leave), always...)
	var files []file
	collect := func(ctx context.Context) (err error) {
		s.Taken = time.Now().UTC().Truncate(time.Millisecond)
		files, err = a.collect(ctx, root, leave, false)
		return err
	}
	var err error
	if r.Instance == "" {
		err = g.atRest(ctx, r, func() error { return collect(ctx) })
	} else {
		err = g.ready(ctx, r) // it is, unless the machine has been started anew
		if err == nil {
			_, err = a.collect(ctx, root, leave, true)
		}
		if err == nil {
			s.Moment, s.Held, err = g.still(ctx, root, o, collect)
		}
	}
	if err != nil {
		return s, err
	}
	for _, f := range files {
		s.Size += (f.Size + 4095) / 4096 * 4096
	}
	s.ID, s.Stored = r.Name+"-"+strings.Replace(s.Taken.Format(idTime), ".", "", 1), a.stored
	if _, err := os.Stat(filepath.Join(a.dir, s.ID)); err == nil {
		return s, fmt.Errorf("there is a snapshot %s already; the clock was set back", s.ID)
	}
	text, err := json.Marshal(files)
	if err != nil {
		return s, err
	}
	return s, a.commit(s, text)
}

// still runs do while the volume's writer holds still, if it can, and its file system
// is frozen.
func (g *grip) still(ctx context.Context, root string, o SnapshotOptions, do func(context.Context) error) (moment Moment, held time.Duration, err error) {
	moment = Crash
	if o.Hold != nil {
		release, err := o.Hold(ctx)
		if err != nil {
			return moment, 0, fmt.Errorf("have its writer hold still: %w", err)
		}
		moment = Quiet
		defer func() {
			if failed := release(); failed != nil {
				err = errors.Join(err, fmt.Errorf("let its writer go on: %w", failed))
			}
		}()
		held, err = g.frozen(ctx, root, o.Freeze, do)
		return moment, held, err
	}
	held, err = g.frozen(ctx, root, o.Freeze, do)
	return moment, held, err
}

// Snapshots is [Store.Snapshots].
func (l *Local) Snapshots(context.Context) ([]Snapshot, error) {
	dirs, err := os.ReadDir(l.Archive)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var list []Snapshot
	for _, d := range dirs {
		a := &archive{dir: filepath.Join(l.Archive, d.Name())}
		ids, err := a.ids()
		if err != nil {
			return nil, fmt.Errorf("list snapshots: %w", err)
		}
		for _, id := range ids {
			h, _, err := a.head(id)
			if errors.Is(err, fs.ErrNotExist) {
				continue // it has gone meanwhile
			}
			if err != nil {
				return nil, fmt.Errorf("list snapshots: %w", err)
			}
			list = append(list, h.Snapshot)
		}
	}
	slices.SortStableFunc(list, func(a, b Snapshot) int { return a.Taken.Compare(b.Taken) })
	return list, nil
}

// DeleteSnapshot is [Store.DeleteSnapshot].
func (l *Local) DeleteSnapshot(ctx context.Context, id string) error {
	err := l.inArchive(ctx, id, func(a *archive) error {
		a.step("delete")
		if err := os.Remove(filepath.Join(a.dir, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := atomicfile.SyncDir(a.dir); err != nil {
			return err
		}
		return a.sweep() // also what an attempt that was cut short has left
	})
	if err != nil {
		return fmt.Errorf("delete snapshot %s: %w", id, err)
	}
	return nil
}

// inArchive does something with the snapshots of a snapshot's volume, if there were
// ever any.
func (l *Local) inArchive(ctx context.Context, id string, do func(*archive) error) (err error) {
	name, err := volumeOf(id)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(l.Archive, name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	a, err := l.archive(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(do(a), a.lock.Close())
}

// Restore is [Store.Restore].
func (l *Local) Restore(ctx context.Context, snapshot string, s Spec) (Volume, error) {
	name, err := volumeOf(snapshot)
	if err == nil {
		var h header
		a := &archive{dir: filepath.Join(l.Archive, name)}
		h, _, err = a.head(snapshot)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = errors.New("there is no such snapshot")
		case err == nil && s.Kind != Directory && h.Size > s.Size:
			err = fmt.Errorf("it has %d bytes and the volume has %d", h.Size, s.Size)
		}
	}
	if err != nil {
		return Volume{}, fmt.Errorf("restore %s to volume %s: %w", snapshot, s.Name, err)
	}
	return l.create(ctx, s, snapshot)
}

// fill gives a volume the content of the snapshot that it is from.
func (g *grip) fill(ctx context.Context, r *record) error {
	err := g.inArchive(ctx, r.From, func(a *archive) error {
		_, files, err := a.read(r.From)
		if err != nil {
			return err
		}
		return a.extract(ctx, g.Content(r.Name), files, always)
	})
	if err != nil {
		return fmt.Errorf("restore %s: %w", r.From, err)
	}
	g.Step("restored")
	r.Filling = false
	return g.save(r)
}
