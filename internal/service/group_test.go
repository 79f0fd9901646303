package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

var errBroken = errors.New("it broke")

func untilStopped(ctx context.Context) error {
	<-ctx.Done()
	return fmt.Errorf("accept: %w", context.Cause(ctx))
}

func TestGroupStopsAllOnTheFirstError(t *testing.T) {
	g := NewGroup(t.Context())
	g.Go("one", untilStopped)
	g.Go("two", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	g.Go("done", func(context.Context) error { return nil })
	g.Go("three", func(context.Context) error { return errBroken })
	err := g.Wait()
	if !errors.Is(err, errBroken) || err.Error() != "three: it broke" {
		t.Errorf("got %v", err)
	}
	if cause := context.Cause(g.Context()); !errors.Is(cause, errBroken) || !strings.Contains(cause.Error(), "three") {
		t.Errorf("the cause is %v", cause)
	}
}

func TestGroupTellsWhatElseBroke(t *testing.T) {
	g := NewGroup(t.Context())
	g.Go("one", func(ctx context.Context) error { <-ctx.Done(); return errors.New("could not flush") })
	g.Go("two", func(context.Context) error { return errBroken })
	if err := g.Wait(); err == nil || err.Error() != "two: it broke\none: could not flush" {
		t.Errorf("got %v", err)
	}
}

func TestGroupStopIsNoError(t *testing.T) {
	asked := errors.New("somebody asked")
	for name, stop := range map[string]func(*Group, context.CancelCauseFunc){
		"Stop":        func(g *Group, _ context.CancelCauseFunc) { g.Stop(asked) },
		"its context": func(_ *Group, cancel context.CancelCauseFunc) { cancel(asked) },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		g := NewGroup(ctx)
		g.Go("one", untilStopped)
		stop(g, cancel)
		if err := g.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if cause := context.Cause(g.Context()); cause != asked {
			t.Errorf("%s: the cause is %v", name, cause)
		}
		cancel(nil)
	}
}

func TestGroupOfNothing(t *testing.T) {
	g := NewGroup(t.Context())
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if g.Context().Err() == nil {
		t.Error("the context goes on after Wait")
	}
}
