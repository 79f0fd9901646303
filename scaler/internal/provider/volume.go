package provider

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"farmhand/internal/process"
	"farmhand/scaler/internal/volume"
)

// makeVolumes finds the farm's volumes; none is made by that.
func (l *Local) makeVolumes() error {
	// The kernel says where files and mounts are without symbolic links.
	dir, err := filepath.EvalSymlinks(l.Dir)
	if err != nil {
		return fmt.Errorf("find the farm's directory: %w", err)
	}
	l.volumes = volume.NewLocal(volume.LocalOptions{
		Dir: filepath.Join(dir, "volumes"), Archive: filepath.Join(dir, "snapshots"),
		Alive: l.alive,
		// What is true of the server that runs, and data that is not whole.
		Leave: []string{"process.json", "lock", "incoming"},
	})
	return nil
}

// Volumes are those of the farm's instances.
func (l *Local) Volumes() *volume.Local { return l.volumes }

// alive is a process of an instance; empty if there is none.
func (l *Local) alive(_ context.Context, name string) (string, error) {
	found, err := process.Find(func(f process.Found) bool { return l.marked(f, name) })
	if err != nil || len(found) == 0 {
		return "", err
	}
	return fmt.Sprintf("process %d (%s)", found[0].PID, filepath.Base(append(found[0].Arguments, "")[0])), nil
}

// data is the directory of an instance's database server.
func (l *Local) data(r record) string {
	if r.Volume != "" {
		return l.volumes.Content(r.Volume)
	}
	return l.place.mysql(r.Name)
}

// inherits reports whether somebody had a volume before.
func (l *Local) inherits(ctx context.Context, name string) (bool, error) {
	if name == "" {
		return false, nil
	}
	v, err := l.volumes.Describe(ctx, name)
	return v.Epoch > 0 || v.From != "", err
}

// attachVolume gives an instance its volume, unless it has it or needs none.
func (l *Local) attachVolume(ctx context.Context, r record) error {
	if r.Volume == "" {
		return nil
	}
	_, err := l.volumes.Attach(ctx, r.Volume, r.Name)
	return err
}

// restVolume unmounts the volume of an instance that was stopped.
func (l *Local) restVolume(ctx context.Context, name string) error {
	r, err := l.read(name)
	if err != nil || r.Volume == "" {
		return err
	}
	return l.volumes.Rest(ctx, r.Volume, name)
}

// FreeVolume takes its volume from an instance that is gone, and removes that unless it
// is to be kept. An empty name is none.
func FreeVolume(ctx context.Context, volumes volume.Store, name, instance string, keep bool) error {
	if name == "" {
		return nil
	}
	err := volumes.Detach(ctx, name, instance)
	if err != nil || keep {
		if errors.Is(err, volume.ErrUnknown) {
			err = nil // we were here already
		}
		return err
	}
	v, err := volumes.Describe(ctx, name)
	if errors.Is(err, volume.ErrUnknown) || err == nil && v.Instance != "" {
		return nil // it was never ours
	}
	if err != nil {
		return err
	}
	return volumes.Delete(ctx, name)
}
