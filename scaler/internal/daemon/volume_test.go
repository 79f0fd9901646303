package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/internal/backup"

	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/provider/providertest"
	"farmhand/scaler/internal/volume"
)

// disks are volumes without a machine that they are on.
type disks struct {
	volume.Store // what is not below is not asked for
	all          []volume.Volume
	inUse        bool // whether an instance that is not there is not proven gone
	deleted      []string
	snapshots    []volume.Snapshot
	fails        bool // whether no snapshot can be taken
}

func (d *disks) Snapshots(context.Context) ([]volume.Snapshot, error) {
	return slices.Clone(d.snapshots), nil
}

func (d *disks) Snapshot(_ context.Context, name string, _ volume.SnapshotOptions) (volume.Snapshot, error) {
	if d.fails {
		return volume.Snapshot{}, volume.ErrUnable
	}
	s := volume.Snapshot{ID: fmt.Sprint(name, "-new", len(d.snapshots)), Volume: name, Taken: time.Now()}
	d.snapshots = append(d.snapshots, s)
	return s, nil
}

func (d *disks) DeleteSnapshot(_ context.Context, id string) error {
	d.snapshots = slices.DeleteFunc(d.snapshots, func(s volume.Snapshot) bool { return s.ID == id })
	return nil
}

func (d *disks) List(context.Context) ([]volume.Volume, error) { return d.all, nil }

func (d *disks) Create(_ context.Context, s volume.Spec) (volume.Volume, error) {
	for _, v := range d.all {
		if v.Name == s.Name {
			return volume.Volume{}, volume.ErrExists
		}
	}
	d.all = append(d.all, volume.Volume{Spec: s})
	return d.all[len(d.all)-1], nil
}

func (d *disks) Delete(_ context.Context, name string) error {
	d.deleted, d.all = append(d.deleted, name), nil
	return nil
}

func (d *disks) Detach(_ context.Context, name, instance string) error {
	if d.inUse {
		return volume.ErrInUse
	}
	for i, v := range d.all {
		if v.Name == name && v.Instance == instance {
			d.all[i].Instance = ""
		}
	}
	return nil
}

// TestStorageHasOneDisk: its server gets the only disk, if that is free, and never another one while
// there is one.
func TestStorageHasOneDisk(t *testing.T) {
	disk := func(change func(*volume.Volume)) []volume.Volume {
		v := volume.Volume{Spec: volume.Spec{Name: "files-1", Kind: volume.Single, Size: 1 << 30}, Epoch: 1}
		change(&v)
		return []volume.Volume{v}
	}
	for name, c := range map[string]struct {
		disks disks
		want  string // an error; empty for files-1
	}{
		"there is none":                        {disks{}, ""},
		"nobody has it":                        {disks{all: disk(func(*volume.Volume) {})}, ""},
		"it was restored":                      {disks{all: disk(func(v *volume.Volume) { v.Epoch, v.From = 0, "files-1-20261129" })}, ""},
		"who had it is gone":                   {disks{all: disk(func(v *volume.Volume) { v.Instance = "files7" })}, ""},
		"who has it is not proven gone":        {disks{all: disk(func(v *volume.Volume) { v.Instance = "files7" }), inUse: true}, "in use"},
		"who has it is there":                  {disks{all: disk(func(v *volume.Volume) { v.Instance = "files1" })}, "files1 has the volume files-1"},
		"it is for who is there":               {disks{all: disk(func(v *volume.Volume) { v.Name = "files-2" })}, "files1 has the volume files-1"},
		"it is damaged, and nobody has it":     {disks{all: disk(func(v *volume.Volume) { v.Trouble = "a disk is missing" })}, "cannot be used: a disk is missing"},
		"it is to be that of its own instance": {disks{all: disk(func(v *volume.Volume) { v.Instance = "files8" })}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			fake := &providertest.Fake{}
			spec := providertest.Spec(farmfile.StorageServerKind, "files", 8)
			spec.Role.Storage = farmfile.Storage{Kind: farmfile.VolumeStorage, Size: 1 << 30, Keep: true, Pin: true}
			if strings.Contains(c.want, "files1 has") {
				there := providertest.Spec(farmfile.StorageServerKind, "files", 1)
				there.Role.Storage, there.Volume = spec.Role.Storage, "files-1"
				if _, err := fake.Launch(t.Context(), there); err != nil {
					t.Fatal(err)
				}
			}
			l := &leader{provider: fake, volumes: &c.disks, farm: &farmfile.Farm{Roles: map[string]farmfile.Role{"files": spec.Role}}}
			got, err := l.volumeFor(t.Context(), spec)
			if c.want == "" && (err != nil || got != "files-1") || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
			if len(c.disks.deleted) > 0 {
				t.Errorf("%v were deleted", c.disks.deleted)
			}
		})
	}
	l := &leader{farm: &farmfile.Farm{Roles: map[string]farmfile.Role{"files": {Kind: farmfile.StorageServerKind}}}}
	if l.awaitsDisk("files") {
		t.Error("nobody is waited for")
	}
	l.instances = []provider.Instance{{Name: "files1", RoleName: "files"}}
	if !l.awaitsDisk("files") {
		t.Error("a second one is launched while there is one")
	}
}

// TestSnapshotsAreTakenWhenDue: by what the provider has, and those go that no rule keeps; those of other volumes
// stay.
func TestSnapshotsAreTakenWhenDue(t *testing.T) {
	old := func(name string, hours int) volume.Snapshot {
		return volume.Snapshot{ID: fmt.Sprint(name, "-", hours), Volume: name, Taken: time.Now().Add(-time.Duration(hours) * time.Hour)}
	}
	allow := func(string) error { return nil }
	d := &disks{snapshots: []volume.Snapshot{old("files-1", 30), old("db-1", 20), old("files-1", 12), old("files-1", 7)}}
	ids := func() string {
		var list []string
		for _, s := range d.snapshots {
			list = append(list, s.ID)
		}
		return strings.Join(list, " ")
	}
	rule := backup.Policy{Last: 3}
	taken, last, err := snapshotOf(t.Context(), d, "files-1", 8*time.Hour, rule, allow)
	if err != nil || taken != nil || time.Since(last).Round(time.Hour) != 7*time.Hour || ids() != "files-1-30 db-1-20 files-1-12 files-1-7" {
		t.Errorf("before it is due: %v, %v, %v; there are %s", taken, last, err, ids())
	}
	denied := errors.New("another scaler leads")
	taken, last, err = snapshotOf(t.Context(), d, "files-1", 6*time.Hour, rule, func(string) error { return denied })
	if !errors.Is(err, denied) || taken == nil || time.Since(last) > time.Minute || ids() != "files-1-30 db-1-20 files-1-12 files-1-7 files-1-new4" {
		t.Errorf("without the leadership: %v, %v, %v; there are %s", taken, last, err, ids())
	}
	if _, _, err = snapshotOf(t.Context(), d, "files-1", 6*time.Hour, rule, allow); err != nil || ids() != "db-1-20 files-1-12 files-1-7 files-1-new4" {
		t.Errorf("with it: %v; there are %s", err, ids())
	}
	d.fails = true
	if taken, last, err = snapshotOf(t.Context(), d, "db-1", time.Hour, rule, allow); !errors.Is(err, volume.ErrUnable) || taken != nil || !last.IsZero() {
		t.Errorf("one that fails: %v, %v, %v", taken, last, err)
	}
}
