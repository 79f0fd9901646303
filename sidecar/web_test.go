package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/goccy/go-yaml"

	"farmhand/internal/farmtest"
	"farmhand/internal/report"
	"farmhand/internal/topology"
	"farmhand/sidecar/internal/hook"
)

// webNode is a node of the role "web" with its files in one directory.
type webNode struct {
	node
	members, topology, hooks, state string
}

const membersYAML = `
epoch: 7
hosts:
  - {name: db1, role: primary, address: 127.0.0.1:1}
  - {name: db2, role: replica, address: 127.0.0.1:2}
  - {name: cache1, role: memcached, address: 127.0.0.1:3}
`

// newWebNode writes the node's configuration, to which add may add.
func newWebNode(t *testing.T, add func(n *webNode, web, hooks map[string]any)) *webNode {
	t.Helper()
	dir := farmtest.ShortDir(t)
	n := &webNode{
		node:    node{dir: dir, config: filepath.Join(dir, "sidecar.yaml")},
		members: filepath.Join(dir, "members.yaml"), topology: filepath.Join(dir, "topology.json"),
		hooks: filepath.Join(dir, "hooks.d"), state: filepath.Join(dir, "state"),
	}
	web, hooks := map[string]any{"topology": n.topology}, map[string]any{"directory": n.hooks}
	if add != nil {
		add(n, web, hooks)
	}
	text, err := yaml.Marshal(map[string]any{
		"role": "web", "name": "web1", "state": n.state, "web": web, "hooks": hooks,
		"membership": map[string]any{"file": n.members},
	})
	must(t, err)
	must(t, os.WriteFile(n.config, text, 0o644))
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (n *webNode) setMembers(t *testing.T, content string) {
	t.Helper()
	must(t, os.WriteFile(n.members+".new", []byte(content), 0o644))
	must(t, os.Rename(n.members+".new", n.members))
}

func (n *webNode) hook(t *testing.T, kind, name, script string) {
	t.Helper()
	dir := filepath.Join(n.hooks, kind)
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

func (n *webNode) path(name string) string { return filepath.Join(n.dir, name) }

func (n *webNode) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(n.path(name))
	must(t, err)
	return string(data)
}

// awaitFile waits until a file has a content.
func (n *webNode) awaitFile(t *testing.T, name, want string) {
	t.Helper()
	farmtest.Eventually(t, name+" is as wanted", func() error {
		data, err := os.ReadFile(n.path(name))
		if err == nil && string(data) != want {
			err = fmt.Errorf("it has %q, want %q", data, want)
		}
		return err
	})
}

func (n *webNode) end(t *testing.T) {
	t.Helper()
	must(t, n.cmd.Process.Signal(syscall.SIGTERM))
	n.await(t, "stopped", func(r report.Report) bool { return r.State == report.Stopped })
	if err := n.cmd.Wait(); err != nil {
		t.Errorf("the sidecar ended with %v", err)
	}
}

// sidecar runs a command of the sidecar.
func sidecar(args ...string) (out string, err error) {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asSidecar+"=1")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	return said.String(), err
}

// delivered returns the events that are done with, in the order of the journal.
func (n *webNode) delivered(t *testing.T) []string {
	t.Helper()
	out, err := sidecar("events", "--dir", n.state, "--json")
	must(t, err)
	var all []string
	for line := range strings.Lines(out) {
		var r hook.Record
		must(t, json.Unmarshal([]byte(line), &r))
		if r.Hook == "" && r.Result == hook.Delivered {
			all = append(all, string(r.Kind)+" "+r.Host.Name)
		}
	}
	return all
}

func (n *webNode) awaitDelivered(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want) // the order is per host
	farmtest.Eventually(t, "the journal has these events", func() error {
		got := n.delivered(t)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("it has %v, want %v", got, want)
		}
		return nil
	})
}

