// Package atomicfile replaces a file so that a reader sees the old content or
// the new one, and a crash of the program or of the machine leaves one of the
// two.
//
// It knows nothing of what is in the file.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces the file at path. A file that exists keeps its permissions, a
// new one gets mode. A symbolic link at path is replaced, not followed.
//
// accept may be nil. It is called with the path of the finished new file, which
// has a name of its own in the same directory, before that takes the old one's
// place; its error leaves the old file and is returned.
func Write(path string, data []byte, mode fs.FileMode, accept func(temporary string) error) error {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
		mode = info.Mode().Perm()
	}
	return replace(path, data, mode, accept)
}

// WritePrivate replaces the file at path with one that only its owner has access
// to, whoever had it before.
func WritePrivate(path string, data []byte) error { return replace(path, data, 0o600, nil) }

func replace(path string, data []byte, mode fs.FileMode, accept func(temporary string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil && accept != nil {
		err = accept(f.Name())
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(dir)
}

// SyncDir makes what was created, renamed or removed in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
