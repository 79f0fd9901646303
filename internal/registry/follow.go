package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// followed is what follow tells. An error that one of them returns ends it.
type followed struct {
	// snapshot gets all that is there, first and after every gap.
	snapshot func(*clientv3.GetResponse) error
	// change gets one change after the last snapshot, in the order of the registry.
	change func(*clientv3.Event) error
	// lost is told once for every gap, with its cause: what was told last may be
	// old by now.
	lost func(error) error
}

// Bounds of the wait before what was lost is asked for again.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second

	// A watch is asked for a sign of life so often, and given up after that silence.
	watchBeat    = 2 * time.Second
	watchSilence = 5 * time.Second
)

// follow reads what is below prefix and then everything that changes there,
// until ctx ends or it is not allowed. get reads the snapshot. A watch that
// breaks, whatever the reason (compacted history, a member without a leader, a
// server that went), is followed by a new snapshot: then nothing has to be known
// about what was missed.
func (c *Client) follow(ctx context.Context, prefix string, get func(context.Context) (*clientv3.GetResponse, error), f followed) error {
	wait := retryFirst
	for gap := false; ; {
		err := c.followOnce(ctx, prefix, get, f, func() { wait, gap = retryFirst, false })
		var told *toldError
		switch {
		case errors.As(err, &told):
			return told.err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrDenied):
			return err
		}
		if !gap {
			gap = true
			c.log.Warn("registry lost", zap.String("watched", prefix), zap.Error(err))
			if err := f.lost(err); err != nil {
				return err
			}
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, retryMost)
	}
}

// toldError is an error of who is told, not of the registry.
type toldError struct{ err error }

func (e *toldError) Error() string { return e.err.Error() }

func told(err error) error {
	if err == nil {
		return nil
	}
	return &toldError{err}
}

// followOnce is one snapshot and one watch; whole is called once the snapshot
// was told. Its error is never nil.
func (c *Client) followOnce(ctx context.Context, prefix string, get func(context.Context) (*clientv3.GetResponse, error), f followed, whole func()) error {
	ctx, cancel := context.WithCancel(ctx) // ends the watch
	defer cancel()
	now, err := get(ctx)
	if err != nil {
		return err
	}
	if err := told(f.snapshot(now)); err != nil {
		return err
	}
	whole()
	// A member that is cut off from the others must say so, not stay silent.
	ctx = clientv3.WithRequireLeader(ctx)
	// While there is no connection, the call for a watch waits for one as well.
	begun := time.AfterFunc(watchSilence, cancel)
	watch := c.etcd.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(now.Header.Revision+1))
	begun.Stop() // if it was too late, the watch is closed
	tick := time.NewTicker(watchBeat)
	defer tick.Stop()
	for heard := time.Now(); ; {
		select {
		case response, ok := <-watch:
			if !ok {
				return fmt.Errorf("registry: watch %s: it ended: %w", prefix, ErrUnavailable)
			}
			if err := response.Err(); err != nil {
				return c.failed(err, "watch %s", prefix)
			}
			heard = time.Now()
			for _, event := range response.Events {
				if err := told(f.change(event)); err != nil {
					return err
				}
			}
		case <-tick.C:
			// etcd's client tries for ever to get a broken watch back and tells nobody;
			// an answer shows that there is one.
			if silent := time.Since(heard); silent > watchSilence {
				return fmt.Errorf("registry: watch %s: %w at %s: nothing was heard for %v", prefix, ErrUnavailable, strings.Join(c.Endpoints(), ", "), silent.Round(time.Second))
			}
			if err := c.askProgress(ctx); err != nil {
				return c.failed(err, "watch %s", prefix)
			}
		}
	}
}

// askProgress has the server say something on the watch.
func (c *Client) askProgress(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, watchSilence, errSilent)
	defer cancel()
	return c.etcd.RequestProgress(ctx)
}

// tree returns a function that reads all that is below prefix.
func (c *Client) tree(prefix string) func(context.Context) (*clientv3.GetResponse, error) {
	return func(ctx context.Context) (*clientv3.GetResponse, error) {
		ctx, cancel := limited(ctx)
		defer cancel()
		r, err := c.etcd.Get(ctx, prefix, clientv3.WithPrefix())
		return r, c.failed(err, "read %s", prefix)
	}
}

// pause waits for d or for the end of ctx, which it then returns.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
