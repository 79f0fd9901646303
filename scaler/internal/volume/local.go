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

	"golang.org/x/sys/unix"

	"farmhand/internal/atomicfile"
	"farmhand/internal/farm"
	"farmhand/internal/mounts"
	"farmhand/scaler/internal/flock"
)

// Local has the volumes of a farm on this machine.
//
//	DIR/NAME/volume.json   what the volume is; with it there is one
//	DIR/NAME/disk-N        a disk of it, preallocated
//	DIR/NAME/data          its content: a directory, or where it is mounted
//	DIR/locks/NAME         held while something is done with it, also by the programs
//	                       that do it
//	ARCHIVE/NAME           the snapshots of it, see blocks.go
type Local struct {
	LocalOptions
	machine machine
}

// LocalOptions say where volumes are and who uses them.
type LocalOptions struct {
	// Dir and Archive, for the snapshots, are absolute paths without symbolic links.
	Dir, Archive string
	// Alive says which process of an instance there still is; empty if it is proven that
	// there is none. Nil: none is known.
	Alive func(ctx context.Context, instance string) (string, error)
	// Leave are the names at the top of a volume that no snapshot has: what is true of
	// this volume only.
	Leave []string
	// Step is called before each step that can be cut short, in tests; nil for nobody.
	Step func(string)
}

var _ Store = (*Local)(nil)

// NewLocal returns the volumes below o.Dir. Nothing is made before there is one.
func NewLocal(o LocalOptions) *Local {
	if o.Alive == nil {
		o.Alive = func(context.Context, string) (string, error) { return "", nil }
	}
	if o.Step == nil {
		o.Step = func(string) {}
	}
	return &Local{LocalOptions: o, machine: thisMachine()}
}

// record is volume.json.
type record struct {
	Spec
	Created  time.Time `json:"created"`
	Instance string    `json:"instance,omitempty"`
	Epoch    int64     `json:"epoch,omitempty"`
	From     string    `json:"from,omitempty"`
	// Formatted: it has a file system. Until then nobody had it.
	Formatted bool `json:"formatted,omitempty"`
	// Dirty: it was mounted and, as far as is known, not unmounted in order.
	Dirty bool `json:"dirty,omitempty"`
	// Growing: its disks may be larger than its file system.
	Growing bool `json:"growing,omitempty"`
	// Filling: it does not have all of the content of From yet.
	Filling bool `json:"filling,omitempty"`
}

// grip is the hold on one volume, for as long as its lock is held.
type grip struct {
	*Local
	name string
	lock *os.File
}

// grip takes hold of a volume, which need not be there.
func (l *Local) grip(ctx context.Context, name string) (*grip, error) {
	if err := farm.CheckName(name); err != nil {
		return nil, err
	}
	locks := filepath.Join(l.Dir, "locks")
	if err := os.MkdirAll(locks, 0o755); err != nil {
		return nil, err
	}
	lock, err := flock.Hold(ctx, filepath.Join(locks, name))
	if err != nil {
		return nil, err
	}
	return &grip{l, name, lock}, nil
}

// with does something with a volume that is there.
func (l *Local) with(ctx context.Context, name string, do func(*grip, *record) error) (v Volume, err error) {
	g, err := l.grip(ctx, name)
	if err != nil {
		return Volume{}, err
	}
	defer func() { err = errors.Join(err, g.lock.Close()) }()
	r, err := l.read(name)
	if err != nil {
		return Volume{}, err
	}
	if err := do(g, &r); err != nil {
		return Volume{}, err
	}
	return l.volume(r), nil
}

func (l *Local) of(name, file string) string { return filepath.Join(l.Dir, name, file) }

// Content is where the content of a volume is while an instance has it.
func (l *Local) Content(name string) string { return l.of(name, "data") }

func (l *Local) disks(s Spec) []string {
	if s.Kind == Directory {
		return nil
	}
	count, _ := s.PerDisk()
	list := make([]string, count)
	for i := range list {
		list[i] = l.of(s.Name, fmt.Sprintf("disk-%d", i+1))
	}
	return list
}

// read returns the record of a volume; ErrUnknown if there is none.
func (l *Local) read(name string) (record, error) {
	text, err := os.ReadFile(l.of(name, "volume.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, ErrUnknown
	}
	if err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil || r.Name != name {
		return record{}, fmt.Errorf("%s is not a volume's record: %w", l.of(name, "volume.json"), err)
	}
	return r, nil
}

func (g *grip) save(r *record) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(g.of(r.Name, "volume.json"), append(text, '\n'), 0o644, nil)
}

