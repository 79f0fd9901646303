package child_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"farmhand/internal/child"
	"farmhand/internal/farmtest"
)

// asParent makes the test binary a parent that starts a child and waits to be
// killed.
const asParent = "FARMHAND_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(asParent) != "" {
		c, err := child.Start(exec.Command("sleep", "1000"), syscall.SIGKILL)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(c.PID())
		<-c.Done()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestChildDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent says %q", line)
	}
	watched := farmtest.Watch(t, pid)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	watched.AwaitEnd(t)
}

func TestEndAndSignals(t *testing.T) {
	c, err := child.Start(exec.Command("sleep", "1000"), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Signal(syscall.SIGTERM) {
		t.Error("a signal to a running child said that it has ended")
	}
	if err := c.Err(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("ended with %v, want that SIGTERM did it", err)
	}
	if c.Signal(syscall.SIGTERM) {
		t.Error("a signal to an ended child said that it runs")
	}
	c, err = child.Start(exec.Command("true"), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Err(); err != nil {
		t.Errorf("true ended with %v", err)
	}
	if c.Ended() == nil {
		t.Error("Ended is nil")
	}
}

func TestProgramThatIsNotThere(t *testing.T) {
	if _, err := child.Start(exec.Command("/nonexistent"), syscall.SIGKILL); err == nil {
		t.Error("started")
	}
}

func TestBackoff(t *testing.T) {
	var b child.Backoff
	for i, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second} {
		if got := b.Next(time.Second); got != want {
			t.Errorf("wait %d is %v, want %v", i, got, want)
		}
	}
	if got := b.Next(2 * time.Minute); got != 500*time.Millisecond {
		t.Errorf("wait after a long run is %v", got)
	}
}
