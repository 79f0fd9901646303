package farmfile

import (
	"time"

	"farmhand/internal/service"
)

// StorageKind is what a server's data is on.
type StorageKind string

// The kinds of storage.
const (
	DirectoryStorage StorageKind = "directory" // a directory of the server's own
	VolumeStorage    StorageKind = "volume"
	ArrayStorage     StorageKind = "array"
)

func (StorageKind) choices() []string {
	return []string{string(DirectoryStorage), string(VolumeStorage), string(ArrayStorage)}
}

// FileSystem is that of a volume.
type FileSystem string

// AnyFileSystem is the first of the others that can be had.
const AnyFileSystem FileSystem = "any"

func (FileSystem) choices() []string { return []string{string(AnyFileSystem), "xfs", "ext4", "btrfs"} }

// Layout is how an array uses its disks.
type Layout string

// layouts are the least numbers of disks.
var layouts = map[Layout]int{"raid0": 2, "raid1": 2, "raid10": 4}

func (Layout) choices() []string { return names(layouts) }

// Storage is what each server's data is on.
type Storage struct {
	Kind       StorageKind  `yaml:"kind" about:"a directory of the server's own, a volume with a file system, or an array of volumes with one file system over them"`
	Size       Size         `yaml:"size" is:"0..64TiB" about:"the volume's size; 0 for none of its own; the local provider does not limit a directory"`
	FileSystem FileSystem   `yaml:"file_system" about:"kinds volume and array: any is xfs or else ext4 for a volume; an array has btrfs"`
	Disks      int          `yaml:"disks" is:"0..16" about:"kind array: how many volumes it has"`
	Layout     Layout       `yaml:"layout" about:"kind array: raid0 for all of the space and no redundancy, raid1 for everything twice, raid10 for stripes over pairs"`
	Keep       bool         `yaml:"keep" about:"whether the volume stays when its server is terminated"`
	Pin        bool         `yaml:"pin" about:"kinds volume and array: whether a new server takes the volume, and the data, of one that is gone"`
	Snapshots  SnapshotRule `yaml:"snapshots" about:"how often the scaler takes a snapshot of each volume, and which snapshots are kept: those that any of last and for keeps; all if neither is given"`
}

// SnapshotRule says which snapshots of a volume are kept.
type SnapshotRule struct {
	Every Duration `yaml:"every" is:"0..8760h" about:"the time between two of a volume that a server has, not of a primary's; older ones that no rule keeps are removed then; 0 for none but those that a person takes; 10m or more"`
	Last  int      `yaml:"last" is:"0..10000" about:"as many of the newest of each volume; 0 for no such rule"`
	For   Duration `yaml:"for" is:"0..87600h" about:"those that are younger; 0 for no such rule"`
}

// leastSnapshots is the least time between two snapshots of a volume.
const leastSnapshots = 10 * time.Minute

func (s *Storage) check(p *service.Problems, path string, r *Role) {
	least, known := layouts[s.Layout]
	switch {
	case s.Snapshots.Every > 0 && s.Snapshots.Every < Duration(leastSnapshots):
		p.Add(path+".snapshots.every", "%v is too often: writes are held up each time; expected %v at least", s.Snapshots.Every, Duration(leastSnapshots))
	case s.Snapshots.Every > 0 && s.Kind == DirectoryStorage:
		p.Add(path+".snapshots.every", "of a directory no snapshot can be taken while it is used; expected kind volume or array")
	case s.Snapshots.Every > 0 && r.Kind == MySQLKind && r.Count.Min < 2:
		p.Add(path+".snapshots.every", "none is taken of a primary, and the least number of servers is 1; expected a count of 2 or more")
	case s.Kind == DirectoryStorage && s.Disks > 0, s.Kind == VolumeStorage && s.Disks > 0:
		p.Add(path+".disks", "a %s has no disks to be counted; expected kind array, or none", s.Kind)
	case s.Kind != VolumeStorage && s.Kind != ArrayStorage:
		return
	case r.Kind != MySQLKind && r.Kind != StorageServerKind:
		p.Add(path+".kind", "a role of kind %s has no volumes; expected directory", r.Kind)
	case s.Size == 0:
		p.Add(path+".size", "a %s needs a size", s.Kind)
	case s.Kind == ArrayStorage && known && s.Disks < least:
		p.Add(path+".disks", "%d disks are too few for %s; expected %d to 16", s.Disks, s.Layout, least)
	case s.Kind == ArrayStorage && s.FileSystem != AnyFileSystem && s.FileSystem != "btrfs":
		p.Add(path+".file_system", "%s lies on one disk; expected any or btrfs", s.FileSystem)
	}
}
