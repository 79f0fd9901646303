package clone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// mariadb copies by mariadb-backup, which sends its files as one stream.
// https://mariadb.com/kb/en/mariadb-backup/
type mariadb struct{}

func (mariadb) ready(dbserver.Install) error {
	for _, name := range []string{"mariadb-backup", "mbstream"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%w (Debian package mariadb-backup)", err)
		}
	}
	return nil
}

func (mariadb) give(ctx context.Context, g *gift) (err error) {
	c := g.donor.Config
	admin, err := c.Admin()
	if err != nil {
		return err
	}
	options, err := optionFile(c, admin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(options)) }()
	if g.before, err = streams(ctx, admin); err != nil {
		return err
	}
	err = program{server: c, out: g, args: []string{
		"mariadb-backup",
		"--defaults-file=" + options, // must be the first
		"--backup",
		"--stream=mbstream",
		"--slave-info",
		"--datadir=" + c.DataDir(),
		"--tmpdir=" + c.TempDir(),
		"--target-dir=" + c.TempDir(), // nothing is written there
	}}.run(ctx)
	if err != nil {
		return err
	}
	g.after, err = streams(ctx, admin)
	return err
}

// optionFile writes who the server's administrator is where mariadb-backup finds
// it: the arguments of a program can be read by everybody. What a killed process
// left there is removed.
func optionFile(c dbserver.Config, admin mysqladmin.Target) (path string, err error) {
	const pattern = "clone-*.cnf"
	left, err := filepath.Glob(filepath.Join(c.TempDir(), pattern))
	if err != nil {
		return "", err
	}
	for _, path := range left { // one copy at a time: none is in use
		if err := os.Remove(path); err != nil {
			return "", fmt.Errorf("remove an option file that was left: %w", err)
		}
	}
	f, err := os.CreateTemp(c.TempDir(), pattern) // mode 0600
	if err != nil {
		return "", fmt.Errorf("write an option file: %w", err)
	}
	_, err = fmt.Fprintf(f, "[mariadb-backup]\nuser=%s\npassword=%s\nsocket=%s\n",
		optionValue(admin.User), optionValue(admin.Password), optionValue(admin.Address))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = c.Give(f.Name())
	}
	if err != nil {
		return "", fmt.Errorf("write an option file: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return f.Name(), nil
}

// optionValue quotes a value for an option file.
func optionValue(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

func (mariadb) take(ctx context.Context, f *fetch, in dbserver.Config) (string, error) {
	data := in.DataDir()
	f.phase(Copying)
	extract := program{server: in, in: &passing{f.body, f.count}, args: []string{"mbstream", "--extract", "--directory=" + data}}
	if err := extract.run(ctx); err != nil {
		if f.body.ended { // too early, and the donor says why
			err = errors.Join(f.verdict(), err)
		}
		return "", err
	}
	if err := f.whole(); err != nil {
		return "", err
	}
	f.phase(Recovering)
	if err := (program{server: in, args: []string{
		"mariadb-backup",
		"--no-defaults", // must be the first
		"--prepare",
		"--target-dir=" + data,
		"--tmpdir=" + in.TempDir(),
		"--use-memory=" + strconv.FormatInt(max(in.BufferPool, 64<<20), 10),
	}}).run(ctx); err != nil {
		return "", err
	}
	position, err := backupPosition(data)
	if err != nil {
		return "", err
	}
	if err := removeNotes(data); err != nil {
		return "", err
	}
	binlog, err := stateAt(position, f.answer.Trailer.Get(beforeTrailer), f.answer.Trailer.Get(afterTrailer))
	if err != nil {
		return "", err
	}
	f.phase(Checking)
	return position, dbserver.Settle(ctx, f.Install, in, func(ctx context.Context, conn *mysqladmin.Conn) error {
		return setState(ctx, conn, position, binlog)
	})
}

// slavePosition is in the file that mariadb-backup writes about a replica.
var slavePosition = regexp.MustCompile(`gtid_slave_pos\s*=\s*'([^']*)'`)

// backupPosition is how far the copied data goes. Of a donor that follows it is
// what that has applied; of another what its binlog says.
func backupPosition(data string) (string, error) {
	replica, err := note(data, "xtrabackup_slave_info", "mariadb_backup_slave_info")
	if err != nil {
		return "", err
	}
	var position string
	switch m := slavePosition.FindStringSubmatch(replica); {
	case m != nil:
		position = m[1]
	case replica != "":
		return "", errors.New("the donor follows another server without GTIDs; its copy cannot be followed up")
	default:
		binlog, err := note(data, "xtrabackup_binlog_info", "mariadb_backup_binlog_info")
		if err != nil {
			return "", err
		}
		// File, offset and GTID position, parted by tabs.
		fields := strings.Split(strings.TrimSuffix(binlog, "\n"), "\t")
		if len(fields) != 3 {
			return "", fmt.Errorf("the backup has no position: %q (has the donor a binlog?)", binlog)
		}
		position = fields[2]
	}
	position = strings.Join(strings.Fields(position), "")
	if _, err := gtid.Parse(farm.MariaDB, position); err != nil {
		return "", fmt.Errorf("the backup's position: %w", err)
	}
	return position, nil
}

// note reads one of mariadb-backup's own files, under its older or newer name;
// empty if there is none.
func note(data string, names ...string) (string, error) {
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(data, name))
		if err == nil {
			return string(text), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("read the backup's notes: %w", err)
		}
	}
	return "", nil
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
