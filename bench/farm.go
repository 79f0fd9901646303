package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"farmhand/internal/child"
	"farmhand/internal/mysqladmin"
)

// Everything listens on addresses of its own: the servers on the first three,
// what stands for the network between zones and the programs of the web node
// on others.
const (
	firstServer = "127.0.60.1"
	webNode     = "127.0.60.10"
	replicas    = 2
)

// server is one database server of the farm.
type server struct {
	address, socket string
	late            string // its address behind the delay
	pid             int
	admin           *mysqladmin.Conn
}

// bench is the farm with all that is measured on it.
type bench struct {
	dir      string
	root     string   // the repository
	web      string   // the directory of the farm's web node
	servers  []server // the primary first
	subjects []*subject
	counter  counter
	port     int // the last that was given out
	children []*child.Child
	delay    *child.Child

	saturation float64 // haproxy's, for the load at a share of it; 0: not measured yet
}

// setUp starts the farm and the delay. close ends it, whatever the error.
func setUp(ctx context.Context) (*bench, error) {
	b := &bench{port: 3400}
	for program, from := range map[string]string{"sysbench": "sysbench", "haproxy": "haproxy", "mariadbd": "mariadb-server"} {
		if _, err := exec.LookPath(program); err != nil {
			return b, fmt.Errorf("%w: install it with scripts/install-packages %s", err, from)
		}
	}
	var err error
	if b.root, err = os.Getwd(); err != nil {
		return b, err
	}
	if b.dir, err = os.MkdirTemp("", "farmhand-bench"); err != nil {
		return b, err
	}
	b.counter = findCounter(b.dir)
	if err := b.startFarm(ctx); err != nil {
		return b, fmt.Errorf("the farm: %w", err)
	}
	if err := b.startDelay(); err != nil {
		return b, fmt.Errorf("the delay: %w", err)
	}
	for i := range b.servers {
		s := &b.servers[i]
		if s.admin, err = mysqladmin.Dial(ctx, mysqladmin.Target{Network: "tcp", Address: s.address, User: user, Password: password}); err != nil {
			return b, fmt.Errorf("server %s: %w", s.address, err)
		}
	}
	if out, err := sysbench(ctx, b.primary(), 1, "oltp_read_write", "prepare").CombinedOutput(); err != nil {
		return b, fmt.Errorf("sysbench prepare: %w\n%s", err, out)
	}
	return b, b.makeTables(ctx)
}

