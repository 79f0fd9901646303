package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/farmtest"
	processlist "farmhand/internal/process"
	"farmhand/internal/sqstest"
)

// TestWorkersOfAFarm: 500 jobs are done by one to four servers, whose workers and sidecars
// are killed at random, and the scaler, too. Every job is done, none by two at once, and
// one server is left: the one that has a job while the others are not needed any more.
func TestWorkersOfAFarm(t *testing.T) {
	farmtest.Long(t)
	const jobs, least = 500, 8 // least are left when the killing ends
	sqstest.SetCredentials(t)
	sqs := sqstest.NewSQS(t)
	address := sqs.Queue("jobs", sqstest.QueueOptions{})
	l := newLocal(t)
	work := filepath.Join(filepath.Dir(l.dir), "jobs")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	// A lock is held for as long as anything of the job runs.
	script := fmt.Sprintf(`cd %s; job=$(cat); exec 9>lock-$job; flock -n 9 || echo $job >>twice-at-once; `+
		`case $job in long) echo $0 >>begun; while [ ! -e go-on ]; do sleep 0.2; done;; *) sleep 0.8;; esac; echo $job >>done`, work)
	l.withRoles(t, fmt.Sprintf(`  db: {kind: mysql, count: 1}
  jobs:
    kind: worker
    count: {min: 1, max: 4}
    scaling: [{kind: queue, queue: %q, per_server: 20, window: 20s, out_cooldown: 0s, in_cooldown: 5s}]
    parameters: {queue: %q, processes: 2, hold: 8s, limit: 5m, drain_limit: 5m, command: [sh, -c, %q, "{name}"]}
`, address, address, script))
	l.start(t)
	l.await(t, "farm ready")
	for i := range jobs {
		sqs.Put("jobs", fmt.Sprintf("job%d", i))
	}

	chance := rand.New(rand.NewPCG(3, 5))
	most, kills := 0, map[string]int{}
	kill := func(what string, is func(arguments []string) bool) {
		found := l.find(t, is)
		if len(found) == 0 {
			return
		}
		if err := syscall.Kill(found[chance.IntN(len(found))].PID, syscall.SIGKILL); err == nil {
			kills[what]++
		}
	}
	for begun, again := time.Now(), 0; sqs.Left("jobs") > least; again++ {
		if time.Since(begun) > 10*time.Minute {
			t.Fatalf("%d jobs are left; killed %v", sqs.Left("jobs"), kills)
		}
		time.Sleep(time.Duration(200+chance.IntN(1500)) * time.Millisecond) // when something is killed is a matter of chance
		most = max(most, len(l.find(t, isSidecar)))
		switch {
		case again%25 == 12 && kills["scaler"] < 2:
			if err := l.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = l.wait(t) // it was killed
			kills["scaler"]++
			l.start(t)
		case again%6 == 3:
			kill("sidecar", isSidecar)
		default:
			kill("worker", isWorker)
		}
	}
	sqs.Put("jobs", "long")
	farmtest.Eventually(t, "the long job has begun", func() error { _, err := os.Stat(filepath.Join(work, "begun")); return err })
	servers := func(s status) (names []string) {
		for _, n := range s.Nodes {
			if n.Kind == "worker" {
				names = append(names, n.Name)
			}
		}
		return names
	}
	s := l.awaitStatus(t, "one server is left", func(s status) bool { return len(servers(s)) == 1 })
	begun, err := os.ReadFile(filepath.Join(work, "begun"))
	if err != nil || !slices.Equal(servers(s), strings.Fields(string(begun))) {
		t.Errorf("left is %v, and the long job was begun by %q, %v", servers(s), begun, err)
	}
	if err := os.WriteFile(filepath.Join(work, "go-on"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	farmtest.Eventually(t, "every job is done", func() error {
		if n := sqs.Left("jobs"); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})

	read := func(name string) map[string]int {
		data, err := os.ReadFile(filepath.Join(work, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		times := map[string]int{}
		for job := range strings.FieldsSeq(string(data)) {
			times[job]++
		}
		return times
	}
	if n := read("done")["long"]; n != 1 {
		t.Errorf("the long job ended %d times", n)
	}
	done, more, deliveries := read("done"), 0, 0
	for _, h := range sqs.Histories("jobs") {
		deliveries += len(h.Deliveries)
		switch n := done[h.Body]; {
		case n == 0 || !h.Deleted:
			t.Errorf("%s was done %d times: %+v", h.Body, n, h)
		case n > 1:
			more++
		}
	}
	if len(done) != jobs+1 {
		t.Errorf("%d jobs were done of %d", len(done), jobs+1)
	}
	for job := range read("twice-at-once") {
		t.Errorf("%s was done by two at once", job)
	}
	if most != 4 {
		t.Errorf("there were at most %d servers, not 4", most)
	}
	for what, least := range map[string]int{"worker": 10, "sidecar": 3, "scaler": 1} {
		if kills[what] < least {
			t.Errorf("killed %v; %d of %s is too few to show anything", kills, kills[what], what)
		}
	}
	t.Logf("%d jobs, 1 to %d servers of 2 workers, killed %v: %d deliveries, %d jobs done more than once", jobs, most, kills, deliveries, more)
}

// isSidecar is about the command line of a sidecar of the role jobs, isWorker about that of a
// worker.
func isSidecar(arguments []string) bool {
	return len(arguments) == 3 && arguments[1] == "run" && strings.Contains(arguments[2], "/jobs")
}

func isWorker(arguments []string) bool { return len(arguments) > 2 && arguments[1] == "work" }

// find returns processes of the farm.
func (l *local) find(t *testing.T, is func(arguments []string) bool) []processlist.Found {
	t.Helper()
	found, err := processlist.Find(func(f processlist.Found) bool {
		return is(f.Arguments) && slices.ContainsFunc(f.Environment, func(v string) bool { return strings.HasPrefix(v, "FARMHAND_INSTANCE="+l.dir+"/") })
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