func TestWebNodeFollowsTheMembership(t *testing.T) {
	n := newWebNode(t, func(n *webNode, web, _ map[string]any) {
		web["templates"] = []any{map[string]any{
			"template": n.path("memcached.tmpl"), "destination": n.path("memcached.ini"),
			"check": []string{"/bin/sh", "-c", `! grep -q 127.0.0.9 "$1"`, "check", "{}"},
		}}
	})
	must(t, os.WriteFile(n.path("memcached.tmpl"), []byte(`save_path={{range up "memcached"}}{{.Address}}{{end}}`), 0o644))
	n.hook(t, "new-primary", "10-note", `echo "$FARMHAND_HOST $FARMHAND_ADDRESS $FARMHAND_FIELD_EPOCH $FARMHAND_FIELD_PREVIOUS on $FARMHAND_NODE" >>`+n.path("primaries"))
	n.setMembers(t, membersYAML)
	n.start(t)
	n.await(t, "running", running)
	n.awaitFile(t, "primaries", "db1 127.0.0.1:1 7  on web1\n")
	first, err := topology.Read(n.topology)
	must(t, err)
	if c := first.Clusters["main"]; c.Epoch != 7 || c.Primary.Name != "db1" || len(c.Replicas) != 1 || c.Replicas[0].Name != "db2" {
		t.Errorf("the topology is %+v", c)
	}
	n.awaitFile(t, "memcached.ini", "save_path=127.0.0.1:3")

	// A switchover; and a cache whose new address the check does not like.
	n.setMembers(t, strings.NewReplacer("epoch: 7", "epoch: 8", "db1, role: primary", "db1, role: replica", "db2, role: replica", "db2, role: primary",
		"127.0.0.1:3", "127.0.0.9:3").Replace(membersYAML))
	n.await(t, "the check's complaint", func(r report.Report) bool { return strings.Contains(r.Detail, "the check refuses the new file") })
	n.awaitFile(t, "primaries", "db1 127.0.0.1:1 7  on web1\ndb2 127.0.0.1:2 8 db1 on web1\n")
	second, err := topology.Read(n.topology)
	must(t, err)
	if c := second.Clusters["main"]; c.Epoch != 8 || c.Primary.Name != "db2" || len(c.Replicas) != 1 || c.Replicas[0].Name != "db1" {
		t.Errorf("the topology is %+v", c)
	}
	if got := n.read(t, "memcached.ini"); got != "save_path=127.0.0.1:3" {
		t.Errorf("a file that was refused is there: %q", got)
	}

	// An older epoch and a bad file change nothing, and are said.
	before, err := os.ReadFile(n.topology)
	must(t, err)
	n.setMembers(t, membersYAML)
	n.await(t, "the refusal", func(r report.Report) bool { return strings.Contains(r.Detail, "epoch 7 is older than 8") })
	n.setMembers(t, "epoch: 9\nhosts: [")
	n.await(t, "the trouble", func(r report.Report) bool { return strings.Contains(r.Detail, n.members) })
	if after, err := os.ReadFile(n.topology); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the topology changed: %s, %v", after, err)
	}
	first3 := []string{"host-up db1", "host-up db2", "host-up cache1", "new-primary db1"}
	moved := []string{"host-down cache1", "host-up cache1", "new-primary db2"}
	n.awaitDelivered(t, slices.Concat(first3, moved)...)
	n.end(t)

	// What changed meanwhile is told after the restart, and nothing twice.
	n.setMembers(t, "epoch: 8\nhosts:\n  - {name: db2, role: primary, address: 127.0.0.1:2}\n  - {name: cache1, role: memcached, address: 127.0.0.9:3}\n")
	n.start(t)
	n.awaitDelivered(t, slices.Concat(first3, moved, []string{"host-down db1"})...)
	n.end(t)
}

