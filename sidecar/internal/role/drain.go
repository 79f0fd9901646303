package role

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/sidecar/internal/command"
)

// drainer does what is to be done when the node begins to leave the farm. When that has
// succeeded, nobody uses the node any more.
type drainer struct {
	steps []drainStep
	// undo has a node that stays used again; nil if there is nothing to it.
	undo func() error
	farm *nodeFarm
	log  *zap.Logger
	news chan bool // the newest only: whether the node leaves
}

// drainStep is one thing to be done; again, if it was done in part.
type drainStep struct {
	what string
	do   func(context.Context) error
}

// newDrainer has the command run, which may take as long as limit; none if it is empty.
func newDrainer(args []string, limit time.Duration, farm *nodeFarm, log *zap.Logger) drainer {
	d := drainer{farm: farm, log: log, news: make(chan bool, 1)}
	if len(args) > 0 {
		d.steps = append(d.steps, drainStep{"run the drain command " + args[0], func(ctx context.Context) error {
			o := command.Run(ctx, command.Command{Args: args, Limit: limit, Grace: 5 * time.Second, Output: 1 << 10})
			if o.Status == command.OK {
				return nil
			}
			return fmt.Errorf("%w %s", o.Err, strings.TrimSpace(string(o.Output)))
		}})
	}
	return d
}

// leaves says whether the node is on its way out. One goroutine may call it.
func (d *drainer) leaves(so bool) {
	select {
	case <-d.news:
	default:
	}
	d.news <- so
}

// drainRetry is how long to wait before what failed is tried again.
const drainRetry = 5 * time.Second

// run does what is to be done until ctx ends. What goes on when the node stays after all is
// cut short. What a command has done is not undone by this.
func (d *drainer) run(ctx context.Context) error {
	var last *bool // what was heard last; nil before
	stop, ended := context.CancelFunc(func() {}), make(chan struct{})
	close(ended)
	defer func() { stop(); <-ended }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-d.news:
			if last != nil && *last == now {
				continue
			}
			last = &now
			stop()
			<-ended
			d.farm.drained(false)
			moving, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			go func() {
				defer close(done)
				d.move(moving, now)
			}()
			stop, ended = cancel, done
		}
	}
}

// move has the node drained, or used again, with as many tries as it takes until ctx ends.
func (d *drainer) move(ctx context.Context, leaves bool) {
	began := time.Now()
	for ctx.Err() == nil {
		what, err := d.try(ctx, leaves)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if leaves && len(d.steps) > 0 {
				d.log.Info("drained", zap.Duration("took", time.Since(began)))
				d.farm.drained(true)
			}
			return
		}
		d.log.Error("drain failed, will be tried again", zap.Bool("leaves", leaves), zap.String("at", what), zap.Error(err), zap.Duration("after", drainRetry))
		select {
		case <-time.After(drainRetry):
		case <-ctx.Done():
		}
	}
}

func (d *drainer) try(ctx context.Context, leaves bool) (what string, err error) {
	if !leaves {
		if d.undo == nil {
			return "", nil
		}
		return "have it used again", d.undo()
	}
	for _, step := range d.steps {
		if err := step.do(ctx); err != nil {
			return step.what, err
		}
	}
	return "", nil
}
