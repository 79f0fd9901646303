package service

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// roles are the programs that the test binary can be.
var roles = map[string]func(){
	"signals":   playSignals,
	"activated": playActivated,
}

// playSignals says what it was told.
func playSignals() {
	s := WatchSignals(context.Background(), func() { fmt.Println("reload") })
	defer s.Close()
	fmt.Println("ready")
	<-s.Finish().Done()
	fmt.Println("finish:", context.Cause(s.Finish()))
	if s.Now().Err() != nil {
		fmt.Println("too early")
	}
	<-s.Now().Done()
	fmt.Println("now:", context.Cause(s.Now()))
}

// child is a process with lines to read.
type child struct {
	*exec.Cmd
	lines chan string
}

func start(t *testing.T, cmd *exec.Cmd) child {
	t.Helper()
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	c := child{cmd, make(chan string)}
	go func() {
		defer close(c.lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			c.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has usually ended by itself
		for range c.lines {
		}
		_ = cmd.Wait()
	})
	return c
}

func (c child) says(t *testing.T, want string) {
	t.Helper()
	if got := soon(t, c.lines, "line"); got != want {
		t.Fatalf("the process said %q; want %q", got, want)
	}
}

func TestSignals(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"=signals")
	c := start(t, cmd)
	c.says(t, "ready")
	for range 3 {
		must(t, c.Process.Signal(syscall.SIGHUP))
		c.says(t, "reload")
	}
	must(t, c.Process.Signal(syscall.SIGTERM))
	c.says(t, "finish: received SIGTERM")
	must(t, c.Process.Signal(syscall.SIGHUP)) // a reload while it finishes harms nothing
	c.says(t, "reload")
	must(t, c.Process.Signal(syscall.SIGINT))
	c.says(t, "now: received SIGINT")
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// TestSignalsCoalesce asks for a reload many times while one runs: one more must
// follow, and none at the same time.
func TestSignalsCoalesce(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	s := WatchSignals(t.Context(), func() { began <- struct{}{}; <-goOn })
	s.received <- syscall.SIGHUP
	soon(t, began, "reload")
	for range 5 {
		s.received <- syscall.SIGHUP
	}
	s.received <- syscall.SIGTERM // a stop does not wait for the reload
	soon(t, s.Finish().Done(), "stop")
	goOn <- struct{}{}
	soon(t, began, "second reload")
	goOn <- struct{}{}
	s.Close()
	select {
	case <-began:
		t.Error("a third reload")
	default:
	}
	var signal *SignalError
	if cause := context.Cause(s.Finish()); !errors.As(cause, &signal) || signal.Signal != syscall.SIGTERM {
		t.Errorf("the cause is %v", cause)
	}
}

func TestSignalsEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s := WatchSignals(ctx, nil)
	defer s.Close()
	cancel(errBroken)
	soon(t, s.Now().Done(), "end")
	if cause := context.Cause(s.Finish()); cause != errBroken {
		t.Errorf("the cause is %v", cause)
	}
}
