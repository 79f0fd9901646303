package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// file is a file, directory or link in a snapshot. Sockets, pipes and devices are in
// none.
type file struct {
	Path []byte `json:"path"` // relative to the volume; a name need not be UTF-8
	Kind string `json:"kind"`
	Mode uint32 `json:"mode"` // as of chmod(2)
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	// Modified is in nanoseconds since 1970.
	Modified int64 `json:"modified"`
	Size     int64 `json:"size,omitempty"`
	// Target is what a symbolic link has, and the path of the file that a further name
	// of it is for.
	Target     []byte            `json:"target,omitempty"`
	Blocks     []string          `json:"blocks,omitempty"` // "" for one of zeros
	Attributes map[string][]byte `json:"attributes,omitempty"`
}

// The kinds of file.
const (
	dirFile     = "directory"
	regularFile = "file"
	symlinkFile = "symlink"
	furtherName = "name"
)

// collect stores the content of the files below root and returns what they are. With
// moving, the files change meanwhile: what has vanished is left out, and the result is of
// no moment.
func (a *archive) collect(ctx context.Context, root string, leave []string, moving bool) ([]file, error) {
	var files []file
	names := map[uint64]string{} // by inode, of files with several names
	buffer := make([]byte, blockSize)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		relative, relErr := filepath.Rel(root, path)
		if relErr != nil {
			return relErr
		}
		gone := func(err error) error {
			if moving && errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if err != nil {
			return gone(err)
		}
		if filepath.Dir(relative) == "." && slices.Contains(leave, relative) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return gone(fmt.Errorf("%s: %w", path, err))
		}
		f := file{Path: []byte(relative), Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Modified: st.Mtim.Nano()}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			f.Kind = dirFile
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return gone(err)
			}
			f.Kind, f.Target = symlinkFile, []byte(target)
		case unix.S_IFREG:
			if first, known := names[st.Ino]; known && st.Nlink > 1 {
				f.Kind, f.Target = furtherName, []byte(first)
				break
			}
			names[st.Ino] = relative
			f.Kind = regularFile
			if err := a.content(ctx, path, buffer, &f); err != nil {
				return gone(err)
			}
		default:
			return nil
		}
		if f.Kind != symlinkFile && f.Kind != furtherName {
			if f.Attributes, err = attributes(path); err != nil {
				return gone(err)
			}
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

// content stores what a file has.
func (a *archive) content(ctx context.Context, path string, buffer []byte, f *file) (err error) {
	in, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(in, buffer)
		if n > 0 {
			hash, err := a.put(buffer[:n])
			if err != nil {
				return fmt.Errorf("store a block of %s: %w", path, err)
			}
			f.Blocks = append(f.Blocks, hash)
			f.Size += int64(n)
		}
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
}

// attributes are the extended ones of a file.
func attributes(path string) (map[string][]byte, error) {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(path, list)
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the attributes of %s: %w", path, err)
	}
	all := map[string][]byte{}
	for begin, i := 0, 0; i < n; i++ {
		if list[i] != 0 {
			continue
		}
		name := string(list[begin:i])
		begin = i + 1
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		size, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("read the attribute %s of %s: %w", name, path, err)
		}
		all[name] = value[:size:size]
	}
	return all, nil
}

// extract makes the files below root, which is emptied before. What fails is named.
func (a *archive) extract(ctx context.Context, root string, files []file, leave []string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if slices.Contains(leave, e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(root, e.Name())); err != nil {
			return err
		}
	}
	for _, f := range files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := a.make(ctx, root, f); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	// A directory's time is changed by what is made in it.
	for _, f := range slices.Backward(files) {
		if f.Kind == dirFile {
			if err := stamp(filepath.Join(root, string(f.Path)), f); err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
		}
	}
	d, err := os.Open(root)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

func (a *archive) make(ctx context.Context, root string, f file) error {
	path := filepath.Join(root, string(f.Path))
	switch f.Kind {
	case dirFile:
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
	case symlinkFile:
		if err := os.Symlink(string(f.Target), path); err != nil {
			return err
		}
		return os.Lchown(path, int(f.UID), int(f.GID))
	case furtherName:
		return os.Link(filepath.Join(root, string(f.Target)), path)
	case regularFile:
		if err := a.write(ctx, path, f); err != nil {
			return err
		}
	default:
		return fmt.Errorf("there is no kind of file %q", f.Kind)
	}
	if err := os.Lchown(path, int(f.UID), int(f.GID)); err != nil {
		return err
	}
	if err := unix.Chmod(path, f.Mode); err != nil { // after chown, which takes setuid away
		return err
	}
	for name, value := range f.Attributes {
		if err := unix.Lsetxattr(path, name, value, 0); err != nil {
			return fmt.Errorf("set the attribute %s: %w", name, err)
		}
	}
	return stamp(path, f)
}

func (a *archive) write(ctx context.Context, path string, f file) (err error) {
	a.step("restore")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for i, hash := range f.Blocks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		at := int64(i) * blockSize
		if hash == "" {
			continue
		}
		b, err := a.get(hash, int(min(blockSize, f.Size-at)))
		if err != nil {
			return err
		}
		if _, err := out.WriteAt(b, at); err != nil {
			return err
		}
	}
	return out.Truncate(f.Size)
}

func stamp(path string, f file) error {
	at := time.Unix(0, f.Modified)
	return os.Chtimes(path, at, at)
}
