package farmtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
)

// Server is one server of a test's farm. It keeps its address, port, socket
// and data over Kill9, Stop and Restart.
type Server struct {
	name    string
	inst    dbserver.Install
	config  dbserver.Config
	follows bool

	mu      sync.Mutex
	process *dbserver.Server // the last one started; nil before
}

func (s *Server) running() *dbserver.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

func (s *Server) start(ctx context.Context) error {
	p, err := dbserver.Start(ctx, s.inst, s.config)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = p
	return nil
}

// Name is "primary" or "replicaN", N from 1.
func (s *Server) Name() string { return s.name }

// Addr is the server's host:port.
func (s *Server) Addr() string { return s.config.Addr() }

func (s *Server) address() netip.AddrPort {
	return netip.AddrPortFrom(s.config.Address, s.config.Port)
}

// Config says how the server runs.
func (s *Server) Config() dbserver.Config { return s.config }

// Socket is the path of the server's unix socket.
func (s *Server) Socket() string { return s.config.Socket }

// ServerID is the server's replication id, @@server_id.
func (s *Server) ServerID() uint32 { return s.config.ServerID }

// Flavor is whose server it is.
func (s *Server) Flavor() farm.Flavor { return s.inst.Flavor }

// Describe is the server as a topology names it.
func (s *Server) Describe() farm.Server {
	return farm.Server{Name: s.name, Address: s.Addr()}
}

// Alive says whether the server's process runs.
func (s *Server) Alive() bool {
	p := s.running()
	if p == nil {
		return false
	}
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}

// Kill9 ends the server with SIGKILL and returns when it is gone.
func (s *Server) Kill9(t testing.TB) {
	t.Helper()
	if !s.Alive() {
		t.Fatalf("farmtest: kill %s: it does not run", s.name)
	}
	s.running().Kill()
}

// Stop shuts the server down cleanly.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := limit()
	defer cancel()
	if err := s.running().Stop(ctx); err != nil {
		t.Fatalf("farmtest: stop %s: %v", s.name, err)
	}
}

// Restart starts the server again, stopping it first if it runs; a replica
// goes on replicating. It returns when the server answers.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if s.Alive() {
		s.Stop(t)
	}
	ctx, cancel := limit()
	defer cancel()
	if err := s.start(ctx); err != nil {
		t.Fatalf("farmtest: restart %s: %v", s.name, err)
	}
	if s.follows {
		s.StartReplication(t)
	}
}

// Pause stops the process with SIGSTOP: connections stay open, nothing
// answers. Continue ends it; so does the test's end.
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
	// The threads stop one by one.
	Eventually(t, s.name+" stands still", func() error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.running().PID()))
		if err != nil {
			return err
		}
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			if err != nil {
				continue // the thread has ended
			}
			// The name, in parentheses, may hold anything; the state follows it.
			if _, rest, ok := strings.Cut(string(text), ") "); !ok || !strings.HasPrefix(rest, "T") {
				return fmt.Errorf("%s: %s", task, text)
			}
		}
		return nil
	})
}

// Continue ends Pause.
func (s *Server) Continue(t testing.TB) { s.signal(t, syscall.SIGCONT) }

func (s *Server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if !s.running().Signal(sig) {
		t.Fatalf("farmtest: send %v to %s: it does not run", sig, s.name)
	}
}

// Admin opens the server as root over its socket. The handle is closed when
// the test ends.
func (s *Server) Admin(t testing.TB) *sql.DB {
	t.Helper()
	admin := s.running().Admin()
	return openIn(t, admin.Network, admin.Address, dbserver.Account{User: admin.User, Password: admin.Password}, "")
}

// Open opens the server over TCP as an account of the application's schema.
// The handle is closed when the test ends.
func (s *Server) Open(t testing.TB, a dbserver.Account) *sql.DB {
	t.Helper()
	return Open(t, "tcp", s.Addr(), a)
}

// Open opens anything that speaks the protocol, such as a proxy: network is
// "tcp" or "unix". The schema is Schema. The handle is closed when the test
// ends.
func Open(t testing.TB, network, address string, a dbserver.Account) *sql.DB {
	t.Helper()
	return openIn(t, network, address, a, Schema)
}

// OpenSchemaless is Open without a schema, for accounts that may not use it.
func OpenSchemaless(t testing.TB, network, address string, a dbserver.Account) *sql.DB {
	t.Helper()
	return openIn(t, network, address, a, "")
}

func openIn(t testing.TB, network, address string, a dbserver.Account, schema string) *sql.DB {
	t.Helper()
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd = network, address, a.User, a.Password
	c.DBName = schema
	c.Timeout = 10 * time.Second
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatalf("farmtest: open %s: %v", address, err)
	}
	return closedWith(t, sql.OpenDB(connector))
}

