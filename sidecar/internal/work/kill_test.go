package work_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/child"
	"farmhand/internal/sqstest"
	"farmhand/sidecar/internal/work"
)

// What makes the test binary a worker of its own.
const (
	asWorker  = "FARMHAND_TEST_QUEUE"
	jobScript = "FARMHAND_TEST_JOB"
)

// workAsChild is a worker until SIGTERM.
func workAsChild(address string) error {
	q, err := openQueue(context.Background(), address)
	if err != nil {
		return err
	}
	return work.Run(context.Background(), context.Background(), work.Config{
		Queue: q, Command: []string{"sh", "-c", os.Getenv(jobScript)}, Hold: work.MinHold, Wait: time.Second, Limit: time.Minute,
		Output: os.Stderr, Log: zap.NewNop(),
	})
}

// TestWorkersThatAreKilled: every job is done, and none by two at once.
func TestWorkersThatAreKilled(t *testing.T) {
	jobs, workers, kills := 30, 4, 5
	if !testing.Short() { // half a minute
		jobs, workers, kills = 500, 8, 80
	}
	sqs := sqstest.NewSQS(t)
	address := sqs.Queue("jobs", sqstest.QueueOptions{})
	dir := t.TempDir()
	// A lock is held for as long as anything of the job runs.
	script := `cd ` + dir + `; job=$(cat)
		exec 9>lock-$job; flock -n 9 || echo $job >>twice-at-once
		sleep 0.1
		echo $job >>done`
	for i := range jobs {
		sqs.Put("jobs", fmt.Sprintf("job%d", i))
	}
	chance := rand.New(rand.NewPCG(3, 5))
	start := func() *child.Child {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asWorker+"="+address, jobScript+"="+script)
		cmd.Stderr = os.Stderr
		c, err := child.Start(cmd, syscall.SIGKILL)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	running := make([]*child.Child, workers)
	for i := range running {
		running[i] = start()
	}
	defer func() {
		var ended sync.WaitGroup
		for _, c := range running {
			c.Signal(syscall.SIGKILL)
			ended.Go(func() { <-c.Done() })
		}
		ended.Wait()
	}()
	deadline := time.Now().Add(3 * time.Minute)
	killed := 0
	for sqs.Left("jobs") > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d jobs are left", sqs.Left("jobs"))
		}
		time.Sleep(time.Duration(50+chance.IntN(150)) * time.Millisecond) // when a worker is killed is a matter of chance
		if killed < kills {
			i := chance.IntN(workers)
			running[i].Signal(syscall.SIGKILL)
			<-running[i].Done()
			running[i] = start()
			killed++
		}
	}
	read := func(name string) map[string]int {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		times := map[string]int{}
		for line := range strings.FieldsSeq(string(data)) {
			times[line]++
		}
		return times
	}
	done, again := read("done"), 0
	for i := range jobs {
		if n := done[fmt.Sprintf("job%d", i)]; n == 0 {
			t.Errorf("job%d was never done", i)
		} else if n > 1 {
			again++
		}
	}
	for job := range read("twice-at-once") {
		t.Errorf("%s was done by two at once", job)
	}
	deliveries := 0
	for _, h := range sqs.Histories("jobs") {
		deliveries += len(h.Deliveries)
	}
	t.Logf("%d jobs, %d workers, %d kills: %d deliveries, %d jobs done more than once", jobs, workers, killed, deliveries, again)
}
