package mariabackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"

	"farmhand/internal/dbserver"
	"farmhand/internal/dbtool"
	"farmhand/internal/mysqladmin"
)

// DumpTool names what makes dumps.
const DumpTool = "mariadb-dump"

// DumpReady says what is missing on this machine to make dumps and to load them.
func DumpReady() error {
	for _, name := range []string{DumpTool, "mariadb"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%w (Debian package mariadb-client)", err)
		}
	}
	return nil
}

// Dump writes statements to w that make all that applications have in the server
// that runs in c, as it was at a moment: the accounts first, as they are at the beginning,
// then the schemas as of position. Tables of other engines than InnoDB are as they are
// when it comes to them.
func Dump(ctx context.Context, c dbserver.Config, w io.Writer) (position string, err error) {
	admin, err := c.Admin()
	if err != nil {
		return "", err
	}
	options, err := dbtool.OptionFile(c, "dump", "client", admin)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.Remove(options)) }()
	// What is there already is the new server's own.
	if err := (dbtool.Program{Server: c, Out: w, Args: []string{DumpTool, "--defaults-file=" + options, "--system=users", "--insert-ignore"}}).Run(ctx); err != nil {
		return "", err
	}
	head := &binlogPlace{to: w, found: func(file string, offset uint64) error {
		position, err = positionAt(ctx, admin, file, offset)
		return err
	}}
	err = dbtool.Program{Server: c, Out: head, Args: []string{
		DumpTool, "--defaults-file=" + options, "--single-transaction", "--master-data=2", "--gtid", "--quick", "--hex-blob",
		"--routines", "--events", "--triggers", "--all-databases", "--ignore-database=mysql", "--ignore-database=sys",
	}}.Run(ctx)
	if err == nil && !head.done {
		err = fmt.Errorf("the dump does not say where in the binlog it is (has the server a binlog?)")
	}
	return position, err
}

// positionAt is the GTID position at a place of the server's binlog.
func positionAt(ctx context.Context, admin mysqladmin.Target, file string, offset uint64) (position string, err error) {
	conn, err := mysqladmin.Dial(ctx, admin)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	p, err := conn.GTIDAt(ctx, file, offset)
	if err != nil {
		return "", fmt.Errorf("the position of the dump: %w", err)
	}
	return p.String(), nil
}

// binlogPlace passes a dump on and finds in its head where in the server's binlog it
// is. What comes later in a dump can be anybody's.
type binlogPlace struct {
	to    io.Writer
	found func(file string, offset uint64) error
	head  []byte
	done  bool
}

var changeMaster = regexp.MustCompile(`(?m)^-- CHANGE MASTER TO MASTER_LOG_FILE='([^']+)', MASTER_LOG_POS=(\d+);$`)

// dumpHead is the end of a dump's head.
var dumpHead = []byte("\n-- Current Database:")

func (p *binlogPlace) Write(b []byte) (int, error) {
	if !p.done {
		p.head = append(p.head, b...)
		head, _, whole := bytes.Cut(p.head, dumpHead)
		if whole || len(p.head) > 1<<20 {
			m := changeMaster.FindSubmatch(head)
			if m == nil {
				return 0, errors.New("the dump does not say where in the binlog it is (has the server a binlog?)")
			}
			offset, err := strconv.ParseUint(string(m[2]), 10, 64)
			if err == nil {
				err = p.found(string(m[1]), offset)
			}
			if err != nil {
				return 0, err
			}
			p.done, p.head = true, nil
		}
	}
	return p.to.Write(b)
}

// Load has the server that runs in c, whose socket is socket, execute what Dump wrote.
// Nothing of it is logged.
func Load(ctx context.Context, c dbserver.Config, socket string, r io.Reader) error {
	return dbtool.Load(ctx, c, socket, "mariadb", []string{"mariadb"}, r)
}
