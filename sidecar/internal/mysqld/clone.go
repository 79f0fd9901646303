package mysqld

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/pki"
	"farmhand/sidecar/internal/clone"
)

// Giving is how data passes from one node to another.
type Giving struct {
	Listen string    // host:port where this server's data is given
	Files  pki.Files // the node's
}

// keepGiving gives the server's data to those that the assignment has copy it. That
// it cannot be given is no reason to stop the server.
func (a *Agent) keepGiving(ctx context.Context) error {
	for {
		err := a.give(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.o.Log.Error("data cannot be given to others; tried again", zap.Error(err), zap.Duration("after", retryMost))
		if err := pause(ctx, retryMost); err != nil {
			return err
		}
	}
}

func (a *Agent) give(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.o.Giving.Listen)
	if err != nil {
		return fmt.Errorf("give data: %w", err)
	}
	return clone.Serve(ctx, listener, clone.Donor{
		Install: a.o.Install, Config: a.o.Server, Files: a.o.Giving.Files, Log: a.o.Log,
		Allow: func(_ context.Context, joiner string) error {
			o := a.look().order
			if o == nil || !o.heard {
				return errors.New("it has not heard of an assignment")
			}
			if s, _ := o.assignment.Server(joiner); s.Task != cluster.Clone || s.Source != a.o.Name {
				return fmt.Errorf("the assignment (serial %d) does not have %s copy %s", o.assignment.Serial, joiner, a.o.Name)
			}
			return nil
		},
	})
}

// copyData replaces the server's data, which no process works on, by its source's.
func (a *Agent) copyData(ctx context.Context, o *order) error {
	if o.part.Restore != nil {
		return a.copyStored(ctx, o)
	}
	switch {
	case a.o.Giving == nil:
		return errors.New("this node cannot copy data: it is told of no place to give its own (mysql.clone_listen)")
	case o.part.CloneAt == "":
		return fmt.Errorf("the assignment does not say where %s gives its data", o.part.Source)
	}
	a.change(func(p *picture) { p.process, p.detail = cluster.Copying, "copies the data of "+o.part.Source })
	defer a.change(func(p *picture) { p.process = cluster.Absent })
	c := a.o.Server
	c.ServerID = o.part.ID
	got, err := clone.Fetch(ctx, clone.Joiner{
		Install: a.o.Install, Config: c, Files: a.o.Giving.Files, Donor: o.part.Source, Address: o.part.CloneAt,
		Tell: func(p clone.Progress) {
			a.say(fmt.Sprintf("copies the data of %s: %s, %d of about %d MiB", o.part.Source, p.Phase, p.Bytes>>20, p.Total>>20))
		},
	})
	if err != nil {
		return err
	}
	if err := a.takeCopy(ctx, o, got, false, got.Bytes, got.Took); err != nil {
		return err
	}
	a.o.Log.Info("data copied", zap.String("source", o.part.Source), zap.String("position", got.Position), zap.Int64("bytes", got.Bytes), zap.Duration("took", got.Took))
	return nil
}

// copyStored is copyData, of a backup and the archive instead of a server: what has
// been written since then comes from the source that is followed.
func (a *Agent) copyStored(ctx context.Context, o *order) error {
	got, err := a.fromStore(ctx, o)
	if err != nil {
		return a.notRestored(o.part.Restore.ID, err)
	}
	if err := a.takeCopy(ctx, o, got, true, got.Bytes, got.Took); err != nil {
		return err
	}
	a.o.Log.Info("data copied from a backup", zap.String("position", got.Position), zap.Int("replayed", got.Replayed), zap.Duration("took", got.Took))
	return nil
}

// whole is data that waits beside a server's own.
type whole interface {
	Swap() error
	Discard() error
}

// takeCopy puts a copy in the place of the server's data.
func (a *Agent) takeCopy(ctx context.Context, o *order, got whole, stored bool, bytes int64, took time.Duration) error {
	if err := a.quarantine(ctx, o); err != nil {
		return errors.Join(err, got.Discard())
	}
	if err := got.Swap(); err != nil {
		return errors.Join(err, got.Discard())
	}
	return a.hasData(func(k *kept) {
		k.Copied, k.CopiedStored, k.CopiedBytes, k.CopiedTook = o.part.Source, stored, bytes, took
	}, func(p *picture) { p.copied = p.order.task() == cluster.Clone })
}