// Describe is [Store.Describe].
func (l *Local) Describe(_ context.Context, name string) (Volume, error) {
	if err := farm.CheckName(name); err != nil {
		return Volume{}, fmt.Errorf("volume: %w", err)
	}
	r, err := l.read(name)
	if err != nil {
		return Volume{}, fmt.Errorf("volume %s: %w", name, err)
	}
	return l.volume(r), nil
}

// List is [Store.List].
func (l *Local) List(ctx context.Context) ([]Volume, error) {
	entries, err := os.ReadDir(l.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var list []Volume
	for _, e := range entries {
		v, err := l.Describe(ctx, e.Name())
		if errors.Is(err, ErrUnknown) {
			continue // the locks, or one that comes or goes just now
		}
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// volume is what there is to be said of a record. What cannot be learned is trouble.
func (l *Local) volume(r record) Volume {
	v := Volume{Spec: r.Spec, Created: r.Created, Instance: r.Instance, Epoch: r.Epoch, From: r.From}
	var trouble []string
	if r.Filling {
		trouble = append(trouble, "it does not have all of "+r.From+" yet: restore it again")
	}
	for _, disk := range l.disks(r.Spec) {
		if _, err := os.Stat(disk); err != nil {
			trouble = append(trouble, "a disk is missing: "+err.Error())
		}
	}
	there := r.Kind == Directory && r.Instance != ""
	if r.Kind != Directory {
		devices, err := loops(l.disks(r.Spec))
		var at *mounts.Mount
		if err == nil {
			v.Devices = slices.DeleteFunc(devices, func(d string) bool { return d == "" })
			at, err = mounts.At(l.Content(r.Name))
		}
		if err != nil {
			trouble = append(trouble, err.Error())
		}
		there = at != nil && slices.Contains(v.Devices, at.Source)
		if r.Instance != "" && !there {
			trouble = append(trouble, "it is not mounted")
		}
	}
	if there {
		v.Path = l.Content(r.Name)
		var space unix.Statfs_t
		if err := unix.Statfs(v.Path, &space); err != nil {
			trouble = append(trouble, err.Error())
		} else if r.Kind != Directory {
			v.Used, v.Free = int64(space.Blocks-space.Bfree)*space.Bsize, int64(space.Bavail)*space.Bsize
		}
	}
	v.Trouble = strings.Join(trouble, "; ")
	return v
}

// Create is [Store.Create].
func (l *Local) Create(ctx context.Context, s Spec) (Volume, error) { return l.create(ctx, s, "") }

// create makes a volume that is to be filled from a snapshot, if that is not empty.
func (l *Local) create(ctx context.Context, s Spec, from string) (v Volume, err error) {
	if err := s.Check(); err != nil {
		return Volume{}, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("create volume %s: %w", s.Name, err)
		}
	}()
	g, err := l.grip(ctx, s.Name)
	if err != nil {
		return Volume{}, err
	}
	defer func() { err = errors.Join(err, g.lock.Close()) }()
	r, err := l.read(s.Name)
	if errors.Is(err, ErrUnknown) {
		r, err = g.begin(ctx, s, from)
	}
	if err != nil {
		return Volume{}, err
	}
	asked := s
	if asked.FileSystem == "" {
		asked.FileSystem = r.FileSystem
	}
	if asked != r.Spec || from != r.From {
		return Volume{}, fmt.Errorf("%w: %+v", ErrExists, r.Spec)
	}
	if r.Instance == "" && !r.Formatted {
		if err := g.atRest(ctx, &r, func() error { return nil }); err != nil {
			return Volume{}, err
		}
	}
	if r.Filling {
		if err := g.atRest(ctx, &r, func() error { return g.fill(ctx, &r) }); err != nil {
			return Volume{}, err
		}
	}
	return l.volume(r), nil
}

// begin makes the files of a volume, its record last. What an attempt that was cut
// short has left holds nobody's data.
func (g *grip) begin(ctx context.Context, s Spec, from string) (r record, err error) {
	r = record{Spec: s, Created: time.Now().UTC().Truncate(time.Millisecond), From: from, Filling: from != ""}
	if s.Kind != Directory {
		if r.Spec, _, err = g.machine.choose(s); err != nil {
			return r, err
		}
	}
	if err := g.clear(ctx, r.Spec); err != nil {
		return r, err
	}
	g.Step("files")
	if err := os.MkdirAll(g.Content(s.Name), 0o755); err != nil {
		return r, err
	}
	_, size := s.PerDisk()
	if err := g.allocate(r.Spec, size); err != nil {
		return r, errors.Join(err, g.clear(ctx, r.Spec))
	}
	r.Formatted = s.Kind == Directory
	g.Step("record")
	return r, g.save(&r)
}

// allocate makes the disks as large as they are to be. Their space is theirs from then
// on: a file system finds none missing later.
func (g *grip) allocate(s Spec, size int64) error {
	for i, path := range g.disks(s) {
		disk, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		g.Step(fmt.Sprintf("disk %d", i+1))
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			err = unix.Fallocate(int(disk.Fd()), 0, 0, size)
		}
		if err != nil {
			err = fmt.Errorf("reserve %d MiB for %s: %w", size>>20, path, err)
		} else {
			err = disk.Sync()
		}
		if err = errors.Join(err, disk.Close()); err != nil {
			return err
		}
	}
	return nil
}

// clear removes all of a volume's files.
func (g *grip) clear(ctx context.Context, s Spec) error {
	if err := g.release(ctx, s); err != nil {
		return err
	}
	// Whatever became of the record: nothing is removed through a mount.
	if at, err := mounts.At(g.Content(s.Name)); err != nil || at != nil {
		return errors.Join(err, fmt.Errorf("%w: something is mounted at %s", ErrInUse, g.Content(s.Name)))
	}
	g.Step("remove")
	return os.RemoveAll(filepath.Join(g.Dir, s.Name))
}

// Delete is [Store.Delete].
func (l *Local) Delete(ctx context.Context, name string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("delete volume %s: %w", name, err)
		}
	}()
	g, err := l.grip(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.lock.Close()) }()
	r, err := l.read(name)
	if errors.Is(err, ErrUnknown) {
		r, err = record{Spec: Spec{Name: name, Kind: Directory}}, nil // what is left of one
		if found, _ := filepath.Glob(l.of(name, "disk-*")); len(found) > 0 {
			r.Spec = Spec{Name: name, Kind: Array, Layout: Striped, Disks: len(found)}
		}
	}
	if err != nil {
		return err
	}
	if r.Instance != "" {
		return fmt.Errorf("%w to %s", ErrAttached, r.Instance)
	}
	if err := g.release(ctx, r.Spec); err != nil {
		return err
	}
	if err := os.Remove(l.of(name, "volume.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return g.clear(ctx, r.Spec)
}

// Grow is [Store.Grow].
func (l *Local) Grow(ctx context.Context, name string, size int64) (Volume, error) {
	v, err := l.with(ctx, name, func(g *grip, r *record) error {
		switch {
		case size < r.Size:
			return fmt.Errorf("it has %d bytes and cannot be made smaller, to %d", r.Size, size)
		case size == r.Size && !r.Growing:
			return nil
		case r.Kind == Directory:
			r.Size = size
			return g.save(r)
		}
		at, err := mounts.At(g.Content(name))
		if err != nil {
			return err
		}
		f, err := fileSystemOf(r.FileSystem)
		if err != nil {
			return err
		}
		if at != nil && f.growRight >= 0 && !g.machine.right(f.growRight) {
			return fmt.Errorf("%w grow %s while it is mounted: the kernel asks for the capability CAP_SYS_RESOURCE, which this process has not; detach it first, or have xfs", ErrUnable, f.name)
		}
		larger := r.Spec
		larger.Size = size
		_, before := r.PerDisk()
		_, after := larger.PerDisk()
		if err := g.allocate(r.Spec, after); err != nil {
			for _, disk := range g.disks(r.Spec) { // no device has seen more yet
				err = errors.Join(err, os.Truncate(disk, before))
			}
			return err
		}
		g.Step("larger disks")
		r.Spec, r.Growing = larger, true
		if err := g.save(r); err != nil {
			return err
		}
		if at == nil {
			return nil // done when it is mounted
		}
		return g.ready(ctx, r)
	})
	if err != nil {
		return Volume{}, fmt.Errorf("grow volume %s: %w", name, err)
	}
	return v, nil
}
