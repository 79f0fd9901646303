package semantics

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"farmhand/internal/farmtest"
)

// entry is what a client's connection told a server.
type entry struct {
	server  string
	thread  string
	command string // "Query", "Execute", "Init DB" …
	text    string
	user    string // who logged in with the connection
}

// generalLog reads a server's general log, which has every command before it is
// run.
type generalLog struct {
	server string
	file   *os.File
	users  map[string]string // of the threads that logged in, which the applier has not
}

func openLog(t testing.TB, s *farmtest.Server) *generalLog {
	t.Helper()
	row := s.Query(t, "SELECT @@datadir AS dir, @@general_log_file AS file")[0]
	path := row.String("file")
	if !strings.HasPrefix(path, "/") {
		path = row.String("dir") + path
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &generalLog{server: s.Name(), file: f, users: map[string]string{}}
}

// The line on which an entry begins: a time, which MariaDB leaves out where it
// is the last entry's, the thread, the command, its text.
var entryStart = regexp.MustCompile(`^(?:\d{6} [ \d]\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.]+\S*)?\t+ *(\d+) ` +
	`(Connect Out|Connect|Query|Quit|Init DB|Field List|Prepare|Execute|Close stmt|Long Data|Reset stmt|Fetch|Reset connection|` +
	`Ping|Statistics|Change user|Kill|Debug|Set option|Binlog Dump GTID|Binlog Dump|Processlist|Refresh|Create DB|Drop DB|Bulk_execute|Register Slave|Register Replica|Table Dump|Shutdown|Time|Delayed insert|Daemon|Error|Slave_worker|Slave_IO|Slave_SQL|Unimpl get tid)(?:\t|$)`)

// since returns what clients said since it was asked last.
func (l *generalLog) since(t testing.TB) []entry {
	t.Helper()
	b, err := io.ReadAll(l.file)
	if err != nil {
		t.Fatal(err)
	}
	var entries []entry
	add := func(e entry) {
		if e.command == "Connect" { // or "Access denied for user …"
			if user, _, ok := strings.Cut(e.text, "@"); ok && !strings.Contains(user, " ") {
				l.users[e.thread] = user
			}
		}
		if e.user = l.users[e.thread]; e.user != "" && e.user != farmtest.Monitor.User && e.user != "root" {
			entries = append(entries, e)
		}
	}
	// A text may have many lines, and long ones: only their heads are looked at.
	const headSize = 100
	open, begun := entry{}, false
	for line := range bytes.Lines(b) {
		m := entryStart.FindSubmatchIndex(bytes.TrimSuffix(line[:min(len(line), headSize)], []byte("\n")))
		if m == nil {
			open.text += string(line)
			continue
		}
		if begun {
			add(open)
		}
		open, begun = entry{server: l.server, thread: string(line[m[2]:m[3]]), command: string(line[m[4]:m[5]]), text: string(line[m[1]:])}, true
	}
	if begun {
		add(open)
	}
	return entries
}

// since returns what clients said to the farm's servers since it was asked last.
func (w *world) since(t testing.TB) []entry {
	t.Helper()
	var all []entry
	for _, s := range w.farm.Servers() {
		all = append(all, w.logs[s.Name()].since(t)...)
	}
	return all
}
