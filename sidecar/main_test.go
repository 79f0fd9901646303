package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/testscript"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/report"
)

// asSidecar makes the test binary the sidecar.
const asSidecar = "FARMHAND_TEST_SIDECAR"

func TestMain(m *testing.M) {
	farmtest.BeWriters()
	if os.Getenv(asSidecar) != "" {
		main()
		os.Exit(0)
	}
	end := func() error {
		if programs == "" {
			return nil
		}
		return os.RemoveAll(programs)
	}
	testscript.Main(farmtest.Leakless{M: m, End: end}, map[string]func(){"sidecar": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// limit is how long anything may take here.
const limit = 2 * time.Minute

// node is a configuration and the sidecar that runs it.
type node struct {
	dir, address, socket, config string

	cmd     *exec.Cmd
	reports chan report.Report // closed at the end of its output
}

// newNode writes the configuration of a node that follows another, or of a
// primary.
func newNode(t *testing.T, flavor farm.Flavor, name string, id int, follow *node) *node {
	t.Helper()
	farmtest.Need(t, flavor)
	dir := farmtest.ShortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	n := &node{dir: dir, address: farmtest.FreePort(t).String(), socket: filepath.Join(dir, "mysql", "s.sock"), config: filepath.Join(dir, "sidecar.yaml")}
	secret := func(who string) string {
		path := filepath.Join(dir, who+".password")
		if err := os.WriteFile(path, []byte(who+"'s \\secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	type m = map[string]any
	mysql := m{
		"flavor": strings.ToLower(flavor.String()), "program_root": programRoot(flavor),
		"directory": filepath.Join(dir, "mysql"), "listen": n.address, "socket": n.socket, "server_id": id, "buffer_pool": "32MiB",
		"accounts": m{
			"replication": m{"password_file": secret("replication")},
			"monitor":     m{"password_file": secret("monitor")},
			"application": m{"user": "app", "password_file": secret("app"), "schema": "app"},
		},
	}
	if follow != nil {
		mysql["follow"] = follow.address
	}
	text, err := yaml.Marshal(m{"role": "mysql", "name": name, "mysql": mysql})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.config, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return n
}

// programRoot finds an unpacked MySQL as farmtest does.
func programRoot(flavor farm.Flavor) string {
	if flavor != farm.MySQL {
		return ""
	}
	return farmtest.MySQLRoot()
}

func (n *node) start(t *testing.T) {
	t.Helper()
	n.cmd = exec.Command(os.Args[0], "run", n.config)
	n.cmd.Env = append(os.Environ(), asSidecar+"=1")
	log, err := os.Create(filepath.Join(n.dir, "sidecar.log"))
	if err != nil {
		t.Fatal(err)
	}
	// Not the command's own pipes: the output's end is to be seen without Wait.
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	n.cmd.Stdout, n.cmd.Stderr = write, log
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(write.Close(), log.Close()); err != nil {
		t.Fatal(err)
	}
	cmd, reports := n.cmd, make(chan report.Report, 10_000)
	n.reports = reports
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(reports)
		if err := report.Read(read, func(r report.Report) { reports <- r }); err != nil {
			t.Errorf("reports: %v", err)
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // most have ended
		_ = cmd.Wait()
		<-done
		_ = read.Close()
		if text, err := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("log of %s: %v\n%s", n.config, err, text)
		}
	})
}

// await returns the next report that is as wanted.
func (n *node) await(t *testing.T, what string, wanted func(report.Report) bool) report.Report {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var last report.Report
	for {
		select {
		case r, ok := <-n.reports:
			if !ok {
				t.Fatalf("the sidecar ended before it reported %s; last: %+v", what, last)
			}
			if last = r; wanted(r) {
				return r
			}
		case <-timer.C:
			t.Fatalf("no report of %s; last: %+v", what, last)
		}
	}
}

func running(r report.Report) bool { return r.State == report.Running && r.Detail == "" }

func replicating(r report.Report) bool {
	return running(r) && r.Replication != nil && r.Replication.Receiver == "Yes" && r.Replication.Applier == "Yes"
}

// end stops the sidecar and checks that it and its server are gone.
func (n *node) end(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	stopping := n.await(t, "stopping", func(r report.Report) bool { return r.State == report.Stopping })
	n.await(t, "stopped", func(r report.Report) bool { return r.State == report.Stopped })
	if err := syscall.Kill(stopping.PID, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the server %d is there after the sidecar said that it had stopped: %v", stopping.PID, err)
	}
}

func (n *node) query(t *testing.T, sql string) (string, error) {
	t.Helper()
	conn, err := mysqladmin.Dial(t.Context(), mysqladmin.Target{Network: "tcp", Address: n.address, User: "app", Password: `app's \secret`})
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0].String("v"), nil
}

func TestPrimaryAndReplica(t *testing.T) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) {
			primary := newNode(t, flavor, "db1", 1, nil)
			replica := newNode(t, flavor, "db2", 2, primary)
			replica.start(t) // before its primary: it waits for it
			primary.start(t)
			if r := primary.await(t, "a primary", running); r.Role != farm.Primary || r.Address != primary.address || r.Name != "db1" {
				t.Errorf("the primary reports %+v", r)
			}
			if r := replica.await(t, "a replica that follows", replicating); r.Role != farm.Replica || r.Replication.Source != primary.address {
				t.Errorf("the replica reports %+v", r)
			}
			if _, err := primary.query(t, "CREATE TABLE app.t (i INT)"); err != nil {
				t.Fatal(err)
			}
			replica.await(t, "a replica that has caught up", func(report.Report) bool {
				v, err := replica.query(t, "SELECT COUNT(*) AS v FROM information_schema.tables WHERE table_schema='app'")
				return err == nil && v == "1"
			})
			if _, err := replica.query(t, "INSERT INTO app.t VALUES (1)"); mysqladmin.Code(err) != 1290 {
				t.Errorf("a write on the replica: %v, want error 1290 (read-only)", err)
			}
			replica.end(t)
			primary.end(t)
		})
	}
}

