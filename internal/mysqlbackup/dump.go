package mysqlbackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"farmhand/internal/dbserver"
	"farmhand/internal/dbtool"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// DumpTool names what makes dumps.
const DumpTool = "mysqldump"

// DumpReady says what is missing to make dumps, LoadReady what is to load them.
func DumpReady(inst dbserver.Install) error { return toolReady(inst, DumpTool) }

// LoadReady is described with DumpReady.
func LoadReady(inst dbserver.Install) error { return toolReady(inst, "mysql") }

func toolReady(inst dbserver.Install, name string) error {
	_, err := inst.Tool(name)
	return err
}

// Dump writes statements to w that make all that applications have in the server that runs
// in c, as it was at a moment: the accounts first, as they are at the beginning, then the
// schemas as of position. Tables of other engines than InnoDB are as they are when it
// comes to them.
func Dump(ctx context.Context, inst dbserver.Install, c dbserver.Config, w io.Writer) (position string, err error) {
	admin, err := c.Admin()
	if err != nil {
		return "", err
	}
	options, err := dbtool.OptionFile(c, "dump", "client", admin)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.Remove(options)) }()
	before, err := schemas(ctx, admin)
	if err != nil {
		return "", err
	}
	if len(before) == 0 {
		return "", errors.New("there is no schema of an application to dump")
	}
	if err := accounts(ctx, admin, w); err != nil {
		return "", err
	}
	command, err := inst.Tool(DumpTool)
	if err != nil {
		return "", err
	}
	command = append(command,
		"--defaults-file="+options, // must be the first
		// The place in the binlog is asked for so that the position is that of the snapshot:
		// then nothing is committed between them.
		"--single-transaction", "--source-data=2", "--set-gtid-purged=COMMENTED",
		"--quick", "--hex-blob", "--routines", "--events", "--triggers", "--max-allowed-packet=1G", "--databases")
	head := &dumpHead{to: w}
	if err := (dbtool.Program{Server: c, Name: DumpTool, Out: head, Args: append(command, before...)}).Run(ctx); err != nil {
		return "", err
	}
	after, err := schemas(ctx, admin)
	if err != nil {
		return "", err
	}
	if strings.Join(before, "/") != strings.Join(after, "/") {
		return "", fmt.Errorf("schemas were made or removed while the dump was made (%v, then %v); take it again", before, after)
	}
	return head.position()
}

// schemas are those of applications.
func schemas(ctx context.Context, admin mysqladmin.Target) (names []string, err error) {
	conn, err := mysqladmin.Dial(ctx, admin)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	rows, err := conn.Query(ctx, "SELECT SCHEMA_NAME AS n FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY 1")
	if err != nil {
		return nil, fmt.Errorf("list the schemas: %w", err)
	}
	for _, row := range rows {
		names = append(names, row.String("n"))
	}
	return names, nil
}

// dumpHead passes a dump on and keeps its head, in which the position is.
type dumpHead struct {
	to   io.Writer
	head []byte
}

// headSize is how much of a dump the head is in: a set can be long.
const headSize = 1 << 20

func (d *dumpHead) Write(b []byte) (int, error) {
	if n := headSize - len(d.head); n > 0 {
		d.head = append(d.head, b[:min(n, len(b))]...)
	}
	return d.to.Write(b)
}

var purged = regexp.MustCompile(`SET @@GLOBAL\.GTID_PURGED=(?:/\*!80000 '\+'\*/ ?)?'\+?([0-9a-zA-Z:,_\-\s]*)';`)

func (d *dumpHead) position() (string, error) {
	head, _, _ := bytes.Cut(d.head, []byte("\n-- Current Database:")) // what comes later can be anybody's
	m := purged.FindSubmatch(head)
	if m == nil {
		return "", errors.New("the dump does not say what transactions it holds")
	}
	p, err := gtid.Parse(farm.MySQL, string(m[1]))
	return p.String(), err
}

// Load has the server that runs in c, whose socket is socket, execute what Dump wrote.
// Nothing of it is logged.
func Load(ctx context.Context, inst dbserver.Install, c dbserver.Config, socket string, r io.Reader) error {
	client, err := inst.Tool("mysql")
	if err != nil {
		return err
	}
	return dbtool.Load(ctx, c, socket, "mysql", client, r)
}
