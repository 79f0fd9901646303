package filewatch

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// maxLinks is how many symbolic links the kernel follows in one path (ELOOP).
const maxLinks = 40

// directories returns the directories in which a change can make path mean
// another file: the one that holds the file, the one that holds any symbolic
// link on the way (a volume's ..data, a versioned configuration directory), and,
// where something is missing, the one it would have to appear in. path is
// absolute.
func directories(path string) []string {
	var dirs []string
	watch := func(dir string) {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	at, rest, links := "/", strings.TrimPrefix(filepath.Clean(path), "/"), 0
	for rest != "" {
		name, after, more := strings.Cut(rest, "/")
		step := filepath.Join(at, name)
		info, err := os.Lstat(step)
		if err != nil {
			watch(at)
			return dirs
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			watch(at)
			target, err := os.Readlink(step)
			if links++; err != nil || links > maxLinks {
				return dirs
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = strings.TrimPrefix(filepath.Join(target, after), "/")
			continue
		}
		if !more {
			watch(at)
			return dirs
		}
		at, rest = step, after
	}
	watch(at)
	return dirs
}

type fileID struct{ device, inode uint64 }

func identify(dir string) (fileID, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return fileID{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, errors.ErrUnsupported
	}
	return fileID{uint64(stat.Dev), stat.Ino}, nil
}

// watches are the directories that are watched now. A watch belongs to an
// inode, not to a name, so each keeps the identity it was set on.
type watches struct {
	to  *fsnotify.Watcher
	ids map[string]fileID
}

// follow makes the watched directories those that path depends on. It looks
// again after a change, because what appears between the look and the watch
// makes no event.
func (w *watches) follow(path string) error {
	for range maxLinks {
		changed, err := w.adjust(directories(path))
		if err != nil || !changed {
			return err
		}
	}
	return fmt.Errorf("the directories of %s change faster than they can be watched", path)
}

func (w *watches) adjust(dirs []string) (changed bool, err error) {
	var errs []error
	wanted := make(map[string]fileID, len(dirs))
	for _, dir := range dirs {
		id, err := identify(dir)
		if errors.Is(err, fs.ErrNotExist) {
			changed = true // gone since it was listed
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		wanted[dir] = id
	}
	for dir, id := range w.ids {
		if wanted[dir] == id && slices.Contains(w.to.WatchList(), dir) {
			continue
		}
		// The watch may have ended with its directory; that it is gone is all
		// that is wanted.
		_ = w.to.Remove(dir)
		delete(w.ids, dir)
		changed = true
	}
	for _, dir := range slices.Sorted(maps.Keys(wanted)) {
		if _, have := w.ids[dir]; have {
			continue
		}
		if err := w.to.Add(dir); err != nil {
			errs = append(errs, err)
			continue
		}
		w.ids[dir] = wanted[dir]
		changed = true
	}
	return changed, errors.Join(errs...)
}
