package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"farmhand/internal/report"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/role"
)

func main() {
	if err := command(os.Stdout, os.Stderr).Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "sidecar:", err)
		os.Exit(1)
	}
}

const long = `The agent of a farm's node.

Today it runs one role, "mysql", in the foreground: it makes the data directory
when there is none, starts the database server on it, makes it the primary or a
follower of the primary that the configuration names, starts it again when it
ends, and stops it cleanly on SIGTERM or Ctrl-C (a second one: at once).

On standard output it writes one line of JSON at every change of the server's
state and one every second while it runs; logs go to standard error.

"sidecar join" makes the machine a node of a farm, and "sidecar member" holds
its membership. "sidecar run" knows nothing of that yet, takes no orders and
runs no hooks: what the node is to be stands in its configuration file.`

func command(out, logs io.Writer) *cobra.Command {
	build := service.ReadBuild("sidecar")
	root := &cobra.Command{
		Use: "sidecar", Short: "the agent of a farm's node", Long: long, Version: build.String(),
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(
		join(os.Stdin, out), memberCommand(build, out, logs),
		&cobra.Command{
			Use: "run CONFIG.yaml", Short: "run the node's role until SIGTERM or Ctrl-C", Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return run(args[0], build, out, logs) },
		},
		&cobra.Command{
			Use: "check CONFIG.yaml", Short: "say what is wrong with a configuration file", Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				if _, err := config.Load(args[0]); err != nil {
					return err
				}
				_, err := fmt.Fprintln(out, args[0]+": fine")
				return err
			},
		},
	)
	return root
}

func run(path string, build service.Build, out, logs io.Writer) error {
	c, err := config.Load(path)
	if err != nil {
		return err
	}
	log, _, err := service.NewLogger(logs, c.Log, service.NewRegistry(build))
	if err != nil {
		return err
	}
	log = log.With(zap.String("node", c.Name))
	signals := service.WatchSignals(context.Background(), nil)
	defer signals.Close()

	// Who launched us may be gone while the server is still to be stopped: then
	// a report is an error, not the end.
	signal.Ignore(syscall.SIGPIPE)
	held, err := role.Kinds[c.Role](c, role.Tools{
		Log:    log,
		Report: func(r report.Report) error { return report.Write(out, r) },
	})
	if err != nil {
		return err
	}
	return held.Run(signals.Finish(), signals.Now())
}
