package farmchaos

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// limit bounds the wait for a farm to become what it is to be.
const limit = 3 * time.Minute

// chaosFarm is a running farm: a scaler, database servers and a web node, each in
// a namespace of its own.
type chaosFarm struct {
	flavor  farm.Flavor
	t       testing.TB
	network *network
	dir     string
	scaler  *exec.Cmd
	ended   chan struct{}
	output  tail
	proxy   string // host:port
	frozen  []int  // pids that were told to stop
}

// status is of scaler status --json what the tests look at.
type status struct {
	Leads      string              `json:"leads"`
	Old        float64             `json:"old_seconds"`
	Assignment *cluster.Assignment `json:"assignment"`
	Reasons    []string            `json:"reasons"`
	Nodes      []struct {
		Name     string          `json:"name"`
		Kind     string          `json:"kind"`
		Address  netip.Addr      `json:"address"`
		Launched time.Time       `json:"launched"`
		PID      int             `json:"pid"`
		Member   bool            `json:"member"`
		Age      *float64        `json:"age_seconds"`
		Database *cluster.Report `json:"database"`
		Web      *struct {
			PID    int    `json:"pid"`
			Serial uint64 `json:"serial"`
		} `json:"web"`
	} `json:"nodes"`
	Roles   map[string]json.RawMessage `json:"roles"`
	Backups *backupStatus              `json:"backups"`
}

// programs are built once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "farmchaos")
	if err != nil {
		return "", err
	}
	if err := farmtest.Build(dir, "proxy", "sidecar", "scaler"); err != nil {
		return "", err
	}
	// Its own account may have to run what is there.
	return dir, os.Chmod(dir, 0o755)
})

// farmFile is the farm's; %s are the directory, the launcher, what the options say, and
// the hooks of both roles.
const farmFile = `name: chaos
provider:
  kind: local
  parameters:
    directory: %s
    first_address: %s
    launcher: %s
roles:
  db:
    kind: mysql
    count: %s
    parameters:
      flavor: %s
      program_root: %q
      durability: %s
      available_after: 10s
%s
%s
  web:
    kind: web
    count: 1
%s
    parameters:
      database: db
      proxy: {tcp: "127.0.0.1:3306", unix: "", admin: "127.0.0.1:9104"}
policies:
  failover: {deadline: 30s, quiet: 1s}
`

// options are what a farm is like.
type options struct {
	count      string // of database servers, primary included
	durability string
	scaling    string // YAML below the database's role
	backups    string // YAML, the section of that name
	flavor     farm.Flavor
	hooks      map[string]string // scripts by EVENT/NN-name, with which a failover must not wait
	disk       int               // MiB that each database server has to itself; 0 for the machine's
}

func start(t testing.TB, o options) *chaosFarm {
	t.Helper()
	if o.flavor == farm.UnknownFlavor {
		o.flavor = farm.MariaDB
	}
	farmtest.Need(t, o.flavor)
	root := ""
	if o.flavor == farm.MySQL {
		root = farmtest.MySQLRoot()
	}
	n := newNetwork(t)
	if o.durability == "" {
		o.durability = "available"
	}
	f := &chaosFarm{t: t, network: n, dir: farmtest.ShortDir(t), flavor: o.flavor}
	hooksOf := func(events string) string { return "" }
	if len(o.hooks) > 0 {
		hooks, err := writeHooks(f.dir, o.hooks)
		if err != nil {
			t.Fatal(err)
		}
		hooksOf = func(events string) string {
			return fmt.Sprintf("    hooks: {directory: %q, time_limit: 20s, events: {%s}}", hooks, events)
		}
	}
	if o.disk > 0 {
		f.disks(o.disk)
	}
	file := filepath.Join(f.dir, "farm.yaml")
	text := fmt.Sprintf(farmFile, filepath.Join(f.dir, "farm"), firstServer, n.launcher(f.dir), o.count, strings.ToLower(o.flavor.String()), root, o.durability, o.scaling,
		hooksOf("host-crash: {mode: sync}"), hooksOf("primary-lost: {mode: sync}, new-primary: {mode: sync}")) + o.backups
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.stop()
		n.remove()
		if t.Failed() {
			f.keep()
		}
	})
	f.up()
	return f
}

