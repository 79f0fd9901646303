package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/volume"
)

// A new server waits for the disk of one that goes for so long, from when that began
// to go, and gets another disk then: leaveLimit until that is told to shut down, which it
// is not while commits need it, and handLimit in all.
const (
	leaveLimit = 90 * time.Second
	handLimit  = 5 * time.Minute
)

// pinned reports whether a new server takes the disk of one that is gone.
func pinned(s farmfile.Storage) bool { return s.Kind != farmfile.DirectoryStorage && s.Pin && s.Keep }

// awaitsDisk reports whether a server of the role is about to go whose disk the one
// that is to be launched gets. For the only disk of a storage role it is waited without a limit: another
// one would be empty.
func (l *leader) awaitsDisk(role string) bool {
	if l.farm.Roles[role].Kind == farmfile.StorageServerKind {
		return slices.ContainsFunc(l.instances, func(i provider.Instance) bool { return i.RoleName == role })
	}
	if !pinned(l.farm.Roles[role].Storage) {
		return false
	}
	for name, s := range l.memory.Roles[role].Servers {
		if i, there := l.instance(name); !there || i.Volume == "" {
			continue
		}
		if s.Leaving == nil || s.Leaving.Stays {
			continue
		}
		limit := leaveLimit
		if !s.Leaving.Told.IsZero() {
			limit = handLimit
		}
		if time.Since(s.Leaving.Since) < limit {
			return true
		}
	}
	return false
}

// volumeFor is the volume that an instance gets, which is made if there is none for it;
// empty if its storage is a directory. It is called for one instance at a time.
func (l *leader) volumeFor(ctx context.Context, spec provider.Spec) (string, error) {
	s := spec.Role.Storage
	if s.Kind != farmfile.VolumeStorage && s.Kind != farmfile.ArrayStorage {
		return "", nil
	}
	if l.volumes == nil {
		return "", fmt.Errorf("the provider has no volumes; expected storage of kind %s", farmfile.DirectoryStorage)
	}
	instances, err := l.provider.List(ctx)
	if err != nil {
		return "", err
	}
	all, err := l.volumes.List(ctx)
	if err != nil {
		return "", err
	}
	has := map[string]string{} // also what an instance is to get, and has not yet
	for _, i := range instances {
		has[i.Volume] = i.Name
		if i.Name == spec.Name {
			return i.Volume, nil
		}
	}
	made := false
	for n, v := range all {
		if all[n].Instance == "" {
			all[n].Instance = has[v.Name]
		}
	}
	name := volume.Choose(spec.RoleName, pinned(s), all)
	if spec.Role.Kind == farmfile.StorageServerKind {
		if name, err = l.onlyVolume(ctx, spec, all, has); err != nil {
			return "", err
		}
	}
	for _, v := range all {
		made = made || v.Name == name && (v.Epoch > 0 || v.From != "")
	}
	if made {
		return name, nil // as it is: the farm file may want another size by now
	}
	v, err := l.volumes.Create(ctx, volumeSpec(name, s))
	if errors.Is(err, volume.ErrExists) {
		// Made for a launch that came to nothing, before the farm file said something else:
		// nobody ever had it.
		if err = l.volumes.Delete(ctx, name); err == nil {
			v, err = l.volumes.Create(ctx, volumeSpec(name, s))
		}
	}
	return v.Name, err
}

// onlyVolume is the name of the only volume of a storage role, if its new server can have it. No
// other is given to it while there is one that it cannot have: that would be empty. all are the volumes, has who
// is to have each.
func (l *leader) onlyVolume(ctx context.Context, spec provider.Spec, all []volume.Volume, has map[string]string) (string, error) {
	name := volume.Name(spec.RoleName, 1)
	if other := has[name]; other != "" {
		return "", fmt.Errorf("%s has the volume %s, or is to get it, and is not proven gone", other, name)
	}
	for _, v := range all {
		if index, ours := volume.Index(spec.RoleName, v.Name); !ours || index != 1 {
			continue
		}
		if v.Trouble != "" && v.Instance == "" {
			return "", fmt.Errorf("the volume %s, which has the role's data, cannot be used: %s; mend it, or put another in its place (scaler volume restore, or delete): no empty one is given instead", name, v.Trouble)
		}
		holder := v.Instance
		if holder == "" || holder == spec.Name {
			return name, nil
		}
		// The provider has no such instance any more, and nobody here has terminated it.
		if err := l.volumes.Detach(ctx, name, holder); err != nil {
			return "", err
		}
	}
	return name, nil
}

// volumeSpec is what the farm file says of a volume.
func volumeSpec(name string, s farmfile.Storage) volume.Spec {
	spec := volume.Spec{Name: name, Kind: volume.Kind(s.Kind), Size: int64(s.Size)}
	if s.FileSystem != farmfile.AnyFileSystem {
		spec.FileSystem = string(s.FileSystem)
	}
	if s.Kind == farmfile.ArrayStorage {
		spec.Disks, spec.Layout = s.Disks, volume.Layout(s.Layout)
	}
	return spec
}
