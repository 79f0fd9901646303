package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"farmhand/internal/mounts"
	"farmhand/internal/volumemark"
)

// Attach is [Store.Attach].
func (l *Local) Attach(ctx context.Context, name, instance string) (Volume, error) {
	v, err := l.with(ctx, name, func(g *grip, r *record) error {
		switch {
		case instance == "":
			return errors.New("no instance is named")
		case r.Filling:
			return fmt.Errorf("it does not have all of %s yet: restore it again", r.From)
		case r.Instance != "" && r.Instance != instance:
			return fmt.Errorf("%w to %s; it is given to another when that is proven gone", ErrAttached, r.Instance)
		case r.Instance == "":
			r.Instance, r.Epoch = instance, r.Epoch+1
			g.Step("attachment")
			if err := g.save(r); err != nil {
				return err
			}
		}
		if err := g.ready(ctx, r); err != nil {
			return err
		}
		g.Step("mark")
		return volumemark.Write(g.Content(name), volumemark.Mark{Volume: name, Instance: r.Instance, Epoch: r.Epoch})
	})
	if err != nil {
		return Volume{}, fmt.Errorf("attach volume %s to %s: %w", name, instance, err)
	}
	return v, nil
}

// Detach is [Store.Detach].
func (l *Local) Detach(ctx context.Context, name, instance string) error {
	err := l.letGo(ctx, name, instance, func(r *record) { r.Instance = "" })
	if err != nil {
		return fmt.Errorf("detach volume %s from %s: %w", name, instance, err)
	}
	return nil
}

// Rest unmounts a volume that stays attached to its instance, whose processes are
// gone; the next Attach mounts it again. ErrInUse as with Detach.
func (l *Local) Rest(ctx context.Context, name, instance string) error {
	err := l.letGo(ctx, name, instance, func(*record) {})
	if err != nil {
		return fmt.Errorf("unmount volume %s of %s: %w", name, instance, err)
	}
	return nil
}

// letGo lets go of a volume that the instance has, once that is proven gone.
func (l *Local) letGo(ctx context.Context, name, instance string, change func(*record)) error {
	_, err := l.with(ctx, name, func(g *grip, r *record) error {
		if r.Instance == "" || r.Instance != instance {
			return nil
		}
		alive, err := l.Alive(ctx, instance)
		if err != nil {
			return fmt.Errorf("whether %s is gone is not known: %w", instance, err)
		}
		if alive != "" {
			return fmt.Errorf("%w: %s has %s", ErrInUse, instance, alive)
		}
		if err := g.release(ctx, r.Spec); err != nil {
			return err
		}
		g.Step("let go")
		r.Dirty = false
		change(r)
		return g.save(r)
	})
	return err
}

// ready makes a volume's content available. What an attempt that was cut short has
// done is found and gone on with.
func (g *grip) ready(ctx context.Context, r *record) error {
	if r.Kind == Directory {
		return os.MkdirAll(g.Content(r.Name), 0o755)
	}
	if err := g.machine.able(); err != nil {
		return err
	}
	f, err := fileSystemOf(r.FileSystem)
	if err != nil {
		return err
	}
	if lack := g.machine.lacks(f); lack != "" {
		return fmt.Errorf("%w mount it: %s", ErrUnable, lack)
	}
	devices, err := g.devices(ctx, r)
	if err != nil {
		return err
	}
	at, err := g.mounted(r.Name, devices)
	if err != nil {
		return err
	}
	if at != nil {
		// Whoever froze it is gone, for we have the lock.
		if err := thaw(at.Path); err != nil {
			return err
		}
		return g.fit(ctx, r, f, devices)
	}
	if !r.Formatted {
		g.Step("file system")
		if _, err := run(ctx, g.lock, f.make(devices, r.Layout)); err != nil {
			return err
		}
		r.Formatted = true
		if err := g.save(r); err != nil {
			return err
		}
	}
	if r.Dirty {
		if err := g.check(ctx, r, f, devices); err != nil {
			return err
		}
	}
	if r.Growing && f.growAtRest != nil {
		for _, args := range f.growAtRest(devices[0]) {
			if _, err := run(ctx, g.lock, args, f.fine...); err != nil {
				return err
			}
		}
		r.Growing = false
	}
	r.Dirty = true
	if err := g.save(r); err != nil {
		return err
	}
	g.Step("mount")
	if err := g.mount(ctx, r, devices); err != nil {
		return err
	}
	if err := os.Chmod(g.Content(r.Name), 0o755); err != nil {
		return err
	}
	return g.fit(ctx, r, f, devices)
}

// fit makes a mounted file system as large as its disks.
func (g *grip) fit(ctx context.Context, r *record, f fileSystem, devices []string) error {
	if !r.Growing {
		return nil
	}
	for _, args := range f.growMounted(devices, g.Content(r.Name)) {
		g.Step("larger file system")
		if _, err := run(ctx, g.lock, args); err != nil {
			return err
		}
	}
	r.Growing = false
	return g.save(r)
}