// up starts the scaler, and returns when the farm answers.
func (f *chaosFarm) up() {
	f.t.Helper()
	bin, err := programs()
	if err != nil {
		f.t.Fatal(err)
	}
	f.scaler = exec.Command(filepath.Join(f.dir, "launcher"), scalerNode, scalerAddr, filepath.Join(bin, "scaler"), "up",
		"--local", filepath.Join(f.dir, "farm"), "--file", filepath.Join(f.dir, "farm.yaml"), "--control-address", scalerAddr, "--programs", bin,
		"--start-limit", limit.String())
	read, write, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	f.scaler.Stdout, f.scaler.Stderr = write, write
	f.scaler.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := f.scaler.Start(); err != nil {
		f.t.Fatal(err)
	}
	_ = write.Close() // the child's copy stays
	ended, ready := make(chan struct{}), make(chan struct{})
	f.ended = ended
	go func() {
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			f.output.add(lines.Text())
			if strings.HasPrefix(lines.Text(), "farm ready") {
				close(ready)
			}
		}
		_ = f.scaler.Wait()
		close(ended)
	}()
	select {
	case <-ready:
	case <-ended:
		f.t.Fatalf("the scaler ended:\n%s", f.output.text())
	case <-time.After(limit):
		f.t.Fatalf("the farm is not ready after %v:\n%s", limit, f.output.text())
	}
	for _, n := range f.status().Nodes {
		if n.Kind == "web" {
			f.proxy = netip.AddrPortFrom(n.Address, 3306).String()
		}
	}
	f.settle()
}

// stop ends the farm in order.
func (f *chaosFarm) stop() {
	if f.scaler == nil || f.scaler.Process == nil {
		return
	}
	for _, pid := range f.frozen {
		_ = syscall.Kill(pid, syscall.SIGCONT) // it may be gone
	}
	if _, err := f.run("down"); err != nil {
		f.t.Logf("scaler down: %v", err)
	}
	_ = f.scaler.Process.Signal(syscall.SIGTERM)
	select {
	case <-f.ended:
	case <-time.After(time.Minute):
		_ = f.scaler.Process.Kill()
		f.t.Errorf("the scaler did not stop within a minute:\n%s", f.output.text())
	}
}

// keep copies the farm's logs to where they can be read after the test.
func (f *chaosFarm) keep() {
	if *out == "" {
		f.t.Logf("the scaler said:\n%s", f.output.text())
		return
	}
	to := filepath.Join(*out, strings.ReplaceAll(f.t.Name(), "/", "_"))
	if err := exec.Command("sh", "-c", fmt.Sprintf("rm -rf '%[1]s'; mkdir -p '%[1]s' && cd '%[2]s' && cp --parents $(find . -name '*.log' -o -name '*.yaml' -o -name '*.json') '%[1]s'", to, f.dir)).Run(); err != nil {
		f.t.Logf("keep the logs: %v", err)
	}
	f.t.Logf("logs are in %s", to)
}

// run calls the scaler's command line in the scaler's namespace, for the farm.
func (f *chaosFarm) run(args ...string) (string, error) {
	return f.inScaler(append(args, "--local", filepath.Join(f.dir, "farm"))...)
}

