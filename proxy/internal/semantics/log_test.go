package semantics

import (
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
}

// generalLog reads a server's general log, which has every command before it is
// run.
type generalLog struct {
	server  string
	file    *os.File
	clients map[string]bool // threads that logged in, other than the monitor's: the applier has not
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
	return &generalLog{server: s.Name(), file: f, clients: map[string]bool{}}
}

// The line on which an entry begins: a time, which MariaDB leaves out where it
// is the last entry's, the thread, the command, its text.
var entryStart = regexp.MustCompile(`(?m)^(?:\d{6} [ \d]\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.]+\S*)?\t+ *(\d+) ` +
	`(Connect Out|Connect|Query|Quit|Init DB|Field List|Prepare|Execute|Close stmt|Long Data|Reset stmt|Fetch|Reset connection|` +
	`Ping|Statistics|Change user|Kill|Debug|Set option|Binlog Dump GTID|Binlog Dump|Processlist|Refresh|Create DB|Drop DB|Bulk_execute|Register Slave|Register Replica|Table Dump|Shutdown|Time|Delayed insert|Daemon|Error|Slave_worker|Slave_IO|Slave_SQL|Unimpl get tid)(?:\t|$)`)

// since returns what clients said since it was asked last.
func (l *generalLog) since(t testing.TB) []entry {
	t.Helper()
	b, err := io.ReadAll(l.file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	starts := entryStart.FindAllStringSubmatchIndex(text, -1)
	var entries []entry
	for i, s := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		e := entry{l.server, text[s[2]:s[3]], text[s[4]:s[5]], strings.TrimSuffix(text[s[1]:end], "\n")}
		if e.command == "Connect" {
			l.clients[e.thread] = !strings.HasPrefix(e.text, farmtest.Monitor.User+"@") && !strings.HasPrefix(e.text, "root@")
		}
		if l.clients[e.thread] {
			entries = append(entries, e)
		}
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
