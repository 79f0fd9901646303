package daemon

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/registry"
)

// journal writes what happened in the term, in order and beside what goes on: a
// failover does not wait until it is written down.
type journal struct {
	client  *registry.Client
	term    registry.Term
	who     string
	log     *zap.Logger
	entries chan registry.Entry
}

// waitingEntries is how many may wait while the registry does not answer. What was
// decided meanwhile is nothing, so they are few.
const waitingEntries = 1000

func newJournal(client *registry.Client, term registry.Term, log *zap.Logger) *journal {
	return &journal{client: client, term: term, who: "scaler " + term.Leader, log: log, entries: make(chan registry.Entry, waitingEntries)}
}

// put takes an entry. One that has no room is only logged.
func (j *journal) put(e registry.Entry) {
	e.Who = j.who
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	select {
	case j.entries <- e:
	default:
		j.log.Error("event not journaled: too many wait", zap.String("kind", e.Kind), zap.String("text", e.Text))
	}
}

// run writes entries until ctx ends, and then those that wait.
func (j *journal) run(ctx context.Context) error {
	for {
		select {
		case e := <-j.entries:
			if err := j.write(ctx, e); err != nil {
				return err
			}
		case <-ctx.Done():
			return j.rest(context.Cause(ctx))
		}
	}
}

// write writes an entry, if need be again until the registry answers.
func (j *journal) write(ctx context.Context, e registry.Entry) error {
	for {
		_, err := j.client.AppendInTerm(ctx, j.term, e)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, registry.ErrDeposed):
			return err
		case !errors.Is(err, registry.ErrUnavailable):
			j.log.Error("event not journaled", zap.String("kind", e.Kind), zap.String("text", e.Text), zap.Error(err))
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			j.log.Warn("event not journaled", zap.String("kind", e.Kind), zap.String("text", e.Text), zap.Error(err))
			return context.Cause(ctx)
		}
	}
}

// restLimit bounds the writing of what waits when the term ends.
const restLimit = 2 * time.Second

func (j *journal) rest(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), restLimit)
	defer cancel()
	for {
		select {
		case e := <-j.entries:
			if err := j.write(ctx, e); err != nil {
				j.log.Warn("event not journaled", zap.String("kind", e.Kind), zap.String("text", e.Text), zap.Error(err))
				return cause
			}
		default:
			return cause
		}
	}
}
