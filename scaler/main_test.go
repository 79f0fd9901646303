package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/scaler/internal/provider"
)

// asScaler makes the test binary the scaler.
const asScaler = "FARMHAND_TEST_SCALER"

func TestMain(m *testing.M) {
	farmtest.BeWriters()
	if os.Getenv(asScaler) != "" {
		main()
		os.Exit(0)
	}
	// Without the built programs, too.
	end := func() error {
		if built == "" {
			return nil
		}
		return os.RemoveAll(built)
	}
	testscript.Main(farmtest.Leakless{M: m, End: end}, map[string]func(){"scaler": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

var built string // the directory that programs fills

// programs builds the proxy and the sidecar once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "farmtest-programs")
	if err != nil {
		return "", err
	}
	built = dir
	return dir, farmtest.Build(dir, "proxy", "sidecar")
})

// limit is how long anything may take here.
const limit = 2 * time.Minute

// local is a farm's directory and how to run it.
type local struct {
	dir, socket string
	listen      netip.AddrPort
	args        []string

	cmd   *exec.Cmd
	read  *os.File
	lines chan string // of its output; closed at its end
}

func newLocal(t *testing.T) *local {
	t.Helper()
	farmtest.Need(t, farm.MariaDB)
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	dir := farmtest.ShortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l := &local{dir: filepath.Join(dir, "farm"), socket: filepath.Join(dir, "run", "proxy.sock"), listen: farmtest.FreePort(t)}
	servers := farmtest.AddressBlock(40)
	l.args = []string{
		"up", "--local", l.dir, "--programs", bin, "--host", l.listen.Addr().String(), "--port", strconv.Itoa(int(l.listen.Port())),
		"--socket", l.socket, "--admin", farmtest.FreePort(t).String(), "--addresses-from", servers.String(),
		"--control-address", farmtest.Address().String(),
	}
	return l
}

// withRoles has the farm be one of the web node and other roles, as a farm file says them.
func (l *local) withRoles(t *testing.T, roles string) {
	t.Helper()
	l.by(t, fmt.Sprintf(`name: farm
provider: {kind: local, parameters: {directory: %q, first_address: %q}}
roles:
  web: {kind: web, parameters: {proxy: {tcp: %q, unix: %q, admin: %q}}}
%s`, l.dir, l.flag(t, "--addresses-from"), l.listen, l.socket, l.flag(t, "--admin"), roles))
}

// flag is what a flag of the farm has.
func (l *local) flag(t *testing.T, name string) string {
	t.Helper()
	for i, arg := range l.args {
		if arg == name {
			return l.args[i+1]
		}
	}
	t.Fatalf("no %s", name)
	return ""
}

// by has the farm be what a farm file says.
func (l *local) by(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(filepath.Dir(l.dir), "farm.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	l.args = []string{"up", "--local", l.dir, "--programs", l.flag(t, "--programs"), "--file", file, "--control-address", l.flag(t, "--control-address")}
}

func scaler(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asScaler+"=1")
	return cmd
}

func (l *local) start(t *testing.T) {
	t.Helper()
	l.cmd = scaler(l.args...)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l.cmd.Stdout, l.cmd.Stderr = write, write
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	lines, done := make(chan string, 10_000), make(chan struct{})
	var said []string
	go func() {
		defer close(done)
		defer close(lines)
		for scan := bufio.NewScanner(read); scan.Scan(); {
			said = append(said, scan.Text())
			lines <- scan.Text()
		}
	}()
	l.lines, l.read = lines, read
	cmd := l.cmd
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // most have ended
		_ = cmd.Wait()
		if out, err := scaler("down", "--local", l.dir).CombinedOutput(); err != nil {
			t.Errorf("what is left of the farm: %v, %s", err, out)
		}
		<-done
		_ = read.Close()
		if t.Failed() {
			t.Logf("scaler said:\n%s", strings.Join(said, "\n"))
			logs, err := filepath.Glob(filepath.Join(l.dir, "*", "sidecar.log"))
			if err != nil {
				t.Error(err)
			}
			for _, path := range append(logs, filepath.Join(l.dir, "scaler.log")) {
				log, err := os.ReadFile(path)
				t.Logf("%s: %v\n%s", path, err, log[max(0, len(log)-20_000):])
			}
		}
	})
}

