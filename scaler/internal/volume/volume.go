// Package volume owns the disks of a farm's instances: what a provider of volumes
// promises, and the local one, whose volumes are directories or loop files.
//
// It knows nothing of what is on a volume. Invariant: a volume is attached to at
// most one instance, and to another one only when the one before is proven gone;
// what cannot be had on a machine is refused and never replaced by something less.
//
// docs/VOLUMES.md has the design; volumetest.Contract is what every provider passes.
package volume

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"farmhand/internal/farm"
)

// Store is where a farm's volumes come from. Its methods may be called from any
// goroutine and by several processes at a time; one that was cut short at any point,
// by the end of its process too, can be called again and then completes.
type Store interface {
	// Create makes a volume, or completes it; ErrExists if there is another one of that
	// name. It returns what Describe says.
	Create(ctx context.Context, s Spec) (Volume, error)
	// Describe returns a volume; ErrUnknown if there is none of that name.
	Describe(ctx context.Context, name string) (Volume, error)
	// List returns all volumes, by name.
	List(ctx context.Context) ([]Volume, error)
	// Grow makes a volume larger, in bytes, while it is used; a size that it has is
	// none to do, a smaller one is refused.
	Grow(ctx context.Context, name string, size int64) (Volume, error)
	// Attach gives a volume to an instance, checks its file system if it was not let go
	// of in order, and makes its content available at Volume.Path. It can be repeated by
	// the one that has it; ErrAttached while another one does.
	Attach(ctx context.Context, name, instance string) (Volume, error)
	// Detach takes a volume from an instance; nothing is to be done if that has it not.
	// ErrInUse while the instance is not proven gone.
	Detach(ctx context.Context, name, instance string) error
	// Delete removes a volume and its content, not its snapshots; ErrAttached while an
	// instance has it. One that is not there is removed already.
	Delete(ctx context.Context, name string) error
	// Snapshot keeps the content that the volume has at one moment. What earlier
	// snapshots of it have is not stored again.
	Snapshot(ctx context.Context, name string, o SnapshotOptions) (Snapshot, error)
	// Snapshots returns all snapshots, the oldest first.
	Snapshots(ctx context.Context) ([]Snapshot, error)
	// Restore makes a new volume with the content of a snapshot, or completes it.
	Restore(ctx context.Context, snapshot string, s Spec) (Volume, error)
	// DeleteSnapshot removes a snapshot and what no other one needs. One that is not
	// there is removed already.
	DeleteSnapshot(ctx context.Context, id string) error
}

// What callers branch on.
var (
	ErrExists   = errors.New("there is another volume of that name")
	ErrUnknown  = errors.New("there is no such volume")
	ErrAttached = errors.New("the volume is attached")
	ErrInUse    = errors.New("the volume is in use")
	// ErrUnable: this machine cannot do what is asked.
	ErrUnable = errors.New("this machine cannot")
)

// Kind is what a volume is made of.
type Kind string

// The kinds of volume.
const (
	Directory Kind = "directory" // a plain directory, whose size is not limited
	Single    Kind = "volume"    // one disk with a file system
	Array     Kind = "array"     // several disks with one file system over them
)

// Layout is how an array uses its disks.
type Layout string

// The layouts of arrays.
const (
	Striped  Layout = "raid0"  // no redundancy, all of the space
	Mirrored Layout = "raid1"  // everything on two disks
	Both     Layout = "raid10" // stripes over pairs
)

// disks is the least number of disks, and how many copies there are of everything.
var layouts = map[Layout]struct{ disks, copies int }{Striped: {2, 1}, Mirrored: {2, 2}, Both: {4, 2}}

// MaxDisks is how many disks an array may have.
const MaxDisks = 16

// Spec is what a volume is to be.
type Spec struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	// Size is the space for content and the file system's own data, in bytes; 0 for a
	// directory.
	Size int64 `json:"size,omitempty"`
	// FileSystem is xfs, ext4 or btrfs; empty for the first of them that the machine has
	// and that the kind can use.
	FileSystem string `json:"file_system,omitempty"`
	// Disks and Layout are an array's.
	Disks  int    `json:"disks,omitempty"`
	Layout Layout `json:"layout,omitempty"`
}

