package farmchaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
)

// registry is the farm's as its administrator, at the control nodes with the addresses.
func (f *chaosFarm) registry(addresses ...string) *registry.Client {
	f.t.Helper()
	var endpoints []string
	for _, address := range addresses {
		endpoints = append(endpoints, net.JoinHostPort(address, "2379"))
	}
	client, err := registry.Open(registry.Options{
		Farm: "chaos", Endpoints: endpoints, Files: pki.In(filepath.Join(f.dir, "farm", "control"), "control"),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = client.Close() }) // its registry may be gone
	return client
}

// assignments tells each assignment that is written from now on, until tell returns false.
func (f *chaosFarm) assignments(ctx context.Context, client *registry.Client, tell func(*cluster.Assignment) bool) error {
	record, err := registry.ClusterRecord("db", cluster.Record)
	if err != nil {
		return err
	}
	enough := errors.New("enough")
	err = client.Watch(ctx, record, func(v registry.Value) error {
		if v.Lost != nil || v.Data == nil {
			return nil
		}
		a, err := cluster.Decode(v.Data)
		if err == nil && !tell(a) {
			err = enough
		}
		return err
	})
	if errors.Is(err, enough) {
		return nil
	}
	return err
}

// step is one that a change of primary has come to.
type step struct {
	name    string
	planned bool // a switchover, not a failover
	is      func(before, now *cluster.Assignment) bool
}

func phase(p cluster.Phase) func(before, now *cluster.Assignment) bool {
	return func(_, now *cluster.Assignment) bool { return now.Phase == p }
}

func anotherLeads(before, now *cluster.Assignment) bool {
	return now.Phase == cluster.Steady && now.Primary != before.Primary
}

// steps are all that there are, in their order.
var steps = []step{
	{"electing", false, phase(cluster.Electing)},
	{"promoting", false, phase(cluster.Promoting)},
	{"done", false, anotherLeads},
	{"handing", true, phase(cluster.Handing)},
	{"yielding", true, phase(cluster.Yielding)},
	{"promoting", true, phase(cluster.Promoting)},
	{"done", true, anotherLeads},
}

// TestAnotherScalerGoesOn: the scaler is killed in the moment in which a step stands in
// the registry, for each step of a failover and of a switchover. Who comes next goes on
// from there: one failover, as if nothing had happened; a switchover that is done or not begun.
func TestAnotherScalerGoesOn(t *testing.T) {
	if !*all {
		t.Skip("needs -farm.all; make chaos-farm gives it")
	}
	f := start(t, options{count: "3"})
	l := begin(t, f.proxy, breath)
	for _, s := range steps {
		what, least := "failover", 1
		if s.planned {
			what, least = "switchover", 0
		}
		run := scenario{fmt.Sprintf("scaler killed in a %s that is %s, and started again", what, s.name), f.killedAt(s), least, 1, 40 * time.Second, false}
		if !t.Run(run.name, func(t *testing.T) { f.strike(t, l, run) }) {
			break
		}
	}
}

// killedAt kills the scaler as soon as a step of a change of primary is written. That it
// wrote none after that is checked by the next one: it is of the next term.
func (f *chaosFarm) killedAt(s step) func(*chaosFarm, server, []server) func() {
	return func(f *chaosFarm, p server, _ []server) func() {
		client := f.registry(scalerAddr)
		before := f.status().Assignment
		var seen, next *cluster.Assignment
		begun := make(chan struct{})
		begin := sync.OnceFunc(func() { close(begun) })
		watched := make(chan error, 1)
		go func() {
			watched <- f.assignments(f.t.Context(), client, func(a *cluster.Assignment) bool {
				begin()
				switch {
				case seen != nil:
					if a.Serial > seen.Serial { // what was seen is told again after the gap
						next = a
					}
				case s.is(before, a):
					if err := syscall.Kill(f.scaler.Process.Pid, syscall.SIGKILL); err != nil {
						f.t.Error(err)
					}
					seen = a
				}
				return next == nil
			})
		}()
		<-begun
		if s.planned {
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				text, err := f.run("switchover", "--yes") // whose scaler dies meanwhile
				f.t.Logf("switchover: %v: %s", err, text)
			}()
			defer func() { <-asked }()
		} else {
			f.kill(syscall.SIGKILL, p.mysqld)
		}
		select {
		case <-f.ended:
		case <-time.After(limit):
			f.t.Fatalf("no assignment was %s", s.name)
		}
		f.up()
		if err := <-watched; err != nil {
			f.t.Fatal(err)
		}
		if next.Term == seen.Term {
			f.t.Errorf("not killed at this step: %q was written after it", next.Why)
		}
		f.t.Logf("killed at %q; the next scaler wrote %q", seen.Why, next.Why)
		return nil
	}
}

// standby is a further control node.
type standby struct {
	name, address string
	cmd           *exec.Cmd
	ended         chan struct{}
}

// standbyNodes are the further control nodes that a farm can have.
var standbyNodes = map[string]string{"scaler2": "10.77.0.251", "scaler3": "10.77.0.252"}

