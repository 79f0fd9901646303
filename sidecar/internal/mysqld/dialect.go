package mysqld

import (
	"context"
	"strconv"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// dialect is how a flavor of server is told and asked what the tasks need. One
// contract test holds for all of them.
type dialect struct {
	// arguments are those of the program beside what dbserver gives: replication that
	// loses nothing. master: the server keeps all that its binlog has, when it
	// recovers from a crash; else it gives up what no engine has committed. semiSync:
	// commits wait for acknowledgements from the start.
	arguments func(master, semiSync bool) []string
	facts     func(context.Context, *mysqladmin.Conn) (facts, error)
	// compare compares the history of a server with that of its source, which is asked
	// earlier and later: what the server has, the source has later, or it is errant;
	// what the source had, the server has as far as it says that it is, or it is missing.
	// earlier is what the source had at the comparison before; empty if that was with
	// another one.
	compare func(ctx context.Context, own, source *mysqladmin.Conn, earlier string) (comparison, error)

	readOnly, writable []string
	// freeze lets nobody write, administrators included, until thaw or the end of the
	// connection; empty if readOnly is enough for that.
	// release ends the waits for acknowledgements of clients that were sent away;
	// empty if sending them away does.
	release                     []string
	freeze, thaw                []string
	startReceiver, stopReceiver string
	startApplier, stopApplier   string
	startBoth, stopBoth         string
	forget                      string // of the source
	semiSync, acknowledge       func(on bool) string
	adoptOwn                    func(executed gtid.Position) []string // makes what the server wrote itself part of the position that it follows from
	changeSource                func(host, port, user, password string) string
	changeServer                func(host, port, user, password string) string // the same while the applier runs; nil if that cannot be
	// waiting is a status variable of a source: how many sessions wait for
	// acknowledgements. isReceived tells whether the place up to which the channel says
	// that it has received is one in the source's binlog, and no later one.
	waiting    string
	isReceived func(ctx context.Context, source *mysqladmin.Conn, f facts) (bool, error)

	receivers  string                    // query: whose ids are in column server_id
	serverID   string                    // that column
	clients    string                    // query: id, user, command of each connection
	open       string                    // query: columns n, idle
	binlogTool string                    // the program that writes binlog files as SQL
	errantOnly func(comparison) []string // its arguments for what is errant in them
}

// dialects are those that are known.
var dialects = map[farm.Flavor]dialect{
	farm.MariaDB: mariaDB,
	farm.MySQL:   mySQL,
}

// facts are what a server says of itself that tasks go by.
type facts struct {
	readOnly bool
	executed gtid.Position
	// received is executed and what the receiver has got that is not lost.
	received gtid.Position
	// lost: something was received and will not be applied, because both threads have
	// stopped.
	lost bool
	// semiSync: commits wait for acknowledgements. acknowledges: what is received is
	// acknowledged, as the receiver has agreed with its source.
	semiSync, acknowledges bool
	channel                *mysqladmin.Channel // nil if it follows nobody
	// own: the server has written transactions that are not part of the position that
	// it would follow from.
	own bool
}

// comparison is how a server's history differs from its source's.
type comparison struct {
	// Errant is a position or set: what the source has not. Empty for nothing.
	Errant string `json:"errant,omitempty"`
	// After is the position from which on that is to be looked for; MariaDB's.
	After string `json:"after,omitempty"`
	// missing is what the server lacks below the position that it has executed; see
	// cluster.Report.
	missing   string
	unsure    bool // nothing can be said of that
	sourceHas gtid.Position
	seen      string // earlier for the next comparison
}

func (f facts) receiving() bool { return f.channel != nil && f.channel.Receiver != "No" }
func (f facts) applying() bool  { return f.channel != nil && f.channel.Applier == "Yes" }

// drained: all that was received is applied.
func (f facts) drained() bool { return f.executed.Contains(f.received) }

func onOff(on bool) string {
	if on {
		return "ON"
	}
	return "OFF"
}

func isOn(v string) bool { return v == "1" || strings.EqualFold(v, "ON") }

// quote makes a literal of a text.
func quote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}

func ids(rows []mysqladmin.Row, column string) []uint32 {
	var all []uint32
	for _, row := range rows {
		if id, err := strconv.ParseUint(row.String(column), 10, 32); err == nil {
			all = append(all, uint32(id))
		}
	}
	return all
}
