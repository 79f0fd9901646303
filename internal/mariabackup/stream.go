package mariabackup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"farmhand/internal/dbserver"
	"farmhand/internal/dbtool"
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
	options, err := dbtool.OptionFile(c, purpose, "mariadb-backup", admin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(options)) }()
	return dbtool.Program{Server: c, Out: w, Args: []string{
		"mariadb-backup",
		"--defaults-file=" + options, // must be the first
		"--backup",
		"--stream=mbstream",
		"--slave-info",
		"--datadir=" + c.DataDir(),
		"--tmpdir=" + c.TempDir(),
		"--target-dir=" + c.TempDir(), // nothing is written there
	}}.Run(ctx)
}
