package drill_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// transaction is one of a binlog.
type transaction struct {
	id       string // its GTID
	position string // with all before it
	at       time.Time
	line     string // of the ledger; empty: none

	domain, server uint32 // MariaDB's
	number         uint64
}

// flavorMake is what the tests need to know of a flavor.
type flavorMake struct {
	// writer is by what its transactions are named, if that is its own.
	writer func(*testing.T, *farmtest.Server) string
	// made are statements that make a table of a query's outcome.
	made []string
	// tool reads binlog files, with options; read takes in a line of what it says.
	tool    func(*testing.T) []string
	options []string
	read    func(line string, all *[]transaction) error
	// knows checks what restored data knows of its history.
	knows func(ctx context.Context, t *testing.T, conn *mysqladmin.Conn, want []transaction) error
}

var makes = map[farm.Flavor]flavorMake{
	farm.MariaDB: {
		writer: func(*testing.T, *farmtest.Server) string { return "" },
		made:   []string{"CREATE OR REPLACE TABLE made AS SELECT seq FROM seq_1_to_5"},
		tool: func(t *testing.T) []string {
			program, err := exec.LookPath("mariadb-binlog")
			if err != nil {
				t.Skipf("needs mariadb-binlog: %v", err)
			}
			return []string{program}
		},
		options: []string{"--no-defaults", "--skip-gtid-strict-mode"},
		read:    readMariaDB,
		knows:   knowsMariaDB,
	},
	farm.MySQL: {
		writer: func(t *testing.T, s *farmtest.Server) string {
			return s.Query(t, "SELECT @@GLOBAL.server_uuid AS v")[0].String("v")
		},
		made: []string{"DROP TABLE IF EXISTS made", "CREATE TABLE made AS SELECT * FROM ledger LIMIT 5"},
		tool: func(t *testing.T) []string {
			tool, err := farmtest.Need(t, farm.MySQL).Tool("mysqlbinlog")
			if err != nil {
				t.Skip(err)
			}
			return tool
		},
		options: []string{"--no-defaults", "--verbose", "--base64-output=decode-rows"},
		read:    readMySQL,
		knows:   knowsMySQL,
	},
}

var (
	gtidLine = regexp.MustCompile(`^#(\d{6}) +(\d+:\d\d:\d\d) server id \d+ .*\tGTID (\d+)-(\d+)-(\d+)`)
	ledgers  = regexp.MustCompile(`INSERT INTO ledger VALUES \('([^']+)'\)`)
)

func readMariaDB(line string, all *[]transaction) error {
	if m := gtidLine.FindStringSubmatch(line); m != nil {
		at, err := time.Parse("060102 15:04:05", m[1]+" "+m[2])
		if err != nil {
			return err
		}
		domain, _ := strconv.ParseUint(m[3], 10, 32) // the pattern has digits only
		server, _ := strconv.ParseUint(m[4], 10, 32)
		number, _ := strconv.ParseUint(m[5], 10, 64)
		*all = append(*all, transaction{
			id: fmt.Sprintf("%d-%d-%d", domain, server, number), at: at, domain: uint32(domain), server: uint32(server), number: number,
		})
	} else if m := ledgers.FindStringSubmatch(line); m != nil {
		(*all)[len(*all)-1].line = m[1]
	}
	return nil
}

func knowsMariaDB(ctx context.Context, t *testing.T, conn *mysqladmin.Conn, want []transaction) error {
	rows, err := conn.Query(ctx, "SELECT @@gtid_slave_pos AS position, @@gtid_binlog_state AS state")
	if err != nil {
		return err
	}
	if p := rows[0].String("position"); p != want[len(want)-1].position {
		t.Errorf("the data says it is at %s, and it is to be at %s", p, want[len(want)-1].position)
	}
	wrote := gtid.Streams{} // what others have who are to follow it
	for _, x := range want {
		wrote[gtid.Stream{Domain: x.domain, Server: x.server}] = x.number
	}
	if state := rows[0].String("state"); state != wrote.String() {
		t.Errorf("the data says that it is of %s, and it is of %s", state, wrote)
	}
	return nil
}

var (
	committed = regexp.MustCompile(`\toriginal_committed_timestamp=(\d+)\t`)
	gtidNext  = regexp.MustCompile(`^SET @@SESSION\.GTID_NEXT= '([0-9a-f-]{36}:[0-9a-z_:]+)'`)
	into      = regexp.MustCompile("^### INSERT INTO `app`\\.`([a-z]+)`")
	firstRow  = regexp.MustCompile(`^###   @1='([^']+)'`)
)

// readMySQL: the time comes first, and the row after the table.
func readMySQL(line string, all *[]transaction) error {
	last := func() *transaction { return &(*all)[len(*all)-1] }
	if m := committed.FindStringSubmatch(line); m != nil {
		micros, err := strconv.ParseInt(m[1], 10, 64)
		*all = append(*all, transaction{at: time.UnixMicro(micros).UTC()})
		return err
	}
	if m := gtidNext.FindStringSubmatch(line); m != nil {
		if len(*all) == 0 || last().id != "" {
			return errors.New("a transaction without a time: " + line)
		}
		last().id = m[1]
	} else if m := into.FindStringSubmatch(line); m != nil && m[1] == "ledger" {
		last().line = "?"
	} else if m := firstRow.FindStringSubmatch(line); m != nil && last().line == "?" {
		last().line = m[1]
	}
	return nil
}

func knowsMySQL(ctx context.Context, t *testing.T, conn *mysqladmin.Conn, want []transaction) error {
	rows, err := conn.Query(ctx, "SELECT @@GLOBAL.gtid_executed AS position")
	if err != nil {
		return err
	}
	if p := position(t, rows[0].String("position")); p.String() != want[len(want)-1].position {
		t.Errorf("the data says it is at %s, and it is to be at %s", p, want[len(want)-1].position)
	}
	return nil
}