func TestServerThatCrashesIsStartedAgain(t *testing.T) {
	n := newNode(t, farm.MariaDB, "db1", 1, nil)
	n.start(t)
	before := n.await(t, "running", running)
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	failed := n.await(t, "failed", func(r report.Report) bool { return r.State == report.Failed })
	if !strings.Contains(failed.Detail, "killed") || !strings.Contains(failed.Detail, "next try in 500ms") {
		t.Errorf("the crash is reported as %q", failed.Detail)
	}
	if after := n.await(t, "running again", running); after.PID == before.PID {
		t.Error("the same process runs again")
	}
	n.end(t)
}

// TestDatabaseServerTellsItsHooks of what becomes of it.
func TestDatabaseServerTellsItsHooks(t *testing.T) {
	n := newNode(t, farm.MariaDB, "db1", 1, nil)
	state, hooks := filepath.Join(n.dir, "state"), filepath.Join(n.dir, "hooks.d")
	config, err := os.OpenFile(n.config, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = fmt.Fprintf(config, "state: %s\nhooks: {directory: %s}\n", state, hooks)
	must(t, errors.Join(err, config.Close()))
	web := webNode{node: *n, hooks: hooks, state: state}
	for _, kind := range []string{"host-up", "host-crash"} {
		web.hook(t, kind, "10-note", `echo "$FARMHAND_EVENT $FARMHAND_HOST $FARMHAND_ROLE $FARMHAND_ADDRESS" >>`+web.path("log"))
	}
	n.start(t)
	before := n.await(t, "running", running)
	must(t, syscall.Kill(before.PID, syscall.SIGKILL))
	n.await(t, "running again", func(r report.Report) bool { return running(r) && r.PID != before.PID })
	about := " db1 primary " + n.address + "\n"
	web.awaitFile(t, "log", "host-up"+about+"host-crash"+about+"host-up"+about)
	n.end(t)
}

func TestSidecarThatIsKilledTakesItsServerAlong(t *testing.T) {
	n := newNode(t, farm.MariaDB, "db1", 1, nil)
	n.start(t)
	pid := n.await(t, "running", running).PID
	server := farmtest.Watch(t, pid)
	if err := n.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	server.AwaitEnd(t)
	n.start(t)
	n.await(t, "running again", running)
	n.end(t)
}

func TestApplicationAccountThatWasDroppedStaysDropped(t *testing.T) {
	n := newNode(t, farm.MariaDB, "db1", 1, nil)
	n.start(t)
	n.await(t, "running", running)
	if v, err := n.query(t, "SELECT CURRENT_USER() AS v"); err != nil || v != "app@%" {
		t.Fatalf("the application is %q, %v", v, err)
	}
	secret, err := os.ReadFile(filepath.Join(n.dir, "mysql", "admin.secret"))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := mysqladmin.Dial(t.Context(), mysqladmin.Target{Network: "unix", Address: n.socket, User: dbserver.AdminUser, Password: string(secret)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(t.Context(), "DROP USER app"); err != nil {
		t.Fatal(err)
	}
	if err := admin.Close(); err != nil {
		t.Fatal(err)
	}
	n.end(t)
	n.start(t)
	n.await(t, "running", running)
	if _, err := n.query(t, "SELECT 1 AS v"); err == nil {
		t.Error("an account that was dropped is back")
	}
	n.end(t)
}

func TestDirectoryIsHeldByOneSidecar(t *testing.T) {
	n := newNode(t, farm.MariaDB, "db1", 1, nil)
	n.start(t)
	n.await(t, "running", running)
	second := *n
	second.start(t)
	// Its output ends without a report.
	if r, ok := <-second.reports; ok {
		t.Errorf("a second sidecar on the same directory reports %+v", r)
	}
	n.end(t)
}
