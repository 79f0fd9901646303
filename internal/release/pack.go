package release

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"farmhand/internal/ctxio"
)

// Packed is what a release's file is.
type Packed struct {
	// SHA256 is the file's checksum in hexadecimal, Size its length in bytes.
	SHA256 string
	Size   int64
	// Files and Bytes are how many files are in it, and how long they are together.
	Files int
	Bytes int64
}

// Pack writes the code in source, a directory or a tar archive (plain, gzip or zstd), to a writer as a
// release's file. Directories of version control are left out. An error is about source, or the writer's or
// the context's.
func Pack(ctx context.Context, source string, to io.Writer) (Packed, error) {
	real, err := filepath.EvalSymlinks(source)
	if err != nil {
		return Packed{}, err
	}
	info, err := os.Stat(real)
	if err != nil {
		return Packed{}, err
	}
	sum, count := sha256.New(), &counted{}
	compressed, err := zstd.NewWriter(io.MultiWriter(to, sum, count))
	if err != nil {
		return Packed{}, err
	}
	p := &packer{entries: entries{made: map[string]byte{}}, out: tar.NewWriter(compressed)}
	if info.IsDir() {
		err = p.directory(ctx, real)
	} else {
		err = p.archive(ctx, real)
	}
	if err == nil && p.files == 0 {
		err = errors.New("there is no file in it")
	}
	if err == nil {
		err = p.out.Close()
	}
	if err = errors.Join(err, compressed.Close()); err != nil {
		return Packed{}, fmt.Errorf("pack %s: %w", source, err)
	}
	return Packed{SHA256: hex.EncodeToString(sum.Sum(nil)), Size: count.n, Files: p.files, Bytes: p.bytes}, nil
}

type counted struct{ n int64 }

func (c *counted) Write(b []byte) (int, error) { c.n += int64(len(b)); return len(b), nil }

// packer writes entries.
type packer struct {
	entries
	out *tar.Writer
}

// put writes an entry, after the directories above it that no entry was there for.
func (p *packer) put(head *tar.Header, content io.Reader) error {
	name, err := p.admit(head)
	if err != nil || name == "" {
		return err
	}
	if err := p.above(name, head.ModTime); err != nil {
		return err
	}
	clean := &tar.Header{Name: name, Typeflag: head.Typeflag, Mode: head.Mode & int64(modes), ModTime: head.ModTime.Truncate(time.Second), Format: tar.FormatPAX}
	switch head.Typeflag {
	case tar.TypeSymlink:
		clean.Linkname = head.Linkname
	case tar.TypeReg:
		clean.Size = head.Size
	}
	if err := p.out.WriteHeader(clean); err != nil || head.Typeflag != tar.TypeReg {
		return err
	}
	_, err = io.CopyN(p.out, content, head.Size)
	if err != nil {
		return fmt.Errorf("%s changed while it was read: %w", name, err)
	}
	return nil
}

func (p *packer) above(name string, at time.Time) error {
	parent := path.Dir(name)
	if parent == "." {
		return nil
	}
	if _, there := p.made[parent]; there {
		return nil
	}
	return p.put(&tar.Header{Name: parent, Typeflag: tar.TypeDir, Mode: int64(modes), ModTime: at}, nil)
}

// directory packs the files below a directory, in the order of their names.
func (p *packer) directory(ctx context.Context, dir string) error {
	return filepath.WalkDir(dir, func(at string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil || at == dir {
			return err
		}
		name, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if isLeftOut(name) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil // as a submodule's
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(at); err != nil {
				return err
			}
		}
		head, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		head.Name = name
		if head.Typeflag != tar.TypeReg {
			return p.put(head, nil)
		}
		return p.file(ctx, head, at)
	})
}

func (p *packer) file(ctx context.Context, head *tar.Header, at string) (err error) {
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return p.put(head, ctxio.Reader{Ctx: ctx, From: f})
}

// archive packs the entries of a tar archive.
func (p *packer) archive(ctx context.Context, at string) (err error) {
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	plain, done, err := decompressed(bufio.NewReaderSize(ctxio.Reader{Ctx: ctx, From: f}, 1<<20))
	if err != nil {
		return err
	}
	defer done()
	in := tar.NewReader(plain)
	for {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is no directory, and no tar archive (plain, gzip or zstd): %w", err)
		}
		if head.Typeflag == tar.TypeXGlobalHeader || isLeftOut(path.Clean(head.Name)) {
			continue // as git archive has it
		}
		if err := p.put(head, in); err != nil {
			return err
		}
	}
}

// decompressed finds out by its first bytes how a file is compressed.
func decompressed(from *bufio.Reader) (plain io.Reader, done func(), err error) {
	magic, err := from.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		gz, err := gzip.NewReader(from)
		return gz, func() {}, err
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		zst, err := zstd.NewReader(from, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return zst, zst.Close, nil
	}
	return from, func() {}, nil
}

// maxWindow bounds the memory that decompressing takes, in bytes.
const maxWindow = 64 << 20
