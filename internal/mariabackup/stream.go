package mariabackup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"farmhand/internal/dbserver"
	"farmhand/internal/mysqladmin"
)

// Tool names what makes the streams.
const Tool = "mariadb-backup"

// Ready says what is missing on this machine.
func Ready() error {
	for _, name := range []string{"mariadb-backup", "mbstream"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%w (Debian package mariadb-backup)", err)
		}
	}
	return nil
}

// Stream writes the data of the server that runs in c to w, until it is whole or
// ctx ends. purpose names what it is for; there is one stream at a time of a server
// and a purpose.
func Stream(ctx context.Context, c dbserver.Config, purpose string, w io.Writer) (err error) {
	admin, err := c.Admin()
	if err != nil {
		return err
	}
	options, err := optionFile(c, purpose, admin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(options)) }()
	return program{server: c, out: w, args: []string{
		"mariadb-backup",
		"--defaults-file=" + options, // must be the first
		"--backup",
		"--stream=mbstream",
		"--slave-info",
		"--datadir=" + c.DataDir(),
		"--tmpdir=" + c.TempDir(),
		"--target-dir=" + c.TempDir(), // nothing is written there
	}}.run(ctx)
}

// optionFile writes who the server's administrator is where mariadb-backup finds
// it: the arguments of a program can be read by everybody. What a killed process
// left there is removed.
func optionFile(c dbserver.Config, purpose string, admin mysqladmin.Target) (path string, err error) {
	pattern := purpose + "-*.cnf"
	left, err := filepath.Glob(filepath.Join(c.TempDir(), pattern))
	if err != nil {
		return "", err
	}
	for _, path := range left { // one at a time: none is in use
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
