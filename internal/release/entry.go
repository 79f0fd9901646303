package release

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of a release: entries, bytes of content, bytes of a name.
const (
	MaxEntries = 200_000
	MaxBytes   = 16 << 30
	maxName    = 1024
	maxPart    = 255
)

// modes are the permissions that code can have: nobody but its owner changes it.
const modes fs.FileMode = 0o755

// leftOut are directories of version control, at any depth: they hold the history, and at times passwords.
var leftOut = []string{".git", ".hg", ".svn", ".bzr"}

// isLeftOut reports whether a path is in one of them.
func isLeftOut(name string) bool {
	return slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool { return slices.Contains(leftOut, part) })
}

// entries are those of an archive so far, which every further one is held against.
type entries struct {
	made  map[string]byte // the type of each, by its clean name
	files int
	bytes int64
}

// admit checks an entry and returns its clean name; empty for the directory itself.
func (e *entries) admit(head *tar.Header) (name string, err error) {
	name = path.Clean(strings.TrimSuffix(head.Name, "/"))
	if name == "." && head.Typeflag == tar.TypeDir {
		return "", nil
	}
	if err := checkName(name); err != nil {
		return "", fmt.Errorf("%q: %w", head.Name, err)
	}
	if _, there := e.made[name]; there {
		return "", fmt.Errorf("%q is there twice", head.Name)
	}
	for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
		if kind, there := e.made[parent]; there && kind != tar.TypeDir {
			return "", fmt.Errorf("%q is below %s, which is no directory", head.Name, parent)
		}
	}
	if mode := head.FileInfo().Mode(); head.Typeflag != tar.TypeSymlink && mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 && head.Typeflag != tar.TypeDir {
		return "", fmt.Errorf("%q is setuid or setgid, which no code of a site is", head.Name)
	}
	switch head.Typeflag {
	case tar.TypeDir:
	case tar.TypeReg:
		e.files++
		e.bytes += head.Size
	case tar.TypeSymlink:
		if err := checkLink(name, head.Linkname); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("%q is neither a file, nor a directory, nor a symbolic link (type %q)", head.Name, head.Typeflag)
	}
	e.made[name] = head.Typeflag
	if len(e.made) > MaxEntries || e.bytes > MaxBytes {
		return "", fmt.Errorf("more than %d entries, or %d bytes", MaxEntries, int64(MaxBytes))
	}
	return name, nil
}

func checkName(name string) error {
	if !filepath.IsLocal(name) || len(name) > maxName {
		return fmt.Errorf("not a path below the release, of at most %d bytes", maxName)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxPart || strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("a name in it is longer than %d bytes, or has control characters", maxPart)
		}
	}
	return nil
}

// checkLink wants a link that stays inside, whatever other links are on its way: it goes up first, through
// directories that are none, and then only down.
func checkLink(name, target string) error {
	down := false
	for part := range strings.SplitSeq(target, "/") {
		if part == ".." && down {
			return fmt.Errorf("the link %q to %q goes up after it went down", name, target)
		}
		down = down || part != ".." && part != "."
	}
	if target == "" || path.IsAbs(target) || !filepath.IsLocal(path.Join(path.Dir(name), target)) {
		return fmt.Errorf("the link %q to %q leads out of the release", name, target)
	}
	return nil
}
