package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/internal/enrol"
	"farmhand/internal/farmtest"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/control"
)

// controlProcess is a control node that runs as a process of its own.
type controlProcess struct {
	*process
	name, dir, address, ports string
}

func newControl(t *testing.T, name string) *controlProcess {
	t.Helper()
	first := farmtest.FreePort(t)
	var ports []string
	for range 3 {
		port := fmt.Sprint(farmtest.FreePort(t).Port())
		for slices.Contains(ports, port) {
			port = fmt.Sprint(farmtest.FreePort(t).Port())
		}
		ports = append(ports, port)
	}
	return &controlProcess{name: name, dir: filepath.Join(t.TempDir(), name), address: first.Addr().String(), ports: strings.Join(ports, ",")}
}

func (c *controlProcess) run(t *testing.T) {
	t.Helper()
	c.process = startProcess(t, scaler("run", c.dir, "--programs", built))
	c.line(t, "ready line", begins("registry ready: farm shop, member "+c.name))
}

// token is one for this control node, made at another.
func (c *controlProcess) token(t *testing.T, at *controlProcess, life string) string {
	t.Helper()
	return output(t, "registry", "token", at.dir, "--control", "--name", c.name, "--address", c.address, "--ports", c.ports, "--for", life)
}

func (c *controlProcess) join(token string) (string, error) {
	cmd := scaler("join", "-", "--dir", c.dir)
	cmd.Stdin = strings.NewReader(token)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *controlProcess) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for range c.lines {
	}
	_ = c.cmd.Wait() // it was killed
}

// leads is who leads the farm, as a control node's registry says; empty for nobody.
func (c *controlProcess) leads(t *testing.T) (leads string) {
	t.Helper()
	err := control.Dir{Path: c.dir}.With(func(client *registry.Client, _ control.Config) error {
		term, err := client.Leader(t.Context())
		leads = term.Leader
		return err
	})
	if err != nil && !errors.Is(err, registry.ErrUnavailable) {
		t.Fatal(err)
	}
	return leads
}

func (c *controlProcess) awaitLeader(t *testing.T, is func(string) bool) (leads string) {
	t.Helper()
	farmtest.Eventually(t, "another leads", func() error {
		if leads = c.leads(t); leads == "" || !is(leads) {
			return fmt.Errorf("%q leads", leads)
		}
		return nil
	})
	return leads
}

// writing writes to the journal all the time; stop returns how much of it was
// acknowledged, and the longest time that nothing was.
func (c *controlProcess) writing(t *testing.T) (stop func() (acknowledged []string, longest time.Duration)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all []string
	var longest time.Duration
	done := make(chan error, 1)
	go func() {
		done <- control.Dir{Path: c.dir}.With(func(client *registry.Client, _ control.Config) error {
			kept := make(chan error, 1)
			go func() { kept <- client.KeepEndpoints(ctx) }()
			last := time.Now()
			for n := 0; ctx.Err() == nil; n++ {
				text := fmt.Sprint("write ", n)
				call, end := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				_, err := client.Append(call, registry.Entry{Kind: "test", Who: "test", Text: text})
				end()
				switch {
				case err == nil:
					all = append(all, text)
					longest = max(longest, time.Since(last))
					last = time.Now()
				case !errors.Is(err, registry.ErrUnavailable):
					return err
				}
				select { // the journal keeps ten thousand
				case <-time.After(5 * time.Millisecond):
				case <-ctx.Done():
				}
			}
			if err := <-kept; !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})
	}()
	return func() ([]string, time.Duration) {
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return all, longest
	}
}

