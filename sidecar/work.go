package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/queue"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/work"
)

func workCommand(build service.Build, out, logs io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   "work --queue URL [flags] -- PROGRAM [ARGUMENT…]",
		Short: "take messages from a queue and run a program for each",
		Long: `Take messages from a queue, one by one, and run the program for each, until SIGTERM or
Ctrl-C: then the message that it has is done, and no other is taken. A second one ends it
at once; the message is given back.

The program gets the message on its standard input. When it ends with 0, the message is
deleted; otherwise the queue gives it again, and after as many times as it is set to it
goes to its dead-letter queue. While the program runs, the message is held; if that is
not sure any more, the program is killed before another worker can get it.

In its environment are FARMHAND_MESSAGE_ID, FARMHAND_MESSAGE_TIMES (how often it was
given, about), FARMHAND_MESSAGE_SENT and FARMHAND_MESSAGE_ATTRIBUTES (a JSON object).`,
		Args: cobra.MinimumNArgs(1),
	}
	address := c.Flags().String("queue", "", "the queue's URL; of another server than AWS's with ?region=NAME")
	hold := c.Flags().Duration("hold", 30*time.Second, "how long the message is held at a time, whole seconds")
	wait := c.Flags().Duration("wait", 10*time.Second, "how long one call waits for a message, whole seconds")
	limit := c.Flags().Duration("limit", time.Hour, "how long the program may take for a message")
	retry := c.Flags().Duration("retry", 5*time.Second, "after how long a message is given again whose program has failed, whole seconds")
	directory := c.Flags().String("directory", "", "where this machine's workers have their files, for sidecar rest; \"\" for none")
	name := c.Flags().String("name", "worker", "the worker's own name there")
	if err := c.MarkFlagRequired("queue"); err != nil {
		panic(err) // the flag was defined above
	}
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		for name, x := range map[string]struct{ is, low, high time.Duration }{
			"hold": {*hold, work.MinHold, work.MaxLimit}, "wait": {*wait, 0, queue.MaxWait},
			"limit": {*limit, time.Second, work.MaxLimit}, "retry": {*retry, 0, work.MaxLimit},
		} {
			if x.is < x.low || x.is > x.high {
				return fmt.Errorf("--%s %v is out of bounds; expected %v to %v", name, x.is, x.low, x.high)
			}
		}
		a, err := queue.ParseAddress(*address)
		if err != nil {
			return fmt.Errorf("--queue: %w", err)
		}
		log, _, err := service.NewLogger(logs, service.DefaultLog(), service.NewRegistry(build))
		if err != nil {
			return err
		}
		signals := service.WatchSignals(context.Background(), nil)
		defer signals.Close()
		config := work.Config{Command: args, Hold: *hold, Wait: *wait, Limit: *limit, Retry: *retry, Output: out, Log: log.With(zap.String("queue", a.String()))}
		if config.Queue, err = queue.Open(signals.Finish(), a); err != nil {
			return err
		}
		if *directory != "" {
			if err := farm.CheckName(*name); err != nil {
				return fmt.Errorf("--name: %w", err)
			}
			place := work.Place{Directory: *directory}
			if config.Busy, err = work.OpenBusy(place.BusyFile(*name)); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, config.Busy.Close()) }()
			if config.Turns, err = place.Turns(*name); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, config.Turns.Close()) }()
		}
		return work.Run(signals.Finish(), signals.Now(), config)
	}
	return c
}

func restCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "rest DIRECTORY",
		Short: "have this machine's workers take no message any more, and wait until each has done what it has",
		Long: `Have the workers (sidecar work) with that --directory take no message any more, and
wait until each has done what it has: what a role's drain command is to do. They rest
until --undo, also when this is ended before.`,
		Args: cobra.ExactArgs(1),
	}
	undo := c.Flags().Bool("undo", false, "have them take messages again")
	c.RunE = func(_ *cobra.Command, args []string) error {
		place := work.Place{Directory: args[0]}
		if *undo {
			return place.Work()
		}
		signals := service.WatchSignals(context.Background(), nil)
		defer signals.Close()
		return place.Rest(signals.Finish())
	}
	return c
}