// await returns the next line of output that has text in it.
func (l *local) await(t *testing.T, text string) string {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case line, ok := <-l.lines:
			if !ok {
				t.Fatalf("scaler ended without saying %q", text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-timer.C:
			t.Fatalf("scaler does not say %q", text)
		}
	}
}

// node is a part of what status --json says.
type node struct {
	Name, Kind, Address string
	PID                 int // of the sidecar
	Database            *cluster.Report
	Report              *struct{ PID int }
	Size                string `json:"counts_as"`
}

// process is the process id of the node's server or proxy; 0 if there is none.
func (n node) process() int {
	switch {
	case n.Database != nil:
		return n.Database.PID
	case n.Report != nil:
		return n.Report.PID
	}
	return 0
}

type status struct {
	Leads      string
	Assignment *cluster.Assignment
	Nodes      []node
}

func (s status) node(t *testing.T, name string) node {
	t.Helper()
	for _, n := range s.Nodes {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("there is no %s among %+v", name, s.Nodes)
	return node{}
}

func (l *local) status(t *testing.T) status {
	t.Helper()
	var s status
	if err := json.Unmarshal([]byte(output(t, "status", "--local", l.dir, "--json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitStatus returns what status says once it is as wanted.
func (l *local) awaitStatus(t *testing.T, what string, is func(status) bool) (s status) {
	t.Helper()
	farmtest.Eventually(t, what, func() error {
		if s = l.status(t); !is(s) {
			return fmt.Errorf("it is %+v", s)
		}
		return nil
	})
	return s
}

// processes are all that belong to a running farm.
func processes(t *testing.T, s status) []*farmtest.Process {
	t.Helper()
	var list []*farmtest.Process
	for _, n := range s.Nodes {
		for _, pid := range []int{n.PID, n.process()} {
			if pid != 0 {
				list = append(list, farmtest.Watch(t, pid))
			}
		}
	}
	return list
}

func (l *local) wait(t *testing.T) error {
	t.Helper()
	for range l.lines { // to the end of its output
	}
	return l.cmd.Wait()
}

var app = dbserver.Account{User: provider.AppUser, Password: provider.AppUser}

func TestFarmOnOneMachine(t *testing.T) {
	l := newLocal(t)
	l.start(t)
	l.await(t, "farm ready: 1 primary and 2 replicas behind "+l.listen.String()+" and "+l.socket)

	s := l.status(t)
	if s.Leads == "" || len(s.Nodes) != 4 || s.Assignment == nil || s.Assignment.Primary != "db1" {
		t.Errorf("status is %+v", s)
	}
	for _, n := range s.Nodes {
		if n.PID == 0 || n.process() == 0 || (n.Kind == "web") != (n.Name == "web1") {
			t.Errorf("node %+v", n)
		}
	}
	for _, want := range []string{"scaler-1 leads", "primary", "replica", "acknowledged by one of", "DECIDED"} {
		if table := output(t, "status", "--local", l.dir); !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	output(t, "doctor", "--local", l.dir)
	l.page(t, s)

	db := farmtest.Open(t, "unix", l.socket, app)
	if _, err := db.Exec("CREATE TABLE kept (i INT)"); err != nil {
		t.Fatal(err)
	}
	if out, err := scaler(l.args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "a farm runs there already") {
		t.Errorf("a second run in the same directory: %v, %s", err, out)
	}

	// What crashes comes back.
	replica, web := s.node(t, "db2"), s.node(t, "web1")
	if err := syscall.Kill(replica.process(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.awaitStatus(t, "the replica runs again", func(s status) bool {
		n := s.node(t, "db2")
		return n.Database != nil && n.Database.Answers && n.Database.PID != replica.Database.PID
	})
	if err := syscall.Kill(web.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.awaitStatus(t, "the web node's sidecar runs again", func(s status) bool {
		n := s.node(t, "web1")
		return n.PID != 0 && n.PID != web.PID && n.process() != 0
	})
	farmtest.Eventually(t, "the proxy answers", func() error { return db.Ping() })

	s = l.status(t)
	gone := processes(t, s)
	if out, err := scaler("down", "--local", l.dir).CombinedOutput(); err != nil || !strings.Contains(string(out), "farm stopped") {
		t.Errorf("down: %v, %s", err, out)
	}
	if err := l.wait(t); err != nil {
		t.Errorf("a farm that was told to stop ended with %v", err)
	}
	for _, p := range gone {
		p.AwaitEnd(t)
	}

	// The data is there in the next run.
	l.start(t)
	l.await(t, "farm ready")
	var name string
	if err := farmtest.Open(t, "tcp", l.listen.String(), app).QueryRow("SHOW TABLES LIKE 'kept'").Scan(&name); err != nil {
		t.Errorf("the table of the run before: %v", err)
	}
	// Twice: at once.
	gone = processes(t, l.status(t))
	for range 2 {
		if err := l.cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	_ = l.wait(t) // an unclean end may be said to be one
	for _, p := range gone {
		p.AwaitEnd(t)
	}
}

func TestFarmEndsWithItsTerminalButNotWithItsReader(t *testing.T) {
	l := newLocal(t)
	l.start(t)
	l.await(t, "farm ready")
	if err := l.read.Close(); err != nil { // as "| head" does
		t.Fatal(err)
	}
	before := l.status(t).node(t, "db3")
	if err := syscall.Kill(before.process(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s := l.awaitStatus(t, "a replica is back while nobody reads", func(s status) bool {
		n := s.node(t, "db3")
		return n.Database != nil && n.Database.Answers && n.Database.PID != before.Database.PID
	})
	gone := processes(t, s)
	if err := l.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for _, p := range gone {
		p.AwaitEnd(t)
	}
	_ = l.wait(t) // its last line could not be written
}

func TestFarmOfAKilledScalerGoesOn(t *testing.T) {
	farmtest.Long(t)
	l := newLocal(t)
	l.start(t)
	l.await(t, "farm ready")
	before := l.status(t)
	if err := l.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = l.wait(t) // killed
	db := farmtest.Open(t, "tcp", l.listen.String(), app)
	if _, err := db.Exec("CREATE TABLE without_scaler (i INT)"); err != nil {
		t.Errorf("a write while there is no scaler: %v", err)
	}
	if out, err := scaler("status", "--local", l.dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "no scaler runs there") {
		t.Errorf("status without a scaler: %v, %s", err, out)
	}
	// The next one takes over what runs.
	l.start(t)
	l.await(t, "farm ready")
	for _, n := range l.status(t).Nodes {
		if was := before.node(t, n.Name); was.PID != n.PID || was.process() != n.process() {
			t.Errorf("%s was %+v and is %+v", n.Name, was, n)
		}
	}
	// And what a killed one has left is stopped without one.
	gone := processes(t, l.status(t))
	if err := l.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = l.wait(t)
	if out := output(t, "down", "--local", l.dir); !strings.Contains(out, "4 instances stopped") {
		t.Errorf("down: %s", out)
	}
	for _, p := range gone {
		p.AwaitEnd(t)
	}
}

func TestAnotherServerTakesTheWrites(t *testing.T) {
	l := newLocal(t)
	l.start(t)
	l.await(t, "farm ready")
	db := farmtest.Open(t, "tcp", l.listen.String(), app)
	if _, err := db.Exec("CREATE TABLE kept (i INT)"); err != nil {
		t.Fatal(err)
	}
	if out := output(t, "switchover", "--dry-run", "--local", l.dir); !strings.Contains(out, "would ask scaler-1: switchover to the best replica") || !strings.Contains(out, "db1 leads") {
		t.Errorf("switchover --dry-run: %s", out)
	}
	if out, err := scaler("switchover", "--local", l.dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "--yes") {
		t.Errorf("switchover without a person to ask: %v, %s", err, out)
	}
	if out := output(t, "switchover", "--to", "db2", "--yes", "--local", l.dir); !strings.Contains(out, "done: db2 is the primary") {
		t.Errorf("switchover: %s", out)
	}
	if _, err := db.Exec("INSERT INTO kept VALUES (1)"); err != nil {
		t.Error(err)
	}
	s := l.awaitStatus(t, "the cluster is steady", func(s status) bool {
		return s.Assignment.Primary == "db2" && s.Assignment.SemiSync && s.node(t, "db1").Database.Done
	})
	// Its process and its sidecar at once.
	for _, pid := range []int{s.node(t, "db2").PID, s.node(t, "db2").process()} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	l.awaitStatus(t, "another server leads", func(s status) bool { return s.Assignment.Primary != "" && s.Assignment.Primary != "db2" })
	if _, err := db.Exec("INSERT INTO kept VALUES (2)"); err != nil {
		t.Error(err)
	}
	for what, want := range map[string]string{
		"why": "failover", "plan": "role db: 3 there, 3 wanted", "operations": "switchover db2", "events": "new-primary", "logs db1": "task carried out", "apply --dry-run": "nothing changes",
	} {
		if out := output(t, append(strings.Fields(what), "--local", l.dir)...); !strings.Contains(out, want) {
			t.Errorf("%s has no %q:\n%s", what, want, out)
		}
	}
}

func TestAServerMoreAndOneLess(t *testing.T) {
	l := newLocal(t)
	l.start(t)
	l.await(t, "farm ready")
	if out := output(t, "scale", "db", "4", "--local", l.dir); !strings.Contains(out, "done: db has 4 servers") {
		t.Errorf("scale: %s", out)
	}
	n := l.status(t).node(t, "db4")
	if !n.Database.Answers || n.Database.Replication == nil {
		t.Errorf("the new server is %+v", n.Database)
	}
	gone := farmtest.Watch(t, n.process())
	if out := output(t, "terminate", "db4", "--shrink", "--yes", "--local", l.dir); !strings.Contains(out, "done: db4 is gone") {
		t.Errorf("terminate: %s", out)
	}
	gone.AwaitEnd(t)
	if _, err := os.Stat(filepath.Join(l.dir, "kept", "db4")); err != nil {
		t.Errorf("its data, which the farm file has kept: %v", err)
	}
	if out := output(t, "scale", "db", "file", "--local", l.dir); !strings.Contains(out, "done") {
		t.Errorf("scale file: %s", out)
	}
}

// TestScalerRunTellsSystemd when it is ready, and then that its loop goes round.
func TestScalerRunTellsSystemd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "control")
	first := farmtest.FreePort(t)
	ports := fmt.Sprintf("%d,%d,%d", first.Port(), farmtest.FreePort(t).Port(), farmtest.FreePort(t).Port())
	output(t, "registry", "init", dir, "--member", "a="+first.Addr().String(), "--ports", ports)
	path := filepath.Join(farmtest.ShortDir(t), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	cmd := scaler("run", dir)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=300000")
	p := startProcess(t, cmd)
	p.line(t, "ready line", begins("registry ready: farm farm, member a"))
	if err := socket.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1000)
	for missing := []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"}; len(missing) > 0; {
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatalf("no %s: %v", missing[0], err)
		}
		if strings.Contains(string(buf[:n]), missing[0]) {
			missing = missing[1:]
		}
	}
	p.stop(t)
}

func TestTakenPortsAreNamed(t *testing.T) {
	l := newLocal(t)
	taken, err := net.Listen("tcp", l.listen.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if err := os.Mkdir(filepath.Dir(l.socket), 0o755); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", l.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	out, err := scaler(l.args...).CombinedOutput()
	if err == nil {
		t.Fatal("a farm started on a port that is taken")
	}
	us := fmt.Sprintf("process %d (%s", os.Getpid(), os.Args[0])
	for _, want := range []string{
		"the proxy cannot listen on " + l.listen.String() + ": it is taken by " + us,
		"the proxy cannot listen on " + l.socket + ": it is taken by " + us,
		"--port", "--socket",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in: %s", want, out)
		}
	}
}
