package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"farmhand/internal/atomicfile"
	"farmhand/internal/cluster"
	"farmhand/internal/release"
)

// Site is a node's releases. One goroutine uses it; Version any.
type Site struct {
	// Dir is the directory of them all, an absolute path.
	Dir string
	// Owner names the node. What another one has left, as in an image that was made of it, is not believed: an image
	// lacks what could be a secret.
	Owner string
	// Group is who may read them beside their owner; -1 for the owner's own group.
	Group int
	// Keep is how many are kept, 1 or more.
	Keep int
	// Shared are paths in each release that are links to what all releases share.
	Shared []Shared
	// Fetch opens a release's file.
	Fetch func(ctx context.Context, r cluster.Release) (io.ReadCloser, error)
	// Check looks at the code in a directory; nil for nothing to look at.
	Check func(ctx context.Context, dir string) error
	// Ask asks the site for a page once: of the next release, or of the current one.
	Ask func(ctx context.Context, next bool) error
	// Within is how long the next release may take until it answers well.
	Within time.Duration
	// Changed is called after current has changed.
	Changed func() error
	// Doing is told what takes time.
	Doing func(what string)
	Log   *zap.Logger
}

// Shared is a path in each release that leads somewhere else.
type Shared struct{ Path, Target string }

// RefusedError is why a release does not become what visitors get: it is no good, and to try
// again does not help.
type RefusedError struct{ Why error }

func (e *RefusedError) Error() string { return e.Why.Error() }
func (e *RefusedError) Unwrap() error { return e.Why }

// The names in Dir.
const (
	releasesDir = "releases"
	currentLink = "current"
	nextLink    = "next"
	ownerFile   = "owner"
	trialFile   = "trial.json"
	unfinished  = ".new-"
)

// Make makes the directories, and removes what was not finished, or is another node's.
func (s *Site) Make() error {
	if err := s.disown(); err != nil {
		return err
	}
	if err := s.mkdir(s.Dir); err != nil {
		return err
	}
	if err := atomicfile.Write(s.ownerFile(), []byte(s.Owner), 0o600, nil); err != nil {
		return err
	}
	if err := s.mkdir(filepath.Join(s.Dir, releasesDir)); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(s.Dir, releasesDir, unfinished+"*"))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// mkdir makes a directory that others have no access to, but for those who read releases.
func (s *Site) mkdir(dir string) error {
	mode := fs.FileMode(0o700)
	if s.Group >= 0 {
		mode = 0o750
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return errors.Join(os.Chown(dir, -1, s.Group), os.Chmod(dir, mode))
}

// disown removes what is another node's. A directory that is nobody's has to be empty.
func (s *Site) disown() error {
	owner, err := os.ReadFile(s.ownerFile())
	switch {
	case err == nil && string(owner) == s.Owner:
		return nil
	case err == nil:
		for _, name := range []string{currentLink, nextLink, trialFile, releasesDir, ownerFile} {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.Dir, name)))
		}
		return err
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "."+ownerFile+".") { // as a process leaves that is killed at its beginning
			return fmt.Errorf("%s is where releases are to be, and there is something else: %s; move it away", s.Dir, e.Name())
		}
	}
	return err
}

func (s *Site) ownerFile() string { return filepath.Join(s.Dir, ownerFile) }

// sumShown is how much of a checksum is in a directory's name: code that is other code has another path, which
// is what PHP's caches go by.
const sumShown = 8

func dirName(r cluster.Release) string { return r.Version + "-" + r.SHA256[:sumShown] }

func (s *Site) path(name string) string { return filepath.Join(s.Dir, releasesDir, name) }

// link is the release that a link leads to; empty for none.
func (s *Site) link(name string) (string, error) {
	target, err := os.Readlink(filepath.Join(s.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return filepath.Base(target), err
}

// Version is the version that visitors get; empty for none.
func (s *Site) Version() string {
	name, err := s.link(currentLink)
	if err != nil || len(name) <= sumShown {
		return ""
	}
	return name[:len(name)-sumShown-1]
}

// has reports whether visitors get the release.
func (s *Site) has(r cluster.Release) bool {
	name, err := s.link(currentLink)
	return err == nil && name == dirName(r)
}

// point has a link lead to a release, at once for whoever looks; empty removes it.
func (s *Site) point(link, name string) error {
	at := filepath.Join(s.Dir, link)
	if name == "" {
		if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	temporary := at + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Join(releasesDir, name), temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, at); err != nil {
		return err
	}
	return atomicfile.SyncDir(s.Dir)
}

// provide has the release's code in its directory, whole and verified.
func (s *Site) provide(ctx context.Context, r cluster.Release) error {
	if err := r.Check(); err != nil {
		return &RefusedError{err}
	}
	if _, err := os.Stat(s.path(dirName(r))); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.Doing("fetching " + r.Version)
	into := s.path(unfinished + dirName(r))
	if err := os.RemoveAll(into); err != nil {
		return err
	}
	if err := os.Mkdir(into, 0o755); err != nil {
		return err
	}
	err := s.fill(ctx, r, into)
	if err == nil {
		err = os.Rename(into, s.path(dirName(r)))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(into))
	}
	s.Log.Info("release unpacked", zap.String("version", r.Version), zap.Int("files", r.Files), zap.Int64("bytes", r.Bytes))
	return atomicfile.SyncDir(filepath.Join(s.Dir, releasesDir))
}

func (s *Site) fill(ctx context.Context, r cluster.Release, into string) (err error) {
	if err := errors.Join(os.Chown(into, -1, s.Group), os.Chmod(into, 0o755)); err != nil {
		return err
	}
	from, err := s.Fetch(ctx, r)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", r.Version, err)
	}
	err = release.Unpack(ctx, from, release.Packed{SHA256: r.SHA256, Size: r.Size, Files: r.Files, Bytes: r.Bytes}, into, s.Group)
	if err = errors.Join(err, from.Close()); err != nil {
		if err = fmt.Errorf("%s: %w", r.Version, err); errors.Is(err, release.ErrContent) {
			return &RefusedError{err}
		}
		return err
	}
	for _, one := range s.Shared {
		if err := share(into, one); err != nil {
			return &RefusedError{fmt.Errorf("%s: %w", r.Version, err)}
		}
	}
	return syncFiles(into)
}

// share puts a link in the place of a path that all releases share.
func share(into string, one Shared) (err error) {
	root, err := os.OpenRoot(into)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if parent := filepath.Dir(one.Path); parent != "." {
		if err := root.MkdirAll(parent, 0o755); err != nil {
			return fmt.Errorf("the shared %s: %w", one.Path, err)
		}
	}
	// An empty directory may hold its place.
	if err := root.Remove(one.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is shared by all releases, and this one has something there: %w", one.Path, err)
	}
	return root.Symlink(one.Target, one.Path)
}

// syncFiles has all that was written be on the disk: what current leads to is there also after a loss of power.
func syncFiles(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// prune removes the oldest releases, but for those that are used, and returns why it could not.
func (s *Site) prune(used ...string) error {
	entries, err := os.ReadDir(filepath.Join(s.Dir, releasesDir))
	if err != nil {
		return err
	}
	type dir struct {
		name string
		made time.Time
	}
	var all []dir
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if e.IsDir() && !strings.HasPrefix(e.Name(), unfinished) {
			all = append(all, dir{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b dir) int { return b.made.Compare(a.made) })
	for i, d := range all {
		if i >= s.Keep && !slices.Contains(used, d.name) {
			err = errors.Join(err, os.RemoveAll(s.path(d.name)))
		}
	}
	return err
}