// close ends all that was started, the last first.
func (b *bench) close() error {
	for _, s := range b.servers {
		if s.admin != nil {
			_ = s.admin.Close() // the server goes away too
		}
	}
	var errs []error
	for i := len(b.children) - 1; i >= 0; i-- {
		if err := b.stop(b.children[i]); err != nil {
			errs = append(errs, err)
		}
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}

// launch starts a program, the output of which goes to a file. The program ends
// with this one, however that ends.
func (b *bench) launch(name, program string, args ...string) (*child.Child, error) {
	log, err := os.Create(filepath.Join(b.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	return b.keep(cmd)
}

func (b *bench) keep(cmd *exec.Cmd) (*child.Child, error) {
	c, err := child.Start(cmd, syscall.SIGTERM)
	if err != nil {
		return nil, err
	}
	b.children = append(b.children, c)
	return c, nil
}

// stop ends a program and waits for that.
func (b *bench) stop(c *child.Child) error {
	c.Signal(syscall.SIGTERM)
	select {
	case <-c.Done():
		return nil
	case <-time.After(time.Minute):
		c.Signal(syscall.SIGKILL)
		<-c.Done()
		return fmt.Errorf("process %d did not end in a minute and was killed", c.PID())
	}
}

// place is a TCP address of the web node that nobody has.
func (b *bench) place() string {
	b.port++
	return fmt.Sprintf("%s:%d", webNode, b.port)
}

func (b *bench) primary() endpoint { return endpoint{network: "tcp", address: b.servers[0].address} }

// startFarm runs a farm by "scaler up". Its own proxy is not the one measured.
func (b *bench) startFarm(ctx context.Context) error {
	dir := filepath.Join(b.dir, "farm")
	_, port, _ := strings.Cut(b.place(), ":")
	cmd := exec.Command("bin/scaler", "up", "--local", dir, "--host", webNode, "--port", port, "--socket", "", "--admin", "",
		"--addresses-from", firstServer, "--replicas", fmt.Sprint(replicas))
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = in, in
	_, err = b.keep(cmd)
	_ = in.Close() // the child has its own
	if err != nil {
		_ = out.Close()
		return fmt.Errorf("%w (make build makes it)", err)
	}
	ready := make(chan error, 1)
	go func() { // ends with the farm
		var last string
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if last = lines.Text(); strings.HasPrefix(last, "farm ready") {
				ready <- nil
			}
		}
		ready <- fmt.Errorf("it ended: %s", last)
		_ = out.Close()
	}()
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return b.readState(ctx, dir)
}

func (b *bench) readState(ctx context.Context, dir string) error {
	text, err := exec.CommandContext(ctx, "bin/scaler", "status", "--json", "--local", dir).Output()
	if err != nil {
		return fmt.Errorf("scaler status: %w", err)
	}
	var state struct {
		Assignment struct{ Primary string }
		Nodes      []struct {
			Name     string
			Database *struct {
				Address string
				PID     int
			}
		}
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return fmt.Errorf("scaler status: %w", err)
	}
	for _, n := range state.Nodes {
		if n.Database == nil {
			b.web = filepath.Join(dir, n.Name)
			continue
		}
		if n.Database.PID == 0 {
			return fmt.Errorf("the server %s does not run", n.Name)
		}
		s := server{address: n.Database.Address, pid: n.Database.PID, socket: filepath.Join(dir, n.Name, "mysql", "mysql.sock")}
		if n.Name == state.Assignment.Primary {
			b.servers = append([]server{s}, b.servers...)
		} else {
			b.servers = append(b.servers, s)
		}
	}
	for i := range b.servers {
		b.servers[i].late = fmt.Sprintf("127.0.60.%d:3306", 101+i)
	}
	if len(b.servers) != 1+replicas {
		return fmt.Errorf("%d servers run instead of %d", len(b.servers), 1+replicas)
	}
	return nil
}

// startDelay runs the forwarder as a process of its own.
func (b *bench) startDelay() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{forwardCommand}
	for _, s := range b.servers {
		args = append(args, s.late, s.address)
	}
	b.delay, err = b.launch("delay", self, args...)
	return err
}

// behindSubjects are the processes that work for every subject: the database
// servers, and the delay where it is used.
func (b *bench) behindSubjects(p path) []int {
	var pids []int
	for _, s := range b.servers {
		pids = append(pids, s.pid)
	}
	if p == byDelay || p == localDelay {
		pids = append(pids, b.delay.PID())
	}
	return pids
}

// onPrimary runs statements on the primary.
func (b *bench) onPrimary(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := b.servers[0].admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	return nil
}

// catchUp returns when the replicas have applied all that the primary has
// committed, so that they work off nothing during the next run.
func (b *bench) catchUp(ctx context.Context) error {
	rows, err := b.servers[0].admin.Query(ctx, "SELECT @@gtid_binlog_pos AS at")
	if err != nil || len(rows) != 1 {
		return fmt.Errorf("position of the primary: %w", err)
	}
	for _, s := range b.servers[1:] {
		rows, err := s.admin.Query(ctx, "SELECT MASTER_GTID_WAIT('"+rows[0].String("at")+"', 300) AS late")
		if err != nil {
			return fmt.Errorf("replica %s: %w", s.address, err)
		}
		if rows[0].String("late") != "0" {
			return fmt.Errorf("replica %s did not catch up in 5 minutes", s.address)
		}
	}
	return nil
}

// answers waits until statements are answered at an endpoint.
func answers(ctx context.Context, to endpoint, by *child.Child, log string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("it took longer than 20 s"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := dial(ctx, to)
		if err == nil {
			_, err = c.do(command("SELECT c FROM sbtest1 WHERE id = 1"), nil)
			c.close()
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-by.Done():
			text, _ := os.ReadFile(log) // it is for the message only
			return fmt.Errorf("it ended (%w):\n%s", by.Ended(), text)
		case <-ctx.Done():
			return fmt.Errorf("no answer at %s (%w): %w", to.address, context.Cause(ctx), err)
		}
	}
}
