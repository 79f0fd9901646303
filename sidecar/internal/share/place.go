package share

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"farmhand/internal/mounts"
)

// clientType is the type of a file system that glusterfs has mounted.
const clientType = "fuse.glusterfs"

// belowName is what stands in the list of what is mounted for the file system below.
const belowName = "farmhand-storage"

// Place is where the directory is to be mounted.
//
// Below it lies an empty file system that nobody can write to, not even root: what is written
// there while the directory is not mounted fails, and is not lost in what only looks like it.
type Place struct{ Path string }

// Prepare makes the place ready for a mount. What a client has left that was killed is taken away.
func (p Place) Prepare() error {
	path, err := p.resolve()
	if err != nil {
		return fmt.Errorf("the mount point %s: %w", p.Path, err)
	}
	for range maxStacked {
		at, err := mounts.At(path)
		switch {
		case err != nil:
			return err
		case at == nil:
			if err := below(path); err != nil {
				return fmt.Errorf("the mount point %s: %w", p.Path, err)
			}
			return nil
		case at.Type == "tmpfs" && at.Source == belowName:
			return nil
		case at.Type != clientType:
			return fmt.Errorf("the mount point %s: there is another file system, %s (%s), which is left alone: unmount it, or give the storage another path", p.Path, at.Source, at.Type)
		}
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount what a client has left at %s: %w", p.Path, err)
		}
	}
	return fmt.Errorf("the mount point %s: more than %d file systems are mounted one over the other", p.Path, maxStacked)
}

// maxStacked is how many mounts are taken away at one place.
const maxStacked = 16

// Clear takes away what is mounted there, if it is ours.
func (p Place) Clear() error {
	path, err := p.resolve()
	if err != nil {
		return err
	}
	for range maxStacked {
		at, err := mounts.At(path)
		if err != nil || at == nil || at.Type != clientType && at.Source != belowName {
			return err
		}
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount the storage from %s: %w", p.Path, err)
		}
	}
	return nil
}

// resolve makes the directory, and returns its path as the kernel has it. What is mounted
// there is not touched: it may not answer.
func (p Place) resolve() (string, error) {
	parent := filepath.Dir(p.Path)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(parent)
	if err != nil {
		return "", err
	}
	path := filepath.Join(parent, filepath.Base(p.Path))
	if at, err := mounts.At(path); err != nil || at != nil {
		return path, err
	}
	if err := os.Mkdir(path, 0o555); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// below mounts the file system that nobody can write to.
func below(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("there are files in it (%s), which the storage would hide: move them away, and into the storage once it is mounted", entries[0].Name())
	}
	if err := unix.Mount(belowName, path, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k,mode=0555"); err != nil {
		return fmt.Errorf("mount an empty file system below the storage (that takes root): %w", err)
	}
	return nil
}

// Look returns nil if the directory is mounted and answers. It waits for as long as the storage
// does not, and cannot be interrupted then: it is for a process of its own.
func (p Place) Look() error {
	var s unix.Statfs_t
	if err := unix.Statfs(p.Path, &s); err != nil {
		return fmt.Errorf("the storage at %s: %w", p.Path, err)
	}
	if s.Type != unix.FUSE_SUPER_MAGIC {
		return fmt.Errorf("the storage is not mounted at %s", p.Path)
	}
	return nil
}
