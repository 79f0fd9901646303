package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/registry"
)

// notices writes what people read, the view and how operations stand, beside what goes
// on: each is a call or two to a registry whose disk may be busy, and a change of primary
// in which writes wait does not wait for that.
type notices struct {
	// The two writers; what they write under is the term.
	view      func(ctx context.Context, data []byte) error
	operation func(ctx context.Context, o registry.Operation) error
	log       *zap.Logger
	wake      chan struct{} // one slot

	mu         sync.Mutex
	shown      []byte // the newest view that is not written; nil for none
	operations []registry.Operation
}

func newNotices(client *registry.Client, term registry.Term, log *zap.Logger) *notices {
	return &notices{
		view: func(ctx context.Context, data []byte) error { return client.Write(ctx, term, records.view, data) },
		operation: func(ctx context.Context, o registry.Operation) error {
			return client.UpdateOperation(ctx, term, o)
		},
		log: log, wake: make(chan struct{}, 1),
	}
}

// show takes a view in the place of one that is not written yet.
func (n *notices) show(data []byte) {
	n.mu.Lock()
	n.shown = data
	n.mu.Unlock()
	poke(n.wake)
}

// answer takes how an operation stands. Who reads it finds the views that were shown
// before.
func (n *notices) answer(o registry.Operation) {
	n.mu.Lock()
	n.operations = append(n.operations, o)
	n.mu.Unlock()
	poke(n.wake)
}

// run writes until ctx ends, and then what waits.
func (n *notices) run(ctx context.Context) error {
	for {
		select {
		case <-n.wake:
			if err := n.write(ctx); errors.Is(err, registry.ErrDeposed) {
				return err
			}
		case <-ctx.Done():
			rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), restLimit)
			defer cancel()
			if err := n.write(rest); err != nil {
				n.log.Warn("not all that people wait for is written", zap.Error(err))
			}
			return context.Cause(ctx)
		}
	}
}

// write writes what waits: of views the newest, of operations all, if need be again
// until the registry answers.
func (n *notices) write(ctx context.Context) error {
	n.mu.Lock()
	shown, operations := n.shown, n.operations
	n.shown = nil
	n.mu.Unlock()
	if shown != nil {
		if err := n.view(ctx, shown); errors.Is(err, registry.ErrDeposed) {
			return err
		} else if err != nil { // the next one is a second away
			n.log.Warn("what is seen is not shown", zap.Error(err))
		}
	}
	for _, o := range operations {
		if err := n.insist(ctx, o); err != nil {
			return err
		}
		n.mu.Lock()
		n.operations = n.operations[1:]
		n.mu.Unlock()
	}
	return nil
}

func (n *notices) insist(ctx context.Context, o registry.Operation) error {
	for {
		err := n.operation(ctx, o)
		switch {
		case err == nil, errors.Is(err, registry.ErrOperationEnded), errors.Is(err, registry.ErrUnknownOperation): // as one that was cancelled meanwhile
			return nil
		case errors.Is(err, registry.ErrDeposed):
			return err
		}
		n.log.Warn("how an operation stands is not written; tried again", zap.String("operation", o.ID), zap.Error(err))
		select {
		case <-time.After(againAfter):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
