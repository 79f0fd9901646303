package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/internal/atomicfile"
)

// dir is a store in a directory: an object is the file of its key. A key must not
// be the beginning of another's path.
type dir struct{ root string }

const (
	// unfinished holds the files that are being written.
	unfinished = ".unfinished"
	// sumAttribute is the extended attribute with a file's checksum.
	sumAttribute = "user.farmhand.sha256"
)

func openDir(path string) (Store, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("open a store: %q is not an absolute path", path)
	}
	if err := os.MkdirAll(filepath.Join(path, unfinished), 0o700); err != nil {
		return nil, fmt.Errorf("open a store: %w", fileError(err))
	}
	if err := atomicfile.SyncDir(path); err != nil {
		return nil, fmt.Errorf("open a store: %w", fileError(err))
	}
	return &dir{path}, nil
}

func (d *dir) String() string { return "directory " + d.root }

func (d *dir) path(key string) string { return filepath.Join(d.root, filepath.FromSlash(key)) }

func (d *dir) Put(ctx context.Context, key string, r io.Reader, o PutOptions) (_ Object, err error) {
	if err := checkKey(key); err != nil {
		return Object{}, err
	}
	if o.IfAbsent { // what is known to be in vain is not read
		if _, err := os.Stat(d.path(key)); err == nil {
			return Object{}, fmt.Errorf("put %s: %w", key, ErrExists)
		}
	}
	f, err := os.CreateTemp(filepath.Join(d.root, unfinished), "put-*")
	if err != nil {
		return Object{}, fmt.Errorf("put %s: %w", key, fileError(err))
	}
	defer func() {
		if rerr := os.Remove(f.Name()); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) { // it was renamed
			err = errors.Join(err, rerr)
		}
	}()
	source := &watchedReader{ctx: ctx, from: r, sum: sha256.New()}
	size, err := io.Copy(f, source)
	sum := hex.EncodeToString(source.sum.Sum(nil))
	switch {
	case source.err != nil:
		err = source.err
	case err != nil:
		err = fmt.Errorf("put %s: %w", key, fileError(err))
	case o.SHA256 != "" && o.SHA256 != sum:
		err = other(key, o.SHA256, sum)
	default:
		if err = errors.Join(mark(f, sum), f.Sync()); err != nil {
			err = fmt.Errorf("put %s: %w", key, fileError(err))
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return Object{}, err
	}
	if err := d.place(f.Name(), key, o.IfAbsent); err != nil {
		return Object{}, fmt.Errorf("put %s: %w", key, fileError(err))
	}
	return Object{Key: key, Size: size, SHA256: sum, Modified: time.Now()}, nil
}

// mark notes the checksum with the file. A file system without extended
// attributes does without.
func mark(f *os.File, sum string) error {
	err := unix.Fsetxattr(int(f.Fd()), sumAttribute, []byte(sum), 0)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

// place gives a finished file its name, durably.
func (d *dir) place(file, key string, ifAbsent bool) error {
	path := d.path(key)
	move := os.Rename
	if ifAbsent {
		move = os.Link // unlike a rename it replaces nothing
	}
	var err error
	for range 10 { // Delete removes empty directories
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err = move(file, path); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return err
	}
	for at := filepath.Dir(path); ; at = filepath.Dir(at) {
		if err := atomicfile.SyncDir(at); err != nil {
			return err
		}
		if at == d.root {
			return nil
		}
	}
}

func (d *dir) Get(ctx context.Context, key string, o GetOptions) (_ io.ReadCloser, _ Object, err error) {
	if err := checkKey(key); err != nil {
		return nil, Object{}, err
	}
	if o.Version != "" {
		return nil, Object{}, fmt.Errorf("get %s: %w: a directory keeps no versions", key, ErrNotFound)
	}
	f, err := os.Open(d.path(key))
	if err != nil {
		return nil, Object{}, fmt.Errorf("get %s: %w", key, fileError(err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("get %s: %w", key, fileError(err)), f.Close())
		}
	}()
	object, err := describe(f, key)
	if err != nil {
		return nil, Object{}, err
	}
	if o.Offset < 0 || o.Offset > object.Size || o.Length < 0 {
		return nil, Object{}, fmt.Errorf("%w: %d bytes from %d on of %d", ErrInvalid, o.Length, o.Offset, object.Size)
	}
	length := object.Size - o.Offset
	if o.Length > 0 {
		length = min(length, o.Length)
	}
	section := &watchedReader{ctx: ctx, from: io.NewSectionReader(f, o.Offset, length)}
	return struct {
		io.Reader
		io.Closer
	}{section, f}, object, nil
}

func (d *dir) Head(_ context.Context, key string) (Object, error) {
	if err := checkKey(key); err != nil {
		return Object{}, err
	}
	f, err := os.Open(d.path(key))
	if err != nil {
		return Object{}, fmt.Errorf("look at %s: %w", key, fileError(err))
	}
	object, err := describe(f, key)
	if err = errors.Join(err, f.Close()); err != nil {
		return Object{}, fmt.Errorf("look at %s: %w", key, fileError(err))
	}
	return object, nil
}

func describe(f *os.File, key string) (Object, error) {
	info, err := f.Stat()
	if err != nil {
		return Object{}, err
	}
	if !info.Mode().IsRegular() {
		return Object{}, ErrNotFound
	}
	var sum [2 * sha256.Size]byte
	n, err := unix.Fgetxattr(int(f.Fd()), sumAttribute, sum[:])
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
		return Object{}, fmt.Errorf("read its checksum: %w", err)
	}
	return Object{Key: key, Size: info.Size(), Modified: info.ModTime(), SHA256: string(sum[:max(0, n)])}, nil
}

