package dbserver

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// DataSize is about how much of a data directory is copied: logs are not.
func DataSize(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if errors.Is(err, fs.ErrNotExist) && path != dir {
				return nil // it was dropped meanwhile
			}
			if entry != nil && entry.IsDir() && entry.Name() == "#innodb_redo" {
				return fs.SkipDir
			}
			return err
		}
		for _, log := range []string{"binlog.", "relay.", "ib_logfile", "ibtmp"} {
			if strings.HasPrefix(entry.Name(), log) {
				return nil
			}
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measure the data: %w", err)
	}
	return size, nil
}
