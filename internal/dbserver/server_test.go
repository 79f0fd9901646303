package dbserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// asOwner makes the test binary a process that runs the server of the
// directory in the variable, at the address in its first argument, and waits to be
// killed. With a second argument that is not empty the server outlives it.
const asOwner = "FARMHAND_TEST_OWNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asOwner); dir != "" {
		os.Exit(own(dir, netip.MustParseAddrPort(os.Args[1]), os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}

func own(dir string, address netip.AddrPort, mode string) int {
	ctx := context.Background()
	inst, err := dbserver.Find(ctx, farm.MariaDB)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c := config(dir, address)
	c.Credential, c.Outlives = serverAccount(), mode != ""
	s, err := dbserver.Start(ctx, inst, c)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(s.PID())
	<-s.Done()
	return 0
}

// serverAccount is the account that servers run as when we are root: one
// other than ours, as on a real node.
func serverAccount() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	if uerr != nil || gerr != nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func config(dir string, address netip.AddrPort) dbserver.Config {
	return dbserver.Config{
		Dir: filepath.Join(dir, "server"), Address: address.Addr(), Port: address.Port(),
		Socket: filepath.Join(dir, "server", "s.sock"), ServerID: 1, RedoLog: 16 << 20,
	}
}

// fresh is an initialised directory and how to run it.
func fresh(t *testing.T) (dbserver.Install, string, dbserver.Config) {
	t.Helper()
	inst := farmtest.Need(t, farm.MariaDB)
	dir := farmtest.ShortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := config(dir, farmtest.FreePort(t))
	c.Credential = serverAccount()
	if err := dbserver.Initialise(t.Context(), inst, c); err != nil {
		t.Fatal(err)
	}
	return inst, dir, c
}

func start(t *testing.T, inst dbserver.Install, c dbserver.Config) *dbserver.Server {
	t.Helper()
	s, err := dbserver.Start(t.Context(), inst, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func TestServerStartsAnswersAndStopsCleanly(t *testing.T) {
	inst, _, c := fresh(t)
	s := start(t, inst, c)
	if err := s.Exec(t.Context(), "CREATE DATABASE d", "CREATE TABLE d.t (i INT)"); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	again := start(t, inst, c)
	rows, err := again.Query(t.Context(), "SELECT COUNT(*) AS n FROM information_schema.tables WHERE table_schema='d'")
	if err != nil {
		t.Fatal(err)
	}
	if n := rows[0].String("n"); n != "1" {
		t.Errorf("%s tables after a restart, want 1", n)
	}
	if _, err := again.Query(t.Context(), "SELECT * FROM nowhere.secret_name"); err == nil {
		t.Error("a query of a table that is not there worked")
	}
}

func TestServerLeftBehindIsStoppedFirst(t *testing.T) {
	inst, _, c := fresh(t)
	first := start(t, inst, c)
	second := start(t, inst, c)
	select {
	case <-first.Done():
	default:
		t.Error("two servers run on one directory")
	}
	if first.PID() == second.PID() {
		t.Error("the second start gave the first process")
	}
}

func TestProcessOfAnotherIsLeftAlone(t *testing.T) {
	inst, _, c := fresh(t)
	s := start(t, inst, c)
	s.Kill()
	// The pid of the record is given to somebody else: us.
	record := filepath.Join(c.Dir, "process.json")
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	ours := strings.Replace(string(text), strconv.Itoa(s.PID()), strconv.Itoa(os.Getpid()), 1)
	if ours == string(text) {
		t.Fatalf("no pid in %s", text)
	}
	if err := os.WriteFile(record, []byte(ours), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, inst, c) // would have killed the test
}

// owned starts a server in a process of its own and returns the server's process id
// and what kills its owner.
func owned(t *testing.T, dir string, c dbserver.Config, mode string) (pid int, killOwner func()) {
	t.Helper()
	owner := exec.Command(os.Args[0], netip.AddrPortFrom(c.Address, c.Port).String(), mode)
	owner.Env = append(os.Environ(), asOwner+"="+dir)
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(out)
	line, err := reader.ReadString('\n')
	pid, perr := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || perr != nil {
		rest, _ := io.ReadAll(reader)
		t.Fatalf("the owner says %q", line+string(rest))
	}
	return pid, func() {
		if err := owner.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = owner.Wait() // killed
	}
}

func TestServerDiesWithItsOwner(t *testing.T) {
	inst, dir, c := fresh(t)
	pid, killOwner := owned(t, dir, c, "")
	server := farmtest.Watch(t, pid)
	killOwner()
	server.AwaitEnd(t)
	start(t, inst, c)
}

// TestServerIsAdopted after its owner's death, any number of times, and then ends
// like one's own.
func TestServerIsAdopted(t *testing.T) {
	inst, dir, c := fresh(t)
	adopt := func(want dbserver.Found) *dbserver.Server {
		t.Helper()
		s, found, err := dbserver.Adopt(inst, c)
		if err != nil || found != want || (s != nil) != (want == dbserver.Alive) {
			t.Fatalf("%v, %v; want %v", found, err, want)
		}
		return s
	}
	t.Cleanup(func() { // what a test that fails leaves
		if s, _, err := dbserver.Adopt(inst, c); err != nil {
			t.Error(err)
		} else if s != nil {
			s.Kill()
			s.Release()
		}
	})
	adopt(dbserver.Nothing)
	pid, killOwner := owned(t, dir, c, "outlives")
	killOwner()
	s := adopt(dbserver.Alive)
	s.Release()
	s = adopt(dbserver.Alive)
	if s.PID() != pid {
		t.Errorf("adopted %d, want %d", s.PID(), pid)
	}
	if err := s.Exec(t.Context(), "CREATE DATABASE d"); err != nil {
		t.Error(err)
	}
	select {
	case <-s.Done():
		t.Error("it has ended")
	default:
	}
	s.Kill()
	if s.Err() == nil || s.Signal(syscall.SIGTERM) {
		t.Errorf("after the end: %v", s.Err())
	}
	s.Release()
	adopt(dbserver.Dead)

	_, killOwner = owned(t, dir, c, "outlives")
	killOwner()
	s = adopt(dbserver.Alive)
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	s.Release()
	adopt(dbserver.Nothing)
}

func TestErrorOfAFailedStartSaysWhy(t *testing.T) {
	inst, _, c := fresh(t)
	taken, err := net.Listen("tcp", c.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, err = dbserver.Start(t.Context(), inst, c)
	if err == nil {
		t.Fatal("started on a port that is taken")
	}
	for _, want := range []string{c.Addr(), "mariadbd", "error.log", "Address already in use"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	inst, _, c := fresh(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no longer wanted")
	cancel(why)
	if _, err := dbserver.Start(ctx, inst, c); !errors.Is(err, why) {
		t.Errorf("start with a cancelled context: %v", err)
	}
}

func TestInitialiseKeepsWhatIsThere(t *testing.T) {
	inst, _, c := fresh(t)
	if err := dbserver.Initialise(t.Context(), inst, c); err == nil {
		t.Error("an initialised directory was initialised again")
	}
	c.Dir = filepath.Join(filepath.Dir(c.Dir), "other")
	if err := dbserver.Initialise(t.Context(), inst, c, "SELECT 1;\nSELECT 2"); err == nil {
		t.Error("a statement of two lines was taken")
	}
}

func TestServerThatWillNotStopIsKilled(t *testing.T) {
	inst, _, c := fresh(t)
	c.StopLimit = 100 * time.Millisecond
	s := start(t, inst, c)
	s.Signal(syscall.SIGSTOP)
	if err := s.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("a server that hangs was stopped: %v", err)
	}
}

func TestConfigIsValidated(t *testing.T) {
	good := config("/nonexistent", netip.MustParseAddrPort("127.0.0.1:3306"))
	cases := map[string]func(*dbserver.Config){
		"relative directory": func(c *dbserver.Config) { c.Dir = "x" },
		"no address":         func(c *dbserver.Config) { c.Address = netip.Addr{} },
		"no port":            func(c *dbserver.Config) { c.Port = 0 },
		"relative socket":    func(c *dbserver.Config) { c.Socket = "s" },
		"long socket":        func(c *dbserver.Config) { c.Socket = "/" + strings.Repeat("x", 107) },
		"no server id":       func(c *dbserver.Config) { c.ServerID = 0 },
		"no data":            func(*dbserver.Config) {},
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			c := good
			spoil(&c)
			if _, err := dbserver.Start(t.Context(), dbserver.Install{Flavor: farm.MariaDB}, c); err == nil {
				t.Error("started")
			}
		})
	}
}

func TestMissingServerIsNamed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	_, err := dbserver.Find(t.Context(), farm.MySQL, dir)
	if !errors.Is(err, dbserver.ErrNotInstalled) && err != nil {
		t.Errorf("error is %v", err)
	}
	if err != nil && !strings.Contains(err.Error(), dir) {
		t.Errorf("the error does not say where it looked: %v", err)
	}
}
