package provider

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/internal/atomicfile"
	"farmhand/internal/mounts"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/flock"
)

var _ Imager = (*Local)(nil)

// MakeImage is [Imager.MakeImage]: the image is a copy of the instance's own directory,
// without what the rules leave out. The instance runs on meanwhile.
func (l *Local) MakeImage(ctx context.Context, instance, name string) (_ Image, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("image %s of %s: %w", name, instance, err)
		}
	}()
	if err := checkImageName(name); err != nil {
		return Image{}, err
	}
	if err := os.MkdirAll(l.place.images(), 0o755); err != nil {
		return Image{}, err
	}
	lock, err := flock.Hold(ctx, filepath.Join(l.place.images(), "lock"))
	if err != nil {
		return Image{}, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if there, err := l.readImage(name); !errors.Is(err, fs.ErrNotExist) {
		if err == nil && there.From != instance {
			err = fmt.Errorf("there is one of that name, of %s", there.From)
		}
		return there, err
	}
	r, err := l.read(instance)
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, errors.New("there is no such instance")
	}
	if err != nil {
		return Image{}, err
	}
	if r.Kind == farmfile.MySQLKind {
		return Image{}, errors.New("it is a database server: its data is no image")
	}
	p, err := l.Passwords()
	if err != nil {
		return Image{}, err
	}
	unfinished := l.place.image(name) + ".new"
	if err := os.RemoveAll(unfinished); err != nil { // of an attempt that was cut short
		return Image{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(unfinished))
		}
	}()
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		return Image{}, err
	}
	i := Image{Name: name, ID: name, From: instance, Made: time.Now().UTC().Truncate(time.Second), Ready: true}
	c := copying{from: l.place.work(instance), to: filepath.Join(unfinished, "files"), image: &i, clean: true}
	for _, secret := range p.byName() {
		if *secret != "" && *secret != AppUser { // which is no secret, and stands in many a file
			c.secrets = append(c.secrets, *secret)
		}
	}
	if err := c.run(ctx); err != nil {
		return Image{}, err
	}
	text, err := json.MarshalIndent(i, "", "  ")
	if err == nil {
		err = atomicfile.Write(filepath.Join(unfinished, "image.json"), append(text, '\n'), 0o600, nil)
	}
	if err == nil {
		err = os.Rename(unfinished, l.place.image(name))
	}
	if err == nil {
		err = atomicfile.SyncDir(l.place.images())
	}
	return i, err
}

// Images is [Imager.Images].
func (l *Local) Images(context.Context) ([]Image, error) {
	entries, err := os.ReadDir(l.place.images())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var list []Image
	for _, e := range entries {
		if !e.IsDir() || checkImageName(e.Name()) != nil {
			continue // the lock, or one that is being made or removed
		}
		i, err := l.readImage(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed just now
		}
		if err != nil {
			return nil, fmt.Errorf("list images: %w", err)
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b Image) int { return cmp.Or(a.Made.Compare(b.Made), strings.Compare(a.Name, b.Name)) })
	return list, nil
}

// RemoveImage is [Imager.RemoveImage].
func (l *Local) RemoveImage(_ context.Context, name string) error {
	if err := checkImageName(name); err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	going := l.place.image(name) + ".old" // no half of it is ever an image
	err := os.Rename(l.place.image(name), going)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // cut short before, or never there
	}
	if err == nil {
		err = os.RemoveAll(going)
	}
	if err != nil {
		return fmt.Errorf("remove image %s: %w", name, err)
	}
	return nil
}

// readImage returns what is known of an image; fs.ErrNotExist if there is none.
func (l *Local) readImage(name string) (Image, error) {
	path := filepath.Join(l.place.image(name), "image.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return Image{}, err
	}
	var i Image
	if err := json.Unmarshal(text, &i); err != nil || i.Name != name {
		return Image{}, fmt.Errorf("%s does not say what image %s is: %w", path, name, err)
	}
	return i, nil
}

// fill gives a new instance the files of its role's image. What is not as it was
// when the image was made is refused.
func (l *Local) fill(ctx context.Context, instance, image string) error {
	if image == "" || image == farmfile.HostImage {
		return nil
	}
	is, err := l.readImage(image)
	if errors.Is(err, fs.ErrNotExist) {
		all, err := l.Images(ctx)
		names := []string{farmfile.HostImage}
		for _, i := range all {
			names = append(names, i.Name)
		}
		return errors.Join(fmt.Errorf("there is no image %q; there are %s", image, strings.Join(names, ", ")), err)
	}
	if err != nil {
		return err
	}
	var now Image
	c := copying{from: filepath.Join(l.place.image(image), "files"), to: l.place.work(instance), image: &now}
	if err := c.run(ctx); err != nil {
		return fmt.Errorf("image %s: %w", image, err)
	}
	if now.Sum != is.Sum {
		return fmt.Errorf("image %s is damaged: its files have the sum %s, and had %s when it was made", image, now.Sum, is.Sum)
	}
	return nil
}

// copying copies a directory, and notes in image what was copied and what was left out.
type copying struct {
	from, to string
	clean    bool     // without what the rules leave out
	secrets  []string // that are in no file
	image    *Image

	root  *os.Root // from: no link in it leads out of it
	modes map[string]fs.FileMode
	sum   io.Writer
	// others are where other file systems are mounted in from, by their paths in it.
	others map[string]bool
}