func (d *dir) List(ctx context.Context, prefix string, each func(Object) error) error {
	var found []Object
	top := filepath.Join(d.root, filepath.FromSlash(prefix[:strings.LastIndexByte(prefix, '/')+1]))
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, fs.ErrNotExist):
			return nil // it was removed meanwhile
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == unfinished:
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		key := filepath.ToSlash(strings.TrimPrefix(path, d.root+string(filepath.Separator)))
		if !strings.HasPrefix(key, prefix) || checkKey(key) != nil {
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			found = append(found, Object{Key: key, Size: info.Size(), Modified: info.ModTime()})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, fileError(err))
	}
	slices.SortFunc(found, func(a, b Object) int { return strings.Compare(a.Key, b.Key) })
	for _, object := range found {
		if err := each(object); err != nil {
			return err
		}
	}
	return nil
}

func (d *dir) Delete(_ context.Context, key, version string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if version != "" {
		return fmt.Errorf("delete %s: %w: a directory keeps no versions", key, ErrNotFound)
	}
	path := d.path(key)
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, fileError(err))
	}
	at := filepath.Dir(path)
	for at != d.root && syscall.Rmdir(at) == nil { // a directory with something in it stays
		at = filepath.Dir(at)
	}
	if err := atomicfile.SyncDir(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", key, fileError(err))
	}
	return nil
}

func (d *dir) Sweep(ctx context.Context, _ string, before time.Time) (swept int, err error) {
	place := filepath.Join(d.root, unfinished)
	entries, err := os.ReadDir(place)
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", fileError(err))
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.ModTime().Before(before) {
			continue
		}
		if err == nil {
			err = os.Remove(filepath.Join(place, entry.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return swept, fmt.Errorf("sweep: %w", fileError(err))
		}
		swept++
	}
	return swept, ctx.Err()
}

// fileError adds to an error of the file system what it means to callers.
func fileError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w (%w)", ErrNotFound, err)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w (%w)", ErrExists, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w (%w)", ErrDenied, err)
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrInvalid), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fmt.Errorf("%w (%w)", ErrUnavailable, err)
}

// watchedReader is a reader that ends with a context, and keeps its source's error
// apart from those of where it is copied to.
type watchedReader struct {
	ctx  context.Context
	from io.Reader
	sum  hash.Hash // nil: none is made
	err  error
}

func (w *watchedReader) Read(b []byte) (int, error) {
	if w.ctx.Err() != nil {
		w.err = context.Cause(w.ctx)
		return 0, w.err
	}
	n, err := w.from.Read(b)
	if w.sum != nil {
		w.sum.Write(b[:n]) // never fails
	}
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}
