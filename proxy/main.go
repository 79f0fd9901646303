package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"farmhand/internal/manpage"
	"farmhand/internal/service"
	"farmhand/proxy/internal/config"
	"farmhand/proxy/internal/daemon"
)

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "proxy",
		Short: "Farmhand's MySQL proxy: writes to the primary, reads to healthy replicas",
		Long: `The proxy stands where applications expect their MySQL server: on 127.0.0.1:3306
and on the unix socket that PHP's "localhost" means. It needs no list of users:
accounts are the servers' own.

It reads its configuration once, and the topology file (which servers there are)
whenever that changes.

Signals: TERM or INT ends it when its sessions are done (a second one at once);
HUP has it read its configuration again. A second proxy that is started with the
same configuration takes the listening sockets over, without refusing anyone.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       service.ReadBuild("farmhand-proxy").String(),
	}
	root.AddCommand(
		&cobra.Command{
			Use:   "run CONFIG",
			Short: "Run the proxy in the foreground",
			Args:  cobra.ExactArgs(1),
			RunE:  func(_ *cobra.Command, args []string) error { return run(args[0]) },
		},
		&cobra.Command{
			Use:   "check CONFIG",
			Short: "Say whether a configuration, and every file that it names, can be used",
			Args:  cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				found, err := config.Check(args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), found)
				return err
			},
		},
	)
	root.AddCommand(manpage.Command(root, "farmhand-proxy"))
	return root
}

// run runs the proxy with the configuration file at path until a signal ends it.
func run(path string) error {
	// One more than there are processors: the poller keeps one while it waits (rawio).
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	c, err := config.Load(path)
	if err != nil {
		return err
	}
	if problems := c.Files(); len(problems) > 0 {
		return service.Locate(path, problems)
	}
	metrics := service.NewRegistry(service.ReadBuild("farmhand-proxy"))
	log, level, err := service.NewLogger(os.Stderr, c.Log, metrics)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // standard error may not be a thing that can be synced
	files, err := service.ActivatedFiles(os.Getenv)
	if err != nil {
		return err
	}
	reload := make(chan *daemon.Daemon, 1)
	signals := service.WatchSignals(context.Background(), func() {
		select {
		case d := <-reload:
			d.Reload()
			reload <- d
		default: // not running yet: the configuration has just been read
		}
	})
	defer signals.Close()
	notify := service.NewNotifier(os.Getenv("NOTIFY_SOCKET"))
	watchdog, err := service.NewWatchdog(notify, os.Getenv)
	if err != nil {
		return err
	}
	d, err := daemon.New(signals.Finish(), path, c, log, level, metrics, files, func() {
		if err := watchdog.Beat(); err != nil {
			log.Warn("systemd's watchdog was not told", zap.Error(err))
		}
	})
	if err != nil {
		return err
	}
	reload <- d
	err = d.Run(signals.Finish(), signals.Now(), func() {
		if err := notify.Ready("serving"); err != nil {
			log.Warn("systemd was not told that the proxy is ready", zap.Error(err))
		}
	})
	var signal *service.SignalError
	if cause := context.Cause(signals.Finish()); errors.As(cause, &signal) {
		log.Info("stopped", zap.String("because", signal.Error()))
	}
	return err
}