// check looks over the file system of a volume that was not let go of in order.
func (g *grip) check(ctx context.Context, r *record, f fileSystem, devices []string) error {
	g.Step("check")
	if f.replay {
		if err := g.mount(ctx, r, devices); err != nil {
			return fmt.Errorf("its journal cannot be written back: %w", err)
		}
		g.Step("check after replay")
		if err := g.unmount(ctx, r.Name); err != nil {
			return err
		}
	}
	if text, err := run(ctx, g.lock, f.check(devices[0]), f.fine...); err != nil {
		return fmt.Errorf("its file system is damaged and needs a person, or restore a snapshot: %w: %s", err, text)
	}
	return nil
}

func (g *grip) mount(ctx context.Context, r *record, devices []string) error {
	options := []string{"noatime"}
	if len(devices) > 1 {
		for _, d := range devices {
			options = append(options, "device="+d)
		}
	}
	_, err := run(ctx, g.lock, []string{"mount", "-t", r.FileSystem, "-o", strings.Join(options, ","), devices[0], g.Content(r.Name)})
	return err
}

func (g *grip) unmount(ctx context.Context, name string) error {
	if _, err := run(ctx, g.lock, []string{"umount", g.Content(name)}); err != nil {
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return nil
}

// mounted is where the devices are mounted; nil for nowhere. It refuses what nobody
// here has made: the same disks elsewhere, or something else in their place.
func (g *grip) mounted(name string, devices []string) (*mounts.Mount, error) {
	all, err := mounts.All()
	if err != nil {
		return nil, err
	}
	var at *mounts.Mount
	for _, m := range all {
		here, ours := m.Path == g.Content(name), slices.Contains(devices, m.Source)
		switch {
		case here && ours:
			at = &m
		case here:
			return nil, fmt.Errorf("%w: %s is mounted at %s", ErrInUse, m.Source, m.Path)
		case ours:
			return nil, fmt.Errorf("%w: its disk %s is mounted at %s", ErrInUse, m.Source, m.Path)
		}
	}
	return at, nil
}

// devices are the loop devices of a volume's disks, which are set up and as large as
// the disks.
func (g *grip) devices(ctx context.Context, r *record) ([]string, error) {
	disks := g.disks(r.Spec)
	_, size := r.PerDisk()
	for i, disk := range disks {
		info, err := os.Stat(disk)
		if err == nil && info.Size() < size {
			err = fmt.Errorf("%s has %d bytes instead of %d", disk, info.Size(), size)
		}
		if err != nil {
			return nil, fmt.Errorf("disk %d of %d is missing: %w", i+1, len(disks), err)
		}
	}
	devices, err := loops(disks)
	if err != nil {
		return nil, err
	}
	for i, disk := range disks {
		if devices[i] == "" {
			g.Step(fmt.Sprintf("device %d", i+1))
			if devices[i], err = run(ctx, g.lock, []string{"losetup", "--find", "--show", disk}); err != nil {
				return nil, err
			}
		}
		if r.Growing {
			g.Step(fmt.Sprintf("larger device %d", i+1))
			if _, err := run(ctx, g.lock, []string{"losetup", "--set-capacity", devices[i]}); err != nil {
				return nil, err
			}
		}
	}
	return devices, nil
}

// release unmounts a volume and lets go of its devices. ErrInUse if somebody has
// something of it open.
func (g *grip) release(ctx context.Context, s Spec) error {
	if s.Kind == Directory {
		return nil
	}
	disks := g.disks(s)
	devices, err := loops(disks)
	if err != nil {
		return err
	}
	known := slices.DeleteFunc(slices.Clone(devices), func(d string) bool { return d == "" })
	at, err := g.mounted(s.Name, known)
	if err != nil {
		return err
	}
	if at != nil {
		if err := thaw(at.Path); err != nil {
			return err
		}
		g.Step("unmount")
		if err := g.unmount(ctx, s.Name); err != nil {
			return err
		}
	}
	for i, device := range devices {
		if device == "" {
			continue
		}
		if err := syncFile(disks[i]); err != nil {
			return err
		}
		g.Step(fmt.Sprintf("free device %d", i+1))
		if _, err := run(ctx, g.lock, []string{"losetup", "--detach", device}); err != nil {
			return err
		}
	}
	// A device that is held open, or mounted in another mount namespace, goes later.
	devices, err = loops(disks)
	if err != nil {
		return err
	}
	if left := slices.DeleteFunc(devices, func(d string) bool { return d == "" }); len(left) > 0 {
		return fmt.Errorf("%w: somebody has %s open", ErrInUse, strings.Join(left, ", "))
	}
	return nil
}

// atRest makes the content of a volume available that nobody has, for as long as do
// takes.
func (g *grip) atRest(ctx context.Context, r *record, do func() error) error {
	err := g.ready(ctx, r)
	if err == nil {
		err = do()
	}
	// Also where that was cut short: the devices are the machine's.
	if freed := g.release(context.WithoutCancel(ctx), r.Spec); err == nil && freed == nil {
		g.Step("at rest")
		r.Dirty = false
		return g.save(r)
	} else {
		return errors.Join(err, freed)
	}
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