// TestForeignToolWaitsForItsHooks: it sees what they say, without secrets, and
// ends with their result.
func TestForeignToolWaitsForItsHooks(t *testing.T) {
	n := newWebNode(t, func(n *webNode, _, hooks map[string]any) {
		hooks["secret_files"] = []string{n.path("secret")}
		hooks["time_limit"] = "300ms"
	})
	must(t, os.WriteFile(n.path("secret"), []byte("hunter2hunter2\n"), 0o600))
	n.hook(t, "custom", "10-says", `echo "zone $FARMHAND_FIELD_ZONE, $(cat `+n.path("secret")+`)"`)
	n.hook(t, "scaling", "10-fails", "echo it broke; exit 3")
	n.hook(t, "scaling", "20-hangs", "sleep 1000")
	n.hook(t, "scaling", "30-works", "true")
	n.setMembers(t, membersYAML)
	n.start(t)
	n.await(t, "running", running)
	about := []string{"--host", "web9", "--role", "web", "--address", "10.0.0.9", "--dir", n.state, "--wait", "--field", "zone=b"}
	out, err := sidecar(append([]string{"event", "custom"}, about...)...)
	if err != nil || !strings.Contains(out, "10-says: ok after") || !strings.Contains(out, "\n  zone b, ***\n") {
		t.Errorf("%v, it says\n%s", err, out)
	}
	out, err = sidecar(append([]string{"event", "scaling"}, about...)...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("ended with %v", err)
	}
	for _, want := range []string{"10-fails: failed (exit status 3)", "\n  it broke\n", "20-hangs: timed-out", "30-works: ok", "not all hooks ended well"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	n.end(t)
}

// TestProxyIsKept: through its own death, and through the sidecar's, which no
// client notices.
func TestProxyIsKept(t *testing.T) {
	address := farmtest.FreePort(t).String()
	n := newWebNode(t, func(n *webNode, web, _ map[string]any) {
		program := n.path("proxy")
		must(t, farmtest.Build(filepath.Dir(program), "proxy"))
		web["proxy"] = map[string]any{"command": []string{program, "run", n.path("proxy.yaml")}, "stop_after": "30s"}
	})
	must(t, os.WriteFile(n.path("monitor.password"), []byte("x\n"), 0o600))
	must(t, os.WriteFile(n.path("proxy.yaml"), fmt.Appendf(nil, `
listen: [{tcp: "%s"}, {unix: %s}]
topology: %s
monitor: {user: farmhand, password_file: %s}
admin: {address: ""}
`, address, n.path("p.sock"), n.topology, n.path("monitor.password")), 0o644))
	serves := func() error {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	n.start(t)
	// Without a membership there is no topology, and nothing for the proxy to do.
	n.await(t, "the trouble", func(r report.Report) bool { return r.State == report.Starting && strings.Contains(r.Detail, n.members) })
	n.setMembers(t, membersYAML)
	first := n.await(t, "running", running)
	farmtest.Eventually(t, "the proxy accepts", serves)

	must(t, syscall.Kill(first.PID, syscall.SIGKILL))
	n.await(t, "failed", func(r report.Report) bool {
		return r.State == report.Failed && strings.Contains(r.Detail, "next try in 500ms")
	})
	second := n.await(t, "running again", running)
	if second.PID == first.PID {
		t.Error("the same process runs again")
	}
	farmtest.Eventually(t, "the proxy accepts again", serves)

	orphan := farmtest.Watch(t, second.PID)
	t.Cleanup(func() {
		if t.Failed() { // nobody else ends it then
			_ = syscall.Kill(second.PID, syscall.SIGKILL)
		}
	})
	must(t, n.cmd.Process.Kill())
	_ = n.cmd.Wait() // killed
	if err := serves(); err != nil {
		t.Errorf("without the sidecar the proxy does not accept: %v", err)
	}
	n.start(t)
	third := n.await(t, "running under the new sidecar", running)
	t.Cleanup(func() {
		if t.Failed() {
			_ = syscall.Kill(third.PID, syscall.SIGKILL)
		}
	})
	orphan.AwaitEnd(t) // it was relieved
	if err := serves(); err != nil || third.PID == second.PID {
		t.Errorf("the process %d does not accept: %v", third.PID, err)
	}
	n.end(t)
	if err := syscall.Kill(third.PID, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the proxy is there after the sidecar has stopped: %v", err)
	}
}