// inScaler calls the scaler's command line in the scaler's namespace.
func (f *chaosFarm) inScaler(args ...string) (string, error) {
	bin, err := programs()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", f.network.name(scalerNode), filepath.Join(bin, "scaler")}, args...)...)
	text, err := cmd.CombinedOutput()
	if err != nil {
		return string(text), fmt.Errorf("scaler %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return string(text), nil
}

func (f *chaosFarm) status() status {
	f.t.Helper()
	s, err := f.look()
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *chaosFarm) look() (s status, err error) {
	text, err := f.run("status", "--json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(text), &s)
}

// reported is what a server's sidecar has said of it last.
func (f *chaosFarm) reported(name string) (*cluster.Report, error) {
	now, err := f.look()
	if err != nil {
		return nil, err
	}
	for _, n := range now.Nodes {
		if n.Name == name && n.Database != nil {
			return n.Database, nil
		}
	}
	return nil, fmt.Errorf("%s does not report", name)
}

// settled says why the farm is not what it is to be.
func (f *chaosFarm) settled() error {
	s, err := f.look()
	if err != nil {
		return err
	}
	a := s.Assignment
	if a == nil || a.Phase != cluster.Steady || a.Primary == "" || s.Old > 0 {
		return fmt.Errorf("phase %+v, primary: %v", a, s.Reasons)
	}
	for _, n := range s.Nodes {
		if n.Kind != "mysql" {
			continue
		}
		server, ok := a.Server(n.Name)
		if !ok {
			return fmt.Errorf("%s has no part yet: %v", n.Name, s.Reasons)
		}
		r := n.Database
		if r == nil || !r.Done || r.Errant != "" || n.Age == nil || *n.Age > 2 {
			return fmt.Errorf("%s is not done (%+v): %v", n.Name, r, s.Reasons)
		}
		if server.Task != cluster.Lead && (server.State != farm.Serving || !server.Acknowledges) {
			return fmt.Errorf("%s does not serve, or does not acknowledge: %+v", n.Name, server)
		}
	}
	for _, n := range s.Nodes {
		if n.Database != nil && !n.Database.Intact {
			return fmt.Errorf("%s has not got back what it may have thrown away", n.Name)
		}
	}
	if len(a.Servers) > 1 && !a.Durable {
		return errors.New("not every commit is on two servers")
	}
	return nil
}

func (f *chaosFarm) settle() {
	f.t.Helper()
	f.await("the farm is what it is to be", f.settled)
}

// await waits until check finds nothing wrong.
func (f *chaosFarm) await(what string, check func() error) {
	f.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: not after %v: %v\nthe scaler said:\n%s", what, limit, err, f.output.text())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// server is a database server of the farm as it is now.
type server struct {
	name    string
	address netip.Addr
	sidecar int // pid
	mysqld  int
}

// servers returns the primary and the replicas.
func (f *chaosFarm) servers() (primary server, replicas []server) {
	f.t.Helper()
	s := f.status()
	for _, n := range s.Nodes {
		if n.Kind != "mysql" {
			continue
		}
		v := server{name: n.Name, address: n.Address, sidecar: n.PID}
		if n.Database != nil {
			v.mysqld = n.Database.PID
		}
		if n.Name == s.Assignment.Primary {
			primary = v
		} else {
			replicas = append(replicas, v)
		}
	}
	if primary.mysqld == 0 || len(replicas) == 0 {
		f.t.Fatalf("primary %+v, replicas %+v", primary, replicas)
	}
	return primary, replicas
}

// database connects to a server directly.
func (f *chaosFarm) database(s server) *sql.DB {
	return open(f.t, net.JoinHostPort(s.address.String(), "3306"))
}

// kill sends signals to a server's process, or to all of its node.
func (f *chaosFarm) kill(sig syscall.Signal, pids ...int) {
	f.t.Helper()
	if sig == syscall.SIGSTOP {
		f.frozen = append(f.frozen, pids...)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			f.t.Errorf("%v to %d: %v", sig, pid, err)
		}
	}
}

// tail keeps the last lines of an output.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	if len(t.lines) > 200 {
		t.lines = t.lines[100:]
	}
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// asAdmin runs statements on a server as its administrator, over its socket.
func (f *chaosFarm) asAdmin(s server, statements string) {
	f.t.Helper()
	socket, err := filepath.Glob(filepath.Join(f.dir, "farm", s.name, "mysql", "*.sock"))
	if err != nil || len(socket) == 0 {
		if socket, err = filepath.Glob(filepath.Join(os.TempDir(), "farmhand-*-"+s.name+".sock")); err != nil || len(socket) == 0 {
			f.t.Fatalf("%s has no socket: %v", s.name, err)
		}
	}
	if text, err := exec.Command("mariadb", "--no-defaults", "-u", "root", "-S", socket[0], "-e", statements).CombinedOutput(); err != nil {
		f.t.Fatalf("%s: %v: %s", s.name, err, text)
	}
}