func closedWith(t testing.TB, db *sql.DB) *sql.DB {
	// The server may be gone by then, which closing reports.
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Exec runs statements as administrator.
func (s *Server) Exec(t testing.TB, statements ...string) {
	t.Helper()
	ctx, cancel := limit()
	defer cancel()
	if err := s.running().Exec(ctx, statements...); err != nil {
		t.Fatalf("farmtest: %s: %v", s.name, err)
	}
}

// Query runs a query as administrator and returns its rows.
func (s *Server) Query(t testing.TB, query string) []mysqladmin.Row {
	t.Helper()
	ctx, cancel := limit()
	defer cancel()
	rows, err := s.running().Query(ctx, query)
	if err != nil {
		t.Fatalf("farmtest: %s: %v", s.name, err)
	}
	return rows
}

// SetDelay holds a replica's applier back by delay, in whole seconds.
func (s *Server) SetDelay(t testing.TB, delay time.Duration) {
	t.Helper()
	ctx, cancel := limit()
	defer cancel()
	err := s.running().SetDelay(ctx, delay)
	if err == nil {
		err = s.running().AwaitFollowing(ctx)
	}
	if err != nil {
		t.Fatalf("farmtest: delay %s: %v", s.name, err)
	}
}

// StopReplication halts a replica's receiver and applier.
func (s *Server) StopReplication(t testing.TB) {
	t.Helper()
	if s.Flavor() == farm.MySQL {
		s.Exec(t, "STOP REPLICA")
		return
	}
	s.Exec(t, "STOP SLAVE")
}

// StartReplication ends StopReplication and returns when both threads run.
func (s *Server) StartReplication(t testing.TB) {
	t.Helper()
	ctx, cancel := limit()
	defer cancel()
	err := s.running().Resume(ctx)
	if err == nil {
		err = s.running().AwaitFollowing(ctx)
	}
	if err != nil {
		t.Fatalf("farmtest: start replication on %s: %v", s.name, err)
	}
}

// Position is the GTID position of all that the server has committed, in the
// flavor's own text form.
func (s *Server) Position(t testing.TB) string {
	t.Helper()
	query := "SELECT @@gtid_current_pos AS position"
	if s.Flavor() == farm.MySQL {
		query = "SELECT @@gtid_executed AS position"
	}
	return s.Query(t, query)[0].String("position")
}

// WaitPosition returns when a replica has applied a position.
func (s *Server) WaitPosition(t testing.TB, position string) {
	t.Helper()
	const seconds = 25 // less than a control statement's own limit
	query := fmt.Sprintf("SELECT MASTER_GTID_WAIT('%s', %d) AS outcome", position, seconds)
	if s.Flavor() == farm.MySQL {
		query = fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', %d) AS outcome", position, seconds)
	}
	if outcome := s.Query(t, query)[0].String("outcome"); outcome != "0" {
		t.Fatalf("farmtest: %s did not reach %s within %d s", s.name, position, seconds)
	}
}

// Counter is a counter of SHOW GLOBAL STATUS, such as Com_select.
func (s *Server) Counter(t testing.TB, name string) int64 {
	t.Helper()
	rows := s.Query(t, "SHOW GLOBAL STATUS LIKE '"+name+"'")
	if len(rows) != 1 {
		t.Fatalf("farmtest: %s has no status counter %s", s.name, name)
	}
	value, err := strconv.ParseInt(rows[0].String("Value"), 10, 64)
	if err != nil {
		t.Fatalf("farmtest: %s: status counter %s: %v", s.name, name, err)
	}
	return value
}

// OwnEvents lists the transactions in the server's binlogs that it took
// itself rather than from a primary: on a replica each is a misrouted write.
func (s *Server) OwnEvents(t testing.TB) []string {
	t.Helper()
	own := strconv.FormatUint(uint64(s.ServerID()), 10)
	// The logs may be long; the GTIDs say at once that there is none.
	if s.Flavor() == farm.MariaDB {
		if !strings.Contains(s.Query(t, "SELECT @@gtid_binlog_state AS state")[0].String("state"), "-"+own+"-") {
			return nil
		}
	} else if row := s.Query(t, "SELECT @@gtid_executed AS state, @@server_uuid AS own")[0]; !strings.Contains(row.String("state"), row.String("own")) {
		return nil
	}
	var found []string
	for _, log := range s.Query(t, "SHOW BINARY LOGS") {
		name := log.String("Log_name")
		for _, event := range s.Query(t, "SHOW BINLOG EVENTS IN '"+name+"'") {
			// Every transaction begins with a Gtid event; the logs' own headers
			// carry the server's id too and mean nothing.
			if event.String("Server_id") == own && strings.HasSuffix(event.String("Event_type"), "Gtid") {
				found = append(found, fmt.Sprintf("%s %s:%s %s", s.name, name, event.String("Pos"), event.String("Info")))
			}
		}
	}
	return found
}

// CheckNoOwnEvents fails the test when a replica that runs took a transaction
// of its own.
func (f *Farm) CheckNoOwnEvents(t testing.TB) {
	t.Helper()
	for _, s := range f.Replicas() {
		if !s.Alive() {
			continue
		}
		if own := s.OwnEvents(t); len(own) > 0 {
			t.Error(errors.New("farmtest: a replica was written to: " + strings.Join(own, "; ")))
		}
	}
}

func limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), startLimit)
}
