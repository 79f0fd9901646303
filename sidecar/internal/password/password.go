// Package password has a node take the farm's new passwords when the scaler that leads
// orders it, in steps (package cluster has them), and says how far it is.
//
// It decides nothing: when a step comes is the scaler's to say. It writes the files in
// which a node's programs find the passwords, and has a database server accept, use and
// refuse them through its agent. A registry that is away holds nothing up, and an order
// that is done can be done again.
//
// Invariant: no file has a password that the scaler has not said the servers accept.
package password

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/atomicfile"
	"farmhand/internal/cluster"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

// Server is a node's database server. Each method returns nil once what it is called
// after is so, can be called again, and returns soon.
type Server interface {
	AcceptPasswords(ctx context.Context, p *cluster.Passwords) error
	UsePasswords(ctx context.Context, p *cluster.Passwords) error
	DropPasswords(ctx context.Context, p *cluster.Passwords) error
}

// Options are what a node that takes passwords needs.
type Options struct {
	Node string // its name in the farm
	// Watch and Report are those of the farm's registry.
	Watch  func(ctx context.Context, r registry.Record, tell func(registry.Value) error) error
	Report func(ctx context.Context, name string, value []byte) error
	// Files are where the passwords stand, by account; those of other accounts are not
	// kept.
	Files map[string]string
	// Server is the node's database server; nil if it has none.
	Server Server
	Log    *zap.Logger
}

// again is how often what is not done is tried again, hearAgain when to listen again for
// orders after that was refused.
const (
	again     = 500 * time.Millisecond
	hearAgain = 5 * time.Second
)

// Run does what is ordered until ctx ends; then it returns nil.
func Run(ctx context.Context, o Options) error {
	record, err := registry.Order(o.Node, cluster.PasswordsOrder)
	if err != nil {
		return err
	}
	orders := make(chan *cluster.Passwords, 1)
	group := service.NewGroup(ctx)
	hear := func(ctx context.Context) error {
		return o.Watch(ctx, record, func(v registry.Value) error {
			if v.Lost != nil || v.Data == nil {
				return nil // what was known stays
			}
			order, err := cluster.DecodePasswords(v.Data)
			if err != nil {
				o.Log.Error("not taken", zap.Error(err))
				return nil
			}
			select { // only the newest counts
			case <-orders:
			default:
			}
			orders <- order
			return nil
		})
	}
	group.Go("watch", func(ctx context.Context) error {
		for {
			err := hear(ctx)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			o.Log.Error("orders to take other passwords are not heard; tried again", zap.Error(err), zap.Duration("after", hearAgain))
			select {
			case <-time.After(hearAgain):
			case <-ctx.Done():
			}
		}
	})
	group.Go("obey", func(ctx context.Context) error { return o.obey(ctx, orders) })
	return group.Wait()
}

func (o Options) obey(ctx context.Context, orders <-chan *cluster.Passwords) error {
	var order *cluster.Passwords
	var told cluster.PasswordsReport
	tick := time.NewTicker(again)
	defer tick.Stop()
	done := true
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case order = <-orders:
			done = false
			o.Log.Info("passwords are changed", zap.String("change", order.ID), zap.String("step", string(order.Step)))
		case <-tick.C:
		}
		if done {
			continue
		}
		report := cluster.PasswordsReport{ID: order.ID, Step: order.Step}
		err := o.do(ctx, order)
		if err != nil {
			report.Step, report.Why = "", err.Error()
		}
		if report != told {
			if report.Why != "" {
				o.Log.Info("not done yet", zap.String("step", string(order.Step)), zap.Error(err))
			}
			if failed := o.tell(ctx, report); failed != nil {
				o.Log.Warn("the farm was not told how far it is with passwords; tried again", zap.Error(failed))
				continue
			}
			told = report
		}
		done = err == nil
	}
}

func (o Options) tell(ctx context.Context, r cluster.PasswordsReport) error {
	data, err := r.Encode()
	if err != nil {
		return err
	}
	return o.Report(ctx, cluster.PasswordsReportName, data)
}

// do does a step, and first what a node that was away may have missed.
func (o Options) do(ctx context.Context, order *cluster.Passwords) error {
	var accept, use, drop func(context.Context, *cluster.Passwords) error
	if o.Server != nil {
		accept, use, drop = o.Server.AcceptPasswords, o.Server.UsePasswords, o.Server.DropPasswords
	}
	call := func(f func(context.Context, *cluster.Passwords) error) error {
		if f == nil {
			return nil
		}
		return f(ctx, order)
	}
	switch order.Step {
	case cluster.AcceptBoth:
		return call(accept)
	case cluster.UseNew:
		// A server whose data was restored meanwhile may not accept them any more.
		if err := call(accept); err != nil {
			return err
		}
	case cluster.AcceptNew, cluster.Changed:
	}
	if err := o.write(order.New); err != nil {
		return err
	}
	if err := call(use); err != nil || order.Step != cluster.AcceptNew {
		return err
	}
	return call(drop)
}

// write puts the passwords into their files.
func (o Options) write(passwords map[string]string) error {
	var errs []error
	for _, account := range slices.Sorted(maps.Keys(passwords)) {
		path, wanted := o.Files[account]
		if !wanted {
			continue
		}
		if kept, err := service.ReadSecret(path); err == nil && kept == passwords[account] {
			continue
		}
		if err := atomicfile.WritePrivate(path, []byte(passwords[account]+"\n")); err != nil {
			errs = append(errs, fmt.Errorf("password of %s: %w", account, err))
		}
	}
	return errors.Join(errs...)
}
