package command_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"farmhand/internal/farmtest"
	"farmhand/sidecar/internal/command"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sh(script string) command.Command {
	return command.Command{Args: []string{"/bin/sh", "-c", script}, Limit: time.Minute, Grace: time.Minute, Output: 1000}
}

func TestOutcomes(t *testing.T) {
	t.Setenv("FARMHAND_TEST_LEAK", "ours")
	c := sh(`cat; echo " $A leak=$FARMHAND_TEST_LEAK"; pwd; echo wrong >&2; exit 3`)
	c.Env, c.Stdin = []string{"A=b"}, []byte("in")
	o := command.Run(t.Context(), c)
	if o.Status != command.Failed || o.Exit != 3 || string(o.Output) != "in b leak=\n/\nwrong\n" || o.Err == nil {
		t.Errorf("got %+v, output %q", o, o.Output)
	}
	if o := command.Run(t.Context(), sh("true")); o.Status != command.OK || o.Err != nil || o.Exit != 0 {
		t.Errorf("true: %+v", o)
	}
	if o := command.Run(t.Context(), sh("kill -KILL $$")); o.Status != command.Failed || o.Exit != -1 || !strings.Contains(o.Err.Error(), "killed") {
		t.Errorf("killed: %+v", o)
	}
	c.Args = []string{"/nonexistent"}
	if o := command.Run(t.Context(), c); o.Status != command.Failed || !errors.Is(o.Err, os.ErrNotExist) {
		t.Errorf("nonexistent: %+v", o)
	}
}

func TestOutputIsBounded(t *testing.T) {
	o := command.Run(t.Context(), sh("head -c 3000000 /dev/zero"))
	if len(o.Output) != 1000 || o.Dropped != 2_999_000 || o.Status != command.OK {
		t.Errorf("%d kept, %d dropped, %s", len(o.Output), o.Dropped, o.Status)
	}
}

// TestLimitEndsTheWholeGroup: nothing of a program that hangs is left, not even
// what ignores SIGTERM.
func TestLimitEndsTheWholeGroup(t *testing.T) {
	for _, script := range []string{
		`trap "" TERM; sleep 1000 & echo $!; while :; do sleep 1; done`, // all ignore it
		`(trap "" TERM; exec sleep 1000) & echo $!; exec sleep 1000`,    // the first process does not
	} {
		pid := filepath.Join(t.TempDir(), "pid")
		c := sh(strings.Replace(script, "echo $!", "echo $! >"+pid+".new; mv "+pid+".new "+pid, 1))
		c.Grace = 50 * time.Millisecond
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan command.Outcome, 1)
		go func() { ended <- command.Run(ctx, c) }()
		var started []byte
		farmtest.Eventually(t, "the program runs", func() (err error) {
			started, err = os.ReadFile(pid)
			return err
		})
		number, err := strconv.Atoi(strings.TrimSpace(string(started)))
		if err != nil {
			t.Fatal(err)
		}
		left := farmtest.Watch(t, number)
		reason := errors.New("enough")
		cancel(reason)
		if o := <-ended; o.Status != command.Interrupted || !errors.Is(o.Err, reason) {
			t.Errorf("got %+v", o)
		}
		left.AwaitEnd(t)
	}
	c := sh("sleep 1000")
	c.Limit = 10 * time.Millisecond
	if o := command.Run(t.Context(), c); o.Status != command.TimedOut || o.Took > 30*time.Second {
		t.Errorf("got %+v", o)
	}
}

// TestBackgroundProcessIsNotWaitedFor: what a program leaves behind holds its
// output open.
func TestBackgroundProcessIsNotWaitedFor(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	o := command.Run(t.Context(), sh("sleep 1000 & echo $! >"+pid+"; echo said"))
	if o.Status != command.OK || string(o.Output) != "said\n" || o.Took > 30*time.Second {
		t.Errorf("got %+v, output %q", o, o.Output)
	}
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	left := farmtest.Watch(t, number)
	p, err := os.FindProcess(number)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("what the program left behind is gone: %v", err)
	}
	left.AwaitEnd(t)
}
