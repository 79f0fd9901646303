package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/goccy/go-yaml"

	"farmhand/internal/farmtest"
	"farmhand/internal/report"
	"farmhand/internal/sqstest"
	"farmhand/sidecar/internal/work"
)

// TestWorkerNode: a node of the role worker does jobs, takes none while it leaves, does what
// it has begun first, and works again if it stays after all. Its workers outlive a sidecar
// that is killed.
func TestWorkerNode(t *testing.T) {
	sqstest.SetCredentials(t)
	sqs := sqstest.NewSQS(t)
	address := sqs.Queue("jobs", sqstest.QueueOptions{})
	dir := farmtest.ShortDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	n := &webNode{node: node{dir: dir, config: at("sidecar.yaml")}, members: at("members.yaml"), state: at("state")}
	script := fmt.Sprintf(`job=$(cat); echo $job $GREETING >>%s; case $job in long) while [ ! -e %s ]; do sleep 0.05; done;; esac; echo $job >>%s`, at("begun"), at("go-on"), at("done"))
	text, err := yaml.Marshal(map[string]any{
		"role": "worker", "name": "jobs1", "state": n.state, "membership": map[string]any{"file": n.members},
		"worker": map[string]any{
			"queue": address, "directory": at("work"), "processes": 2, "hold": "4s", "command": []string{"sh", "-c", script},
			"environment": map[string]string{"GREETING": "hello"},
		},
	})
	must(t, err)
	must(t, os.WriteFile(n.config, text, 0o644))
	members := func(state string) {
		n.setMembers(t, "epoch: 7\nhosts:\n  - {name: db1, role: primary, address: 127.0.0.1:1}\n  - {name: jobs1, role: worker, address: jobs1, state: "+state+"}\n")
	}
	members("up")
	n.start(t)
	n.await(t, "running", running)
	sqs.Put("jobs", "short")
	n.awaitFile(t, "done", "short\n")
	n.awaitFile(t, "begun", "short hello\n")

	sqs.Put("jobs", "long")
	n.awaitFile(t, "begun", "short hello\nlong hello\n")
	members("leaving")
	farmtest.Eventually(t, "the workers are to rest", func() error { _, err := os.Stat(at("work/rest")); return err })
	free := func(name string) bool {
		busy, _, err := work.Ask(at("work/" + name + ".turn"))
		must(t, err)
		return !busy
	}
	farmtest.Eventually(t, "one of them rests", func() error {
		if !free("worker1") && !free("worker2") {
			return fmt.Errorf("both take messages")
		}
		return nil
	})
	sqs.Put("jobs", "next")
	must(t, n.cmd.Process.Kill())
	_ = n.cmd.Wait() // it was killed
	n.start(t)
	n.await(t, "running", running)
	must(t, os.WriteFile(at("go-on"), nil, 0o644))
	n.awaitFile(t, "done", "short\nlong\n")
	farmtest.Eventually(t, "all rest", func() error {
		if !free("worker1") || !free("worker2") {
			return fmt.Errorf("one takes messages")
		}
		return nil
	})
	if h := sqs.Histories("jobs"); len(h[1].Deliveries) != 1 || !h[1].Deleted || len(h[2].Deliveries) != 0 {
		t.Errorf("a job that goes on, and one that is not to begin: %+v", h[1:])
	}

	members("up")
	n.awaitFile(t, "done", "short\nlong\nnext\n")
	must(t, n.cmd.Process.Signal(syscall.SIGTERM))
	n.await(t, "stopped", func(r report.Report) bool { return r.State == report.Stopped })
	_ = n.cmd.Wait() // how a worker ended that another sidecar had started nobody knows
	if log := n.read(t, "sidecar.log"); strings.Contains(log, "panic") {
		t.Errorf("it said\n%s", log)
	}
}
