package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/report"
	"farmhand/scaler/internal/localfarm"
)

// asScaler makes the test binary the scaler.
const asScaler = "FARMHAND_TEST_SCALER"

func TestMain(m *testing.M) {
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
	out, err := exec.Command("go", "build", "-o", dir+"/", "farmhand/proxy", "farmhand/sidecar").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return dir, nil
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
	l.args = []string{
		"up", "--local", l.dir, "--programs", bin, "--host", l.listen.Addr().String(), "--port", strconv.Itoa(int(l.listen.Port())),
		"--socket", l.socket, "--admin", farmtest.FreePort(t).String(), "--addresses-from", farmtest.AddressBlock(3).String(),
	}
	return l
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
		<-done
		_ = read.Close()
		if t.Failed() {
			log, err := os.ReadFile(filepath.Join(l.dir, "proxy.log"))
			t.Logf("scaler said:\n%s\nproxy.log: %v\n%s", strings.Join(said, "\n"), err, log)
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

func (l *local) status(t *testing.T) localfarm.State {
	t.Helper()
	out, err := scaler("status", "--local", l.dir, "--json").Output()
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	var s localfarm.State
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("status: %v in %s", err, out)
	}
	return s
}

// processes are all that belong to a running farm.
func processes(t *testing.T, s localfarm.State) []*farmtest.Process {
	t.Helper()
	list := []*farmtest.Process{farmtest.Watch(t, s.Proxy.PID)}
	for _, r := range s.Servers {
		list = append(list, farmtest.Watch(t, r.PID))
	}
	return list
}

func (l *local) wait(t *testing.T) error {
	t.Helper()
	for range l.lines { // to the end of its output
	}
	return l.cmd.Wait()
}

var app = dbserver.Account{User: localfarm.AppUser, Password: localfarm.AppUser}

func TestFarmOnOneMachine(t *testing.T) {
	l := newLocal(t)
	l.start(t)
	l.await(t, "farm ready: 1 primary and 2 replicas behind "+l.listen.String()+" and "+l.socket)

	s := l.status(t)
	if !s.Ready || s.PID != l.cmd.Process.Pid || s.Proxy.PID == 0 || len(s.Servers) != 3 {
		t.Errorf("status is %+v", s)
	}
	for i, r := range s.Servers {
		if r.State != report.Running || r.PID == 0 || (r.Role == farm.Primary) != (i == 0) || (r.Replication == nil) != (i == 0) {
			t.Errorf("server %d is %+v", i, r)
		}
	}
	table, err := scaler("status", "--local", l.dir).Output()
	if err != nil || !strings.Contains(string(table), "db3     replica") || !strings.Contains(string(table), "0 s") {
		t.Errorf("status is %v\n%s", err, table)
	}

	db := farmtest.Open(t, "unix", l.socket, app)
	if _, err := db.Exec("CREATE TABLE kept (i INT)"); err != nil {
		t.Fatal(err)
	}
	if out, err := scaler(l.args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "a farm runs there already") {
		t.Errorf("a second run in the same directory: %v, %s", err, out)
	}

	// What crashes comes back.
	replica := s.Servers[1]
	if err := syscall.Kill(replica.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.await(t, "db2: failed")
	l.await(t, "db2: running as replica")
	if err := syscall.Kill(s.Proxy.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.await(t, "proxy: it ended (signal: killed), starts again in 500ms")
	farmtest.Eventually(t, "the proxy answers again", func() error { return db.Ping() })

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
	for range 2 {
		if err := l.cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	_ = l.wait(t) // an unclean end may be said to be one
	if _, err := localfarm.ReadState(l.dir); !errors.Is(err, localfarm.ErrNotRunning) {
		t.Errorf("state after the end: %v", err)
	}
}

func TestFarmEndsWithItsTerminalButNotWithItsReader(t *testing.T) {
	l := newLocal(t)
	l.start(t)
	l.await(t, "farm ready")
	if err := l.read.Close(); err != nil { // as "| head" does
		t.Fatal(err)
	}
	s := l.status(t)
	if err := syscall.Kill(s.Servers[2].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	farmtest.Eventually(t, "a replica is back while nobody reads", func() error {
		if now := l.status(t).Servers[2]; now.State != report.Running || now.PID == s.Servers[2].PID {
			return fmt.Errorf("it is %+v", now)
		}
		return nil
	})
	gone := processes(t, l.status(t))
	if err := l.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for _, p := range gone {
		p.AwaitEnd(t)
	}
	_ = l.wait(t) // its last line could not be written
	if _, err := os.Stat(filepath.Join(l.dir, "state.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it did not end in order: %v", err)
	}
}

func TestFarmOfAKilledScalerIsGone(t *testing.T) {
	l := newLocal(t)
	l.start(t)
	l.await(t, "farm ready")
	gone := processes(t, l.status(t))
	if err := l.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, p := range gone {
		p.AwaitEnd(t)
	}
	l.start(t)
	l.await(t, "farm ready")
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