// join adds a control node and starts it.
func (f *chaosFarm) join(name string) *standby {
	f.t.Helper()
	bin, err := programs()
	if err != nil {
		f.t.Fatal(err)
	}
	s := &standby{name: name, address: standbyNodes[name], ended: make(chan struct{})}
	dir := filepath.Join(f.dir, name)
	said, err := f.inScaler("registry", "token", filepath.Join(f.dir, "farm", "control"), "--control", "--name", name, "--address", s.address)
	if err != nil {
		f.t.Fatalf("token for %s: %v", name, err)
	}
	token, _, _ := strings.Cut(said, "\n") // what follows is for people
	file := filepath.Join(f.dir, name+".token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		f.t.Fatal(err)
	}
	launcher := filepath.Join(f.dir, "launcher")
	if text, err := exec.Command(launcher, name, s.address, filepath.Join(bin, "scaler"), "join", "@"+file, "--dir", dir).CombinedOutput(); err != nil {
		f.t.Fatalf("join %s: %v: %s", name, err, text)
	}
	log, err := os.Create(filepath.Join(f.dir, name+".log"))
	if err != nil {
		f.t.Fatal(err)
	}
	s.cmd = exec.Command(launcher, name, s.address, filepath.Join(bin, "scaler"), "run", dir, "--programs", bin)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := s.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	_ = log.Close() // the child's copy stays
	go func() {
		_ = s.cmd.Wait() // how it ended says its log
		close(s.ended)
	}()
	return s
}

// stop ends the control node.
func (s *standby) stop(t testing.TB) {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
		t.Errorf("control node %s did not stop within a minute", s.name)
	}
}

// TestAScalerThatSleptWritesNothing: the scaler that leads is frozen in the moment in
// which the primary dies, and longer than its lease; another one leads and fails over. Thawed
// in the belief that it leads, the first one writes nothing any more.
func TestAScalerThatSleptWritesNothing(t *testing.T) {
	if !*all {
		t.Skip("needs -farm.all; make chaos-farm gives it")
	}
	f := start(t, options{count: "3"})
	for _, name := range []string{"scaler2", "scaler3"} {
		s := f.join(name)
		t.Cleanup(func() { s.stop(t) })
	}
	f.await("three control nodes have a vote", func() error {
		text, err := f.inScaler("registry", "members", filepath.Join(f.dir, "farm", "control"))
		if err == nil && strings.Count(text, "follows") != 2 {
			err = errors.New(text)
		}
		return err
	})
	l := begin(t, f.proxy, breath)
	f.strike(t, l, scenario{"the scaler frozen with the primary killed, then thawed", func(f *chaosFarm, p server, _ []server) func() {
		return f.sleeps(p)
	}, 1, 1, 40 * time.Second, false})
}

// sleeps freezes the scaler in the middle of a failover until another one has ended that.
func (f *chaosFarm) sleeps(p server) (thaw func()) {
	client := f.registry(slices.Collect(maps.Values(standbyNodes))...)
	first := f.status().Assignment
	var mu sync.Mutex
	var all []*cluster.Assignment
	begun, asleep, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	begin, fallAsleep := sync.OnceFunc(func() { close(begun) }), sync.OnceFunc(func() {
		f.kill(syscall.SIGSTOP, f.scaler.Process.Pid)
		close(asleep)
	})
	overNow := sync.OnceFunc(func() { close(over) })
	ctx, stop := context.WithCancel(f.t.Context())
	watched := make(chan error, 1)
	go func() {
		watched <- f.assignments(ctx, client, func(a *cluster.Assignment) bool {
			begin()
			if a.Phase == cluster.Electing {
				fallAsleep()
			}
			mu.Lock()
			defer mu.Unlock()
			if all = append(all, a); anotherLeads(first, a) {
				overNow()
			}
			return true
		})
	}()
	wait := func(what string, c <-chan struct{}) {
		select {
		case <-c:
		case <-time.After(limit):
			f.t.Fatalf("%s: not after %v", what, limit)
		}
	}
	wait("the assignment is known", begun)
	f.kill(syscall.SIGKILL, p.mysqld)
	wait("a failover has begun", asleep)
	wait("another scaler has ended the failover", over)
	return func() {
		log := filepath.Join(f.dir, "farm", "scaler.log")
		said := func() int {
			text, err := os.ReadFile(log)
			if err != nil {
				f.t.Fatal(err)
			}
			return strings.Count(string(text), "not leading any more")
		}
		before := said()
		f.kill(syscall.SIGCONT, f.scaler.Process.Pid)
		f.await("the first scaler knows that it does not lead", func() error {
			if said() == before {
				return errors.New("it has not said so")
			}
			return nil
		})
		f.settle()
		stop()
		if err := <-watched; !errors.Is(err, context.Canceled) {
			f.t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		term := all[0].Term
		for i, a := range all {
			if a.Term < term {
				f.t.Errorf("the scaler that had slept wrote in term %d, after term %d had begun: %q", a.Term, term, a.Why)
			}
			if term = max(term, a.Term); a.Term != first.Term && i > 0 && all[i-1].Term == first.Term {
				f.t.Logf("slept after %q; the next scaler wrote %q", all[i-1].Why, a.Why)
			}
		}
	}
}
