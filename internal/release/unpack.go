package release

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/klauspost/compress/zstd"

	"farmhand/internal/ctxio"
)

// ErrContent: what was read is not the release that was announced.
var ErrContent = errors.New("it is not what was announced")

// Unpack reads a release's file and makes its code in the directory into, which is there and empty. Nothing is
// to be believed of what it has made if it returns an error: [ErrContent] if the file is not the announced one,
// otherwise the reader's, the file system's or the context's.
//
// group is who may read what is not for everybody; -1 for the group of this process.
func Unpack(ctx context.Context, r io.Reader, is Packed, into string, group int) (err error) {
	root, err := os.OpenRoot(into)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	sum, count := sha256.New(), &counted{}
	// A byte more than announced is as wrong as any.
	from := io.TeeReader(io.LimitReader(ctxio.Reader{Ctx: ctx, From: r}, is.Size+1), io.MultiWriter(sum, count))
	u := &unpacker{entries: entries{made: map[string]byte{}}, root: root, group: group, most: is}
	unpacked := u.all(from)
	if _, err := io.Copy(io.Discard, from); err != nil {
		return fmt.Errorf("read the release: %w", err)
	}
	switch got := hex.EncodeToString(sum.Sum(nil)); {
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case count.n != is.Size || got != is.SHA256:
		return fmt.Errorf("%w: %d bytes with the sha256 %s, not %d with %s", ErrContent, count.n, got, is.Size, is.SHA256)
	case unpacked != nil:
		return unpacked
	case u.files != is.Files || u.bytes != is.Bytes:
		return fmt.Errorf("%w: %d files of %d bytes, not %d of %d", ErrContent, u.files, u.bytes, is.Files, is.Bytes)
	}
	return nil
}

type unpacker struct {
	entries
	root  *os.Root
	group int
	most  Packed
}

func (u *unpacker) all(from io.Reader) error {
	plain, err := zstd.NewReader(from, zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer plain.Close()
	in := tar.NewReader(plain)
	for {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return u.rest(plain)
		}
		if err == nil {
			err = u.one(head, in)
		}
		if err != nil {
			return fmt.Errorf("unpack the release: %w", err)
		}
	}
}

// rest reads what is behind the archive's end: zeros, if there is anything.
func (u *unpacker) rest(plain io.Reader) error {
	if n, err := io.CopyN(io.Discard, plain, 1<<20); n == 1<<20 || err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("unpack the release: there is more behind its end: %w", errors.Join(ErrContent, err))
	}
	return nil
}

func (u *unpacker) one(head *tar.Header, content io.Reader) error {
	name, err := u.admit(head)
	if err != nil {
		return err
	}
	if u.files > u.most.Files || u.bytes > u.most.Bytes {
		return fmt.Errorf("%w: there are more files in it, or longer ones", ErrContent)
	}
	if parent := path.Dir(name); parent != "." && u.made[parent] != tar.TypeDir {
		return fmt.Errorf("%q comes before its directory", name)
	}
	mode := fs.FileMode(head.Mode) & modes
	switch head.Typeflag {
	case tar.TypeSymlink:
		return u.root.Symlink(head.Linkname, name)
	case tar.TypeDir:
		if name == "" {
			return nil
		}
		if err := u.root.Mkdir(name, mode|0o700); err != nil {
			return err
		}
		return u.give(name, mode|0o700)
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode|0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := u.give(name, mode|0o600); err != nil {
		return err
	}
	return u.root.Chtimes(name, head.ModTime, head.ModTime)
}

// give sets what a umask may have taken, and the group.
func (u *unpacker) give(name string, mode fs.FileMode) error {
	if u.group >= 0 {
		if err := u.root.Lchown(name, -1, u.group); err != nil {
			return err
		}
	}
	return u.root.Chmod(name, mode)
}
