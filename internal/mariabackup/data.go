package mariabackup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"farmhand/internal/dbserver"
	"farmhand/internal/dbtool"
)

// Extract makes files of a stream, in the data directory of in, which is empty
// (dbserver.PrepareIncoming). r is read up to the stream's end.
func Extract(ctx context.Context, in dbserver.Config, r io.Reader) error {
	return dbtool.Program{Server: in, In: r, Args: []string{"mbstream", "--extract", "--directory=" + in.DataDir()}}.Run(ctx)
}

// Prepare makes the files of a stream consistent. It returns the GTID position up
// to which they hold transactions.
func Prepare(ctx context.Context, in dbserver.Config) (position string, err error) {
	data := in.DataDir()
	if err := (dbtool.Program{Server: in, Args: []string{
		"mariadb-backup",
		"--no-defaults", // must be the first
		"--prepare",
		"--target-dir=" + data,
		"--tmpdir=" + in.TempDir(),
		"--use-memory=" + strconv.FormatInt(max(in.BufferPool, 64<<20), 10),
	}}).Run(ctx); err != nil {
		return "", err
	}
	notes := map[string]string{}
	for _, name := range slices.Concat(replicaNotes, binlogNotes) {
		text, err := os.ReadFile(filepath.Join(data, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("read the backup's notes: %w", err)
		}
		notes[name] = string(text)
	}
	if position, err = positionOf(notes); err != nil {
		return "", err
	}
	return position, removeNotes(data)
}

// removeNotes removes mariadb-backup's own files from what is to be a data
// directory.
func removeNotes(data string) error {
	for _, pattern := range []string{"xtrabackup_*", "mariadb_backup_*", "backup-my.cnf"} {
		paths, err := filepath.Glob(filepath.Join(data, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			info, err := os.Lstat(path)
			if err == nil && info.Mode().IsRegular() { // a schema can have such a name
				err = os.Remove(path)
			}
			if err != nil {
				return fmt.Errorf("remove the backup's notes: %w", err)
			}
		}
	}
	return nil
}
