package localfarm

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// Stop has the farm that runs in dir stop as by Ctrl-C and returns when it has.
func Stop(ctx context.Context, dir string) error {
	state, err := ReadState(dir)
	if err != nil {
		return err
	}
	// The state was written by who holds the lock, so the pid is still its own.
	if err := syscall.Kill(state.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the farm (pid %d): %w", state.PID, err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		held, err := layout{dir}.held()
		if err != nil {
			return err
		}
		if !held {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the farm (pid %d) has not stopped yet: %w", state.PID, context.Cause(ctx))
		}
	}
}