func (s Spec) Check() error {
	if err := farm.CheckName(s.Name); err != nil {
		return fmt.Errorf("volume: %w", err)
	}
	if strings.Trim(s.Name, ".") == "" {
		return fmt.Errorf("volume: %q is a directory's name, and no volume's", s.Name)
	}
	switch layout, known := layouts[s.Layout]; {
	case s.Kind == Directory && s == (Spec{Name: s.Name, Kind: Directory, Size: s.Size}):
		return nil
	case s.Kind == Directory:
		return fmt.Errorf("volume %s: a directory has no file system, disks or layout of its own", s.Name)
	case s.Kind != Single && s.Kind != Array:
		return fmt.Errorf("volume %s: there is no kind %q; expected directory, volume or array", s.Name, s.Kind)
	case s.Size <= 0:
		return fmt.Errorf("volume %s: it needs a size", s.Name)
	case s.Kind == Single && (s.Disks != 0 || s.Layout != ""):
		return fmt.Errorf("volume %s: disks and layout are an array's", s.Name)
	case s.Kind == Array && !known:
		return fmt.Errorf("volume %s: there is no layout %q; expected raid0, raid1 or raid10", s.Name, s.Layout)
	case s.Kind == Array && (s.Disks < layout.disks || s.Disks > MaxDisks):
		return fmt.Errorf("volume %s: %d disks; expected %d to %d for %s", s.Name, s.Disks, layout.disks, MaxDisks, s.Layout)
	}
	return nil
}

// diskUnit is what the size of a disk is a multiple of, in bytes.
const diskUnit = 4 << 20

// PerDisk is the number of disks and the size of each, in bytes.
func (s Spec) PerDisk() (count int, size int64) {
	count, copies := 1, 1
	if s.Kind == Array {
		count, copies = s.Disks, layouts[s.Layout].copies
	}
	per := (s.Size*int64(copies) + int64(count) - 1) / int64(count)
	return count, (per + diskUnit - 1) / diskUnit * diskUnit
}

// Volume is one that there is.
type Volume struct {
	Spec
	Created time.Time `json:"created"`
	// Instance is who has it; empty for nobody. Epoch is raised with each attachment.
	Instance string `json:"instance,omitempty"`
	Epoch    int64  `json:"epoch,omitempty"`
	// From is the snapshot that it was restored from.
	From string `json:"from,omitempty"`
	// Trouble is why it cannot be used as it is; empty if it can.
	Trouble string `json:"trouble,omitempty"`
	// Path is where its content is on the instance's machine, and Devices the disks
	// there; empty if they are not.
	Path    string   `json:"path,omitempty"`
	Devices []string `json:"devices,omitempty"`
	// Used and Free are bytes of its file system; 0 while it is not mounted.
	Used int64 `json:"used,omitempty"`
	Free int64 `json:"free,omitempty"`
}

// Moment says what the content of a snapshot is.
type Moment string

// What the content of a snapshot can be.
const (
	// AtRest: nobody had the volume.
	AtRest Moment = "at rest"
	// Crash: all files as they were at one moment, as after a loss of power.
	Crash Moment = "crash-consistent"
	// Quiet: so too, while the caller held its program still.
	Quiet Moment = "quiet"
)

// DefaultFreeze is how long a snapshot may hold up writes unless told otherwise.
const DefaultFreeze = 10 * time.Second

// SnapshotOptions say how a snapshot is made.
type SnapshotOptions struct {
	// Freeze is how long writes may be held up; then the snapshot is given up.
	// 0 is DefaultFreeze.
	Freeze time.Duration
	// Hold has whoever writes to the volume hold still (a database's BACKUP STAGE, say)
	// before writes are held up, and returns what lets it go on; nil for nobody. It is
	// let go on whatever happens, but with the end of this process: then by its own limit.
	Hold func(ctx context.Context) (release func() error, err error)
}

// Snapshot is one that there is.
type Snapshot struct {
	ID string `json:"id"`
	// Volume is the name of the volume that it is of, Spec what that was.
	Volume string    `json:"volume"`
	Spec   Spec      `json:"spec"`
	Taken  time.Time `json:"taken"`
	Moment Moment    `json:"moment"`
	// Size is what a volume must hold that it is restored to, Stored what it took beside
	// the snapshots that were there, both in bytes.
	Size   int64 `json:"size"`
	Stored int64 `json:"stored"`
	// Held is how long writes were held up.
	Held time.Duration `json:"held"`
}
