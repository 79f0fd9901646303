package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/farmtest"
)

// process is a program that runs until the test's end, and its output by lines.
type process struct {
	cmd   *exec.Cmd
	lines chan string
}

func startProcess(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, lines: make(chan string, 1000)}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill() // Wait says what became of it
			for range p.lines {
			}
			_ = cmd.Wait()
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd.Args, complaints.String())
		}
	})
	return p
}

// line waits for a line that is as wanted.
func (p *process) line(t *testing.T, what string, is func(string) bool) string {
	t.Helper()
	timeout := time.After(limit)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("%v ended before %s", p.cmd.Args, what)
			}
			if is(line) {
				return line
			}
		case <-timeout:
			t.Fatalf("%v: no %s within %v", p.cmd.Args, what, limit)
		}
	}
}

func begins(prefix string) func(string) bool {
	return func(line string) bool { return strings.HasPrefix(line, prefix) }
}

// stop sends SIGTERM and waits for an end without an error.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for range p.lines {
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v: %v", p.cmd.Args, err)
	}
}

// output is what a command of the scaler prints.
func output(t *testing.T, args ...string) string {
	t.Helper()
	cmd := scaler(args...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("scaler %v: %v\n%s", args, err, complaints.String())
	}
	return out.String()
}

// view is one line of "members --watch --json".
type view struct {
	Members []struct{ Name, Role, Address string }
	Lost    string
}

func (v view) names() string {
	var all []string
	for _, m := range v.Members {
		all = append(all, m.Name)
	}
	return strings.Join(all, " ")
}

func (p *process) view(t *testing.T, want string) view {
	t.Helper()
	var v view
	p.line(t, fmt.Sprintf("view with members %q", want), func(line string) bool {
		v = view{}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return v.Lost == "" && v.names() == want
	})
	return v
}

// TestRegistryOfPrograms: from an empty directory to a member that is killed, as
// an operator does it.
func TestRegistryOfPrograms(t *testing.T) {
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "registry")
	first := farmtest.FreePort(t)
	ports := []string{strconv.Itoa(int(first.Port())), strconv.Itoa(int(farmtest.FreePort(t).Port())), strconv.Itoa(int(farmtest.FreePort(t).Port()))}
	output(t, "registry", "init", dir, "--farm", "shop", "--member", "a="+first.Addr().String(), "--ports", strings.Join(ports, ","))
	run := func() *process {
		p := startProcess(t, scaler("registry", "run", dir))
		p.line(t, "ready line", begins("registry ready: farm shop, member a"))
		return p
	}
	registry := run()

	watch := startProcess(t, scaler("registry", "members", dir, "--watch", "--json"))
	watch.view(t, "")
	follow := startProcess(t, scaler("registry", "events", dir, "--follow"))
	nodes := t.TempDir()
	join := func(name string, token string) (string, error) {
		cmd := exec.Command(filepath.Join(bin, "sidecar"), "join", "-", "--dir", filepath.Join(nodes, name), "--name", name)
		cmd.Stdin = strings.NewReader(token)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	token := output(t, "registry", "token", dir, "--role", "web", "--name", "web-*", "--for", "10m")
	if out, err := join("web-1", token); err != nil || !strings.Contains(out, "joined farm shop as web-1 with the role web") {
		t.Fatalf("%v: %s", err, out)
	}
	follow.line(t, "event of the joining", func(line string) bool { return strings.Contains(line, "node web-1 joined") })
	if out, err := join("web-2", token); err == nil || !strings.Contains(out, "used already") || strings.Contains(out, strings.TrimSpace(token)) {
		t.Errorf("a token was used twice: %v, %s", err, out)
	}
	member := func(name string) *process {
		cmd := exec.Command(filepath.Join(bin, "sidecar"), "member", filepath.Join(nodes, name), "--lease", "2s", "--address", "127.0.0.1:3306")
		p := startProcess(t, cmd)
		p.line(t, "membership", begins("member: "+name+" of farm shop"))
		return p
	}
	one := member("web-1")
	if v := watch.view(t, "web-1"); v.Members[0].Role != "web" || v.Members[0].Address != "127.0.0.1:3306" {
		t.Errorf("the member is %+v", v.Members[0])
	}
	if table := output(t, "registry", "members", dir); !strings.Contains(table, "web-1  web   127.0.0.1:3306") {
		t.Errorf("the table is\n%s", table)
	}

	// In order: gone at once. Killed: gone within the lease, which etcd looks at
	// twice a second.
	one.stop(t)
	watch.view(t, "")
	one = member("web-1")
	watch.view(t, "web-1")
	killed := time.Now()
	if err := one.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	watch.view(t, "")
	if took := time.Since(killed); took > 5*time.Second {
		t.Errorf("it was gone %v after kill -9; its lease is 2 s", took)
	}

	// A restart of the registry: the member, the watcher and the follower go on.
	again := member("web-1")
	watch.view(t, "web-1")
	registry.stop(t)
	registry = run()
	if out, err := join("web-3", output(t, "registry", "token", dir, "--role", "web", "--name", "web-3")); err != nil {
		t.Fatalf("after the restart: %v: %s", err, out)
	}
	follow.line(t, "event after the restart", func(line string) bool { return strings.Contains(line, "node web-3 joined") })
	member("web-3")
	watch.view(t, "web-1 web-3")

	// An expelled node is no member, and its process ends with an error.
	output(t, "registry", "expel", dir, "web-1")
	watch.view(t, "web-3")
	for range again.lines {
	}
	if err := again.cmd.Wait(); err == nil {
		t.Error("the expelled node's process ended without an error")
	}
	lines := strings.Split(strings.TrimSpace(output(t, "registry", "events", dir, "--json")), "\n")
	for _, line := range lines {
		var e struct {
			Revision  int64
			Kind, Who string
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Revision == 0 || e.Kind == "" || e.Who == "" {
			t.Errorf("%s: %+v, %v", line, e, err)
		}
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, "node-expelled") {
		t.Errorf("the last event is %s", last)
	}
	watch.stop(t)
	follow.stop(t)
	registry.stop(t)
	if _, err := os.Stat(filepath.Join(dir, "data")); err != nil {
		t.Error(err)
	}
}
