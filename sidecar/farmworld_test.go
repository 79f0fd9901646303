package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
	"farmhand/internal/topology"
)

// scaler builds the scaler once, for the registry.
var scaler = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "farmtest-scaler")
	if err != nil {
		return "", err
	}
	programs = dir
	return filepath.Join(dir, "scaler"), farmtest.Build(dir, "scaler")
})

var programs string // the directory that scaler fills

// testFarm is a farm's registry, as the scaler runs it, and the scaler that leads:
// the test.
type testFarm struct {
	dir, program, endpoint string

	cmd   *exec.Cmd
	admin *registry.Client
	term  registry.Term
	epoch farm.Epoch
}

func newFarm(t *testing.T) *testFarm {
	t.Helper()
	program, err := scaler()
	must(t, err)
	first := farmtest.FreePort(t)
	ports := []string{strconv.Itoa(int(first.Port()))}
	for range 2 {
		ports = append(ports, strconv.Itoa(int(farmtest.FreePort(t).Port())))
	}
	f := &testFarm{dir: filepath.Join(t.TempDir(), "registry"), program: program, endpoint: first.String()}
	f.run(t, "registry", "init", f.dir, "--farm", "shop", "--member", "a="+first.Addr().String(), "--ports", strings.Join(ports, ","))
	f.start(t)
	t.Cleanup(func() { f.stop(t) })
	f.admin, err = registry.Open(registry.Options{Farm: "shop", Endpoints: []string{f.endpoint}, Files: pki.In(f.dir, "control")})
	must(t, err)
	t.Cleanup(func() { must(t, f.admin.Close()) })
	terms := make(chan registry.Term, 1)
	inBackground(t, func(ctx context.Context) {
		// What ends the term is the test's end, or the registry's.
		_ = f.admin.Lead(ctx, "test", registry.MaxLease, func(ctx context.Context, term registry.Term) error {
			terms <- term
			<-ctx.Done()
			return nil
		})
	})
	f.term = soon(t, terms, "term")
	return f
}

// run runs a command of the scaler and returns what it prints.
func (f *testFarm) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(f.program, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		t.Fatalf("scaler %v: %v", args, err)
	}
	return string(out)
}

// start runs the registry, again or for the first time.
func (f *testFarm) start(t *testing.T) {
	t.Helper()
	f.cmd = exec.Command(f.program, "registry", "run", f.dir)
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := f.cmd.StdoutPipe()
	must(t, err)
	must(t, f.cmd.Start())
	if s := bufio.NewScanner(out); !s.Scan() || !strings.HasPrefix(s.Text(), "registry ready") {
		t.Fatalf("the registry does not run: %q", s.Text())
	}
}

func (f *testFarm) stop(t *testing.T) {
	t.Helper()
	must(t, f.cmd.Process.Signal(syscall.SIGTERM))
	must(t, f.cmd.Wait())
}

// assign writes an assignment with that primary; another than before is a new
// epoch.
func (f *testFarm) assign(t *testing.T, serial uint64, primary, replica string) {
	t.Helper()
	a := &cluster.Assignment{Epoch: f.epoch + 1, Term: f.term.Number, Serial: serial, Primary: primary, Why: "a test", NextID: 9}
	for i, name := range []string{"db1", "db2"} {
		s := cluster.Server{Name: name, Address: fmt.Sprintf("127.0.0.1:%d", i+1), ID: uint32(i + 1), Task: cluster.Lead}
		if name == replica {
			s.Task, s.Source, s.State, s.Weight = cluster.Follow, primary, farm.Serving, 50
		}
		a.Servers = append(a.Servers, s)
	}
	value, err := a.Encode()
	must(t, err)
	record, err := registry.ClusterRecord("db", cluster.Record)
	must(t, err)
	must(t, f.admin.WriteInEpoch(t.Context(), f.term, "db", f.epoch, f.epoch+1, record, value))
	f.epoch++
}

// reports tells every report of a web node.
func (f *testFarm) reports(t *testing.T, node string) <-chan *cluster.NodeReport {
	t.Helper()
	told := make(chan *cluster.NodeReport, 10_000)
	inBackground(t, func(ctx context.Context) {
		err := f.admin.WatchReports(ctx, func(v registry.ReportsView) error {
			for _, r := range v.Changed {
				if r.Node != node || r.Name != cluster.NodeReportName || r.Gone {
					continue
				}
				report, err := cluster.DecodeNodeReport(r.Data)
				if err != nil {
					return err
				}
				told <- report
			}
			return nil
		})
		if ctx.Err() == nil {
			t.Errorf("watch reports: %v", err)
		}
	})
	return told
}

func (f *testFarm) awaitMembers(t *testing.T, want ...string) {
	t.Helper()
	farmtest.Eventually(t, fmt.Sprintf("the members are %v", want), func() error {
		members, err := f.admin.Members(t.Context())
		if err != nil {
			return err
		}
		var names []string
		for _, m := range members {
			names = append(names, m.Name)
		}
		if !slices.Equal(names, want) {
			return fmt.Errorf("they are %v", names)
		}
		return nil
	})
}

// inBackground runs f until the test's end.
func inBackground(t *testing.T, f func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// soon waits for a value from c.
func soon[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-c:
		return value
	case <-time.After(limit):
		t.Fatalf("no %s within %v", what, limit)
		panic("unreachable")
	}
}

// newFarmNode is a web node that joins by a token.
func newFarmNode(t *testing.T, f *testFarm, name string) *webNode {
	t.Helper()
	n := newWebNode(t, nil)
	token := f.run(t, "registry", "token", f.dir, "--role", "web", "--name", name)
	must(t, os.WriteFile(n.path("token"), []byte(token), 0o600))
	n.configure(t, name, "10.0.0.1")
	return n
}

func (n *webNode) configure(t *testing.T, name, address string) {
	t.Helper()
	type m = map[string]any
	text, err := yaml.Marshal(m{
		"role": "web", "name": name, "state": n.state, "web": m{"topology": n.topology, "cluster": "db"},
		"hooks":      m{"directory": n.hooks},
		"farm":       m{"directory": n.path("node"), "token_file": n.path("token"), "address": address, "lease": "2s"},
		"membership": m{"source": "registry", "registry": m{"cluster": "db"}},
	})
	must(t, err)
	must(t, os.WriteFile(n.config, text, 0o644))
}

func (f *testFarm) awaitTopology(t *testing.T, n *webNode) {
	t.Helper()
	farmtest.Eventually(t, "the topology is the newest", func() error {
		got, err := topology.Read(n.topology)
		if c := got.Clusters["db"]; err == nil && c.Epoch != f.epoch {
			err = fmt.Errorf("it has epoch %d, want %d", c.Epoch, f.epoch)
		}
		return err
	})
}
