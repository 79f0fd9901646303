package password

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"farmhand/internal/cluster"
	"farmhand/internal/farmtest"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server says what it was called for, and fails as often as it is told to.
type server struct {
	mu    sync.Mutex
	calls []string
	fails map[string]int
}

func (s *server) called(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, what)
	if s.fails[what] > 0 {
		s.fails[what]--
		return errors.New("the primary's change has not arrived")
	}
	return nil
}

func (s *server) AcceptPasswords(context.Context, *cluster.Passwords) error {
	return s.called("accept")
}

func (s *server) UsePasswords(context.Context, *cluster.Passwords) error { return s.called("use") }

func (s *server) DropPasswords(context.Context, *cluster.Passwords) error { return s.called("drop") }

// node is one that takes passwords, and what it has said of that.
type node struct {
	t       *testing.T
	dir     string
	orders  chan registry.Value
	mu      sync.Mutex
	said    []cluster.PasswordsReport
	deaf    int // how many reports are not taken
	logs    *observer.ObservedLogs
	options Options
}

func newNode(t *testing.T, s Server) *node {
	n := &node{t: t, dir: t.TempDir(), orders: make(chan registry.Value, 10)}
	core, logs := observer.New(zap.DebugLevel)
	n.logs = logs
	n.options = Options{
		Node: "db1", Server: s, Log: zap.New(core), Files: map[string]string{
			cluster.MonitorPassword: n.file(cluster.MonitorPassword), cluster.ReplicationPassword: n.file(cluster.ReplicationPassword),
		},
		Watch: func(ctx context.Context, r registry.Record, tell func(registry.Value) error) error {
			if r.String() != "orders/db1/passwords" {
				t.Errorf("watches %v", r)
			}
			for {
				select {
				case v := <-n.orders:
					if err := tell(v); err != nil {
						return err
					}
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		},
		Report: func(_ context.Context, name string, value []byte) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.deaf > 0 {
				n.deaf--
				return errors.New("the registry is away")
			}
			r, err := cluster.DecodePasswordsReport(value)
			if err != nil || name != cluster.PasswordsReportName {
				t.Errorf("%s: %v", name, err)
				return nil
			}
			n.said = append(n.said, *r)
			return nil
		},
	}
	return n
}

func (n *node) file(account string) string { return filepath.Join(n.dir, account+".password") }

func (n *node) run() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, n.options) }()
	n.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			n.t.Errorf("it ended with %v", err)
		}
		for _, line := range n.logs.All() {
			if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, "secret") {
				n.t.Errorf("a password is in the log: %s", text)
			}
		}
	})
}

func (n *node) order(step cluster.PasswordStep) {
	n.t.Helper()
	o := &cluster.Passwords{
		ID: "7", Step: step, New: map[string]string{"monitor": "new-secret-m", "replication": "new-secret-r"},
		Old: map[string]string{"monitor": "old-secret-m", "replication": "old-secret-r"},
	}
	data, err := o.Encode()
	if err != nil {
		n.t.Fatal(err)
	}
	n.orders <- registry.Value{Data: data}
}

// until waits for what the node says, and returns all that it has said.
func (n *node) until(want cluster.PasswordStep) (all []cluster.PasswordsReport) {
	n.t.Helper()
	farmtest.Eventually(n.t, "it says "+string(want), func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		all = slices.Clone(n.said)
		if len(all) == 0 || all[len(all)-1] != (cluster.PasswordsReport{ID: "7", Step: want}) {
			return fmt.Errorf("%+v", all)
		}
		return nil
	})
	return all
}

func (n *node) has(account, want string) {
	n.t.Helper()
	got, err := service.ReadSecret(n.file(account))
	if want == "" && !errors.Is(err, os.ErrNotExist) || want != "" && (err != nil || got != want) {
		n.t.Errorf("the file of %s has %q, %v; want %q", account, got, err, want)
	}
	if info, err := os.Stat(n.file(account)); want != "" && (err != nil || info.Mode().Perm() != 0o600) {
		n.t.Errorf("the file of %s: %v, %v", account, info, err)
	}
}

func TestEachStep(t *testing.T) {
	s := &server{fails: map[string]int{"accept": 2, "use": 1, "drop": 1}}
	n := newNode(t, s)
	n.deaf = 1
	n.run()
	n.order(cluster.AcceptBoth)
	all := n.until(cluster.AcceptBoth)
	if len(all) != 2 || all[0].Step != "" || !strings.Contains(all[0].Why, "has not arrived") {
		t.Errorf("it said %+v", all)
	}
	n.has(cluster.MonitorPassword, "")
	n.order(cluster.UseNew)
	n.until(cluster.UseNew)
	n.has(cluster.MonitorPassword, "new-secret-m")
	n.has(cluster.ReplicationPassword, "new-secret-r")
	n.order(cluster.AcceptNew)
	n.until(cluster.AcceptNew)
	// A registry that is lost, and what is no order, change nothing.
	n.orders <- registry.Value{Lost: errors.New("away")}
	n.orders <- registry.Value{Data: []byte(`{"id": "8", "step": "use", "new": {"monitor": ""}}`)}
	n.order(cluster.Changed)
	n.until(cluster.Changed)
	s.mu.Lock()
	defer s.mu.Unlock()
	if got, want := strings.Join(s.calls, " "), "accept accept accept accept use accept use use drop use drop use"; got != want {
		t.Errorf("the server was called for %s, want %s", got, want)
	}
}

// TestANodeThatWasAway does in one step what it has missed.
func TestANodeThatWasAway(t *testing.T) {
	for _, step := range []cluster.PasswordStep{cluster.AcceptNew, cluster.Changed} {
		s := &server{}
		n := newNode(t, s)
		n.run()
		n.order(step)
		n.until(step)
		n.has(cluster.MonitorPassword, "new-secret-m")
		s.mu.Lock()
		if len(s.calls) == 0 || s.calls[0] != "use" {
			t.Errorf("%s: the server was called for %v", step, s.calls)
		}
		s.mu.Unlock()
	}
}

// TestANodeWithoutAServer has the files, and only those that it is to have.
func TestANodeWithoutAServer(t *testing.T) {
	n := newNode(t, nil)
	delete(n.options.Files, cluster.ReplicationPassword)
	n.run()
	n.order(cluster.UseNew)
	n.until(cluster.UseNew)
	n.has(cluster.MonitorPassword, "new-secret-m")
	n.has(cluster.ReplicationPassword, "")
}

// TestAFileThatCannotBeWritten is told, and tried again.
func TestAFileThatCannotBeWritten(t *testing.T) {
	n := newNode(t, nil)
	below := filepath.Join(n.dir, "gone")
	n.options.Files[cluster.MonitorPassword] = filepath.Join(below, "monitor.password")
	n.run()
	n.order(cluster.UseNew)
	farmtest.Eventually(t, "it says why", func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.said) == 0 || n.said[0].Step != "" || !strings.Contains(n.said[0].Why, "password of monitor") {
			return fmt.Errorf("%+v", n.said)
		}
		return nil
	})
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	n.until(cluster.UseNew)
}