// check is that everything that was acknowledged is there.
func (c *controlProcess) check(t *testing.T, acknowledged []string) {
	t.Helper()
	if err := (control.Dir{Path: c.dir}).With(func(client *registry.Client, _ control.Config) error {
		entries, err := client.Entries(t.Context(), 0)
		there := map[string]bool{}
		for _, e := range entries {
			there[e.Text] = true
		}
		for _, text := range acknowledged {
			if !there[text] {
				t.Errorf("%s was acknowledged and is lost", text)
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestControlNodesJoin: from one to three as an operator does it, while a client
// writes; the leader is killed and is gone for good; another takes its place. A node
// that joined when there was one goes on.
func TestControlNodesJoin(t *testing.T) {
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	one, two, three := newControl(t, "scaler-1"), newControl(t, "scaler-2"), newControl(t, "scaler-3")
	output(t, "registry", "init", one.dir, "--farm", "shop", "--member", one.name+"="+one.address, "--ports", one.ports)
	one.run(t)
	// It is led, but nothing is launched: this is about who leads.
	if err := (control.Dir{Path: one.dir}).With(func(client *registry.Client, _ control.Config) error {
		memory, err := registry.ControlRecord("memory")
		if err != nil {
			return err
		}
		return client.Replace(t.Context(), memory, nil, []byte(`{"paused":"by the test"}`))
	}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "farm.yaml")
	if err := os.WriteFile(file, []byte("name: shop\nroles:\n  db: {kind: mysql, count: 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	output(t, "apply", "--control", one.dir, file)
	one.awaitLeader(t, func(who string) bool { return strings.Contains(who, one.name) })

	home := filepath.Join(t.TempDir(), "web-1")
	joinNode := exec.Command(filepath.Join(bin, "sidecar"), "join", "-", "--dir", home)
	joinNode.Stdin = strings.NewReader(output(t, "registry", "token", one.dir, "--role", "web", "--name", "web-1"))
	if out, err := joinNode.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	node := startProcess(t, exec.Command(filepath.Join(bin, "sidecar"), "member", home, "--lease", "3s"))
	node.line(t, "membership", begins("member: web-1"))
	known := func(want int) {
		t.Helper()
		farmtest.Eventually(t, "the node knows the control nodes", func() error {
			n, err := enrol.Read(home)
			if err == nil && (len(n.Endpoints) != want || len(n.Scalers) != want) {
				err = fmt.Errorf("%+v", n)
			}
			return err
		})
	}

	stop := one.writing(t)
	token := two.token(t, one, "10m")
	if out, err := two.join(token); err != nil || !strings.Contains(out, "joined as control node scaler-2") {
		t.Fatalf("%v: %s", err, out)
	}
	twice := newControl(t, "twice")
	if out, err := twice.join(token); err == nil || strings.Contains(out, strings.TrimSpace(token)) {
		t.Errorf("a token was used twice: %v: %s", err, out)
	}
	two.run(t)
	if out, err := three.join(three.token(t, two, "10m")); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	three.run(t)
	known(3)
	if table := output(t, "registry", "members", one.dir); strings.Count(table, "follows") != 2 || strings.Count(table, "leads") != 1 || !strings.Contains(table, "web-1") {
		t.Errorf("the members are\n%s", table)
	}
	acknowledged, longest := stop()
	three.check(t, acknowledged)
	t.Logf("one became three: %d writes, never none for longer than %v", len(acknowledged), longest)

	// The scaler that leads is killed, and comes back never.
	stop = two.writing(t)
	one.kill(t)
	killed := time.Now()
	leads := two.awaitLeader(t, func(who string) bool { return !strings.Contains(who, one.name) })
	t.Logf("%v leads %v after kill -9", leads, time.Since(killed))
	if took := time.Since(killed); took > 15*time.Second {
		t.Errorf("nobody led for %v; the lease is 3 s", took)
	}
	if err := os.RemoveAll(one.dir); err != nil {
		t.Fatal(err)
	}
	if table := output(t, "registry", "members", two.dir); strings.Count(table, "silent") != 1 {
		t.Errorf("without the first the members are\n%s", table)
	}
	output(t, "registry", "remove", two.dir, one.name)
	known(2)
	again := newControl(t, one.name) // elsewhere
	if out, err := again.join(again.token(t, three, "10m")); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	again.run(t)
	known(3)
	after, longest := stop()
	again.check(t, after)
	t.Logf("the leader lost and replaced: %d writes, never none for longer than %v", len(after), longest)
	if _, err := enrol.Renew(t.Context(), home); err != nil {
		t.Errorf("the node's certificate is not renewed: %v", err)
	}
	var status struct {
		Scalers []struct{ Name, State string }
	}
	if err := json.Unmarshal([]byte(output(t, "status", "--control", again.dir, "--json")), &status); err != nil || len(status.Scalers) != 3 {
		t.Errorf("status shows %+v, %v", status, err)
	}

	// A restart of the node: it finds those that it has learned of.
	node.stop(t)
	node = startProcess(t, exec.Command(filepath.Join(bin, "sidecar"), "member", home, "--lease", "3s"))
	node.line(t, "membership", begins("member: web-1"))
	node.stop(t)
	for _, c := range []*controlProcess{again, three, two} {
		c.stopAnyhow(t)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "instances")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was launched: %v", err)
	}
}

// stopAnyhow stops a control node of which the others may be gone already.
func (c *controlProcess) stopAnyhow(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for range c.lines {
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("%s ended with %v", c.name, err)
	}
}
