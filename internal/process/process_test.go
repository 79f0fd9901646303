package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAProcessIsHeldByItsName(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	cmd.Env = append(os.Environ(), "FARMHAND_TEST_MARK=here it is")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	marked := func() []Found {
		found, err := Find(func(f Found) bool { return slices.Contains(f.Environment, "FARMHAND_TEST_MARK=here it is") })
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	// Between fork and exec it is not itself yet.
	deadline := time.Now().Add(10 * time.Second)
	for len(marked()) == 0 && time.Now().Before(deadline) {
	}
	if found := marked(); len(found) != 1 || found[0].ID != id || found[0].Session != id.PID || !slices.Equal(found[0].Arguments, []string{"sleep", "1000"}) {
		t.Errorf("found %+v, want %+v", found, id)
	}
	h, err := Open(id)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := h.Await(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it has ended before it was told to: %v", err)
	}
	if err := h.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := h.Await(t.Context()); err != nil {
		t.Error(err)
	}
	// Ended and not reaped: gone as well.
	if _, err := Open(id); !errors.Is(err, ErrGone) {
		t.Errorf("a dead process: %v", err)
	}
	_ = cmd.Wait() // killed
	if err := h.Signal(syscall.SIGTERM); !errors.Is(err, ErrGone) {
		t.Errorf("a signal to a dead process: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnotherProcessOfTheSameIDIsNotIt(t *testing.T) {
	id, err := Identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []ID{{id.PID, id.Start + "0", id.Boot}, {id.PID, id.Start, "another boot"}, {0, id.Start, id.Boot}} {
		if _, err := Open(other); !errors.Is(err, ErrGone) {
			t.Errorf("%+v: %v", other, err)
		}
	}
}
