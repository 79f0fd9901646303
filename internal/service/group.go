package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Group runs the parts of a program, each in a goroutine of its own. The first
// part that fails stops them all.
type Group struct {
	ctx  context.Context
	stop context.CancelCauseFunc
	done sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// NewGroup returns an empty group whose parts stop when ctx does.
func NewGroup(ctx context.Context) *Group {
	ctx, stop := context.WithCancelCause(ctx)
	return &Group{ctx: ctx, stop: stop}
}

// Context is what every part gets; its cause says why the group stops.
func (g *Group) Context() context.Context { return g.ctx }

// Go starts a part. Its error stops the group, with the part's name in front.
// What a part returns because it was stopped (the context's error or cause) is
// no error, and neither is an early nil.
func (g *Group) Go(name string, part func(ctx context.Context) error) {
	g.done.Go(func() {
		err := part(g.ctx)
		if err == nil || g.ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(g.ctx))) {
			return
		}
		err = fmt.Errorf("%s: %w", name, err)
		g.mu.Lock()
		g.errs = append(g.errs, err)
		g.mu.Unlock()
		g.stop(err)
	})
}

// Stop has every part stop, for the reason given. It does not wait.
func (g *Group) Stop(cause error) { g.stop(cause) }

// Wait waits until every part has returned and returns what failed, the first
// failure first; nil if the group only ended or was told to stop.
func (g *Group) Wait() error {
	g.done.Wait()
	g.stop(nil)
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.errs...)
}