func (c *copying) run(ctx context.Context) (err error) {
	sum := sha256.New()
	c.sum, c.modes = sum, map[string]fs.FileMode{}
	if c.root, err = os.OpenRoot(c.from); errors.Is(err, fs.ErrNotExist) && c.clean {
		return fmt.Errorf("%s is not there: the instance has no files of its own yet", c.from)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.root.Close()) }()
	if c.others, err = mountedIn(c.from); err != nil {
		return err
	}
	err = fs.WalkDir(c.root.FS(), ".", func(at string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, fs.ErrNotExist) && at != "." {
			return nil // the instance runs: it was removed just now
		}
		if err != nil {
			return err
		}
		return c.one(at, e)
	})
	// At last: a directory may be one in which nothing can be made.
	for _, at := range slices.Backward(slices.Sorted(maps.Keys(c.modes))) {
		if err == nil {
			err = os.Chmod(filepath.Join(c.to, at), c.modes[at])
		}
	}
	c.image.Sum = hex.EncodeToString(sum.Sum(nil))
	return err
}

// mountedIn is where in a directory file systems are mounted, by their paths from there.
func mountedIn(dir string) (map[string]bool, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	all, err := mounts.All()
	at := map[string]bool{}
	for _, m := range all {
		if path, inside := strings.CutPrefix(m.Path, dir+"/"); inside {
			at[path] = true
		}
	}
	return at, err
}

func (c *copying) one(at string, e fs.DirEntry) error {
	if c.clean && at != "." {
		if why := leaveOut(at, e.Type()); why != "" {
			c.image.LeftOut = append(c.image.LeftOut, LeftOut{at, why})
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
	}
	if c.others[at] { // such as files that all of a role's servers use; it may not even answer
		c.image.LeftOut = append(c.image.LeftOut, LeftOut{at, "another file system is mounted there"})
		return fs.SkipDir
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	to, is := filepath.Join(c.to, at), ""
	switch {
	case e.IsDir():
		c.modes[at] = info.Mode().Perm()
		err = os.Mkdir(to, 0o700)
	case e.Type() == fs.ModeSymlink:
		is, err = c.link(at, to)
	default:
		is, err = c.file(at, to)
	}
	if errors.Is(err, errNot) {
		return nil
	}
	if err == nil && os.Geteuid() == 0 {
		var stat unix.Stat_t
		if err = unix.Lstat(filepath.Join(c.from, at), &stat); err == nil {
			err = os.Lchown(to, int(stat.Uid), int(stat.Gid))
		}
	}
	if err != nil {
		return err
	}
	if !e.IsDir() {
		c.image.Files++
	}
	_, err = fmt.Fprintf(c.sum, "%q %v %s\n", at, info.Mode().Type()|info.Mode().Perm(), is)
	return err
}

// errNot: it is not copied, and that is as it should be.
var errNot = errors.New("not copied")

// link makes a symbolic link anew. One that leads into the directory by its absolute
// path leads into the copy.
func (c *copying) link(at, to string) (string, error) {
	target, err := c.root.Readlink(at)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errNot
	}
	if err != nil {
		return "", err
	}
	if inside, err := filepath.Rel(c.from, target); filepath.IsAbs(target) && err == nil && filepath.IsLocal(inside) {
		if target, err = filepath.Rel(filepath.Dir(filepath.Join(c.from, at)), target); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%q", target), os.Symlink(target, to)
}

// tries is how often a file is read that is written to meanwhile.
const tries = 3

func (c *copying) file(at, to string) (sum string, err error) {
	for range tries {
		sum, whole, err := c.fileOnce(at, to)
		if err != nil || whole {
			return sum, err
		}
	}
	return "", fmt.Errorf("%s is written to all the time: what is in it now is nobody's version; have it written below run/, tmp/ or logs/, of which no image has anything", at)
}

// fileOnce copies a file, and reports whether it stayed as it was meanwhile.
func (c *copying) fileOnce(at, to string) (sum string, whole bool, err error) {
	from, err := c.root.OpenFile(at, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, errNot
	}
	if err != nil {
		return "", false, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	before, err := from.Stat()
	if err != nil {
		return "", false, err
	}
	if !before.Mode().IsRegular() {
		return "", false, fmt.Errorf("%s was a file and is none any more", at)
	}
	copied, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return "", false, err
	}
	content, look := sha256.New(), &telltale{secrets: c.secrets}
	n, err := io.Copy(io.MultiWriter(copied, content, look), from)
	if err == nil {
		err = copied.Chmod(before.Mode().Perm())
	}
	if err == nil {
		err = copied.Sync()
	}
	if err = errors.Join(err, copied.Close()); err != nil {
		return "", false, err
	}
	if c.clean && look.found != "" {
		c.image.LeftOut = append(c.image.LeftOut, LeftOut{at, look.found})
		return "", false, errors.Join(os.Remove(to), errNot)
	}
	after, err := from.Stat()
	if err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) || n != before.Size() {
		return "", false, err
	}
	c.image.Bytes += n
	return hex.EncodeToString(content.Sum(nil)), true, nil
}
