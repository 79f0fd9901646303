package mysqlbackup

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"farmhand/internal/ctxio"
	"farmhand/internal/dbserver"
)

// buffer is how much is read and written at once.
const buffer = 1 << 20

// own are files of the data directory that belong to one server, or are made anew: its
// UUID, certificates, temporary data.
func own(name string) bool {
	return name == "auto.cnf" || name == "#innodb_temp" || strings.HasPrefix(name, "ibtmp") || !strings.Contains(name, "/") && strings.HasSuffix(name, ".pem")
}

// archive writes the files of a data directory, on which no server runs.
func archive(ctx context.Context, dir string, w io.Writer) error {
	out := tar.NewWriter(w)
	room := make([]byte, buffer)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case own(name) && entry.IsDir():
			return fs.SkipDir
		case own(name):
			return nil
		case !entry.IsDir() && !entry.Type().IsRegular():
			return fmt.Errorf("%s is neither a file nor a directory", path)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		head := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(), Typeflag: tar.TypeDir, Format: tar.FormatPAX}
		if entry.IsDir() {
			return out.WriteHeader(head)
		}
		head.Typeflag, head.Size = tar.TypeReg, info.Size()
		if err := out.WriteHeader(head); err != nil {
			return err
		}
		return add(ctx, out, path, room)
	})
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return fmt.Errorf("archive the copied data: %w", err)
	}
	return nil
}

// add writes a file's content.
func add(ctx context.Context, to io.Writer, path string, room []byte) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.CopyBuffer(struct{ io.Writer }{to}, ctxio.Reader{Ctx: ctx, From: f}, room)
	return err
}

// Extract makes files of a stream, in the data directory of in, which is empty
// (dbserver.PrepareIncoming). r is read up to the stream's end.
func Extract(ctx context.Context, in dbserver.Config, r io.Reader) error {
	files := tar.NewReader(bufio.NewReaderSize(ctxio.Reader{Ctx: ctx, From: r}, buffer))
	room := make([]byte, buffer)
	for {
		head, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = extract(in, head, files, room)
		}
		if err != nil {
			return fmt.Errorf("unpack the backup: %w", err)
		}
	}
	// What is left of it is zeros.
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, room); err != nil {
		return fmt.Errorf("unpack the backup: %w", err)
	}
	return nil
}

func extract(in dbserver.Config, head *tar.Header, from io.Reader, room []byte) (err error) {
	name := filepath.Clean(head.Name)
	if !filepath.IsLocal(name) || own(name) {
		return fmt.Errorf("%q is not a name of a file of a data directory", head.Name)
	}
	path := filepath.Join(in.DataDir(), name)
	mode := fs.FileMode(head.Mode).Perm()
	switch head.Typeflag {
	case tar.TypeDir:
		if err := os.Mkdir(path, mode|0o700); err != nil {
			return err
		}
	case tar.TypeReg:
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode|0o600)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{from}, room)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is of the type %q", head.Name, head.Typeflag)
	}
	return in.Give(path)
}

// Prepare makes the files of a stream data that a server can run on. It returns the GTID
// position up to which they hold transactions.
func Prepare(ctx context.Context, inst dbserver.Install, in dbserver.Config) (position string, err error) {
	return settle(ctx, inst, in)
}
