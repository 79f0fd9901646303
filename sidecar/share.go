package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"farmhand/internal/enrol"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/share"
)

func shareCommand(build service.Build, logs io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   "share",
		Short: "the ways between a storage node and those that use it",
		Long: `What the roles start where a farm has a storage node (docs/ROLES.md): they stay in the
foreground, until SIGTERM or Ctrl-C, and outlive a sidecar that is killed.`,
	}
	c.AddCommand(gateCommand(build, logs), doorCommand(build, logs), lookCommand())
	return c
}

// sharing runs do with a log, until SIGTERM or Ctrl-C. SIGHUP is told by hangup, which may be nil.
func sharing(build service.Build, logs io.Writer, what string, hangup func(), do func(context.Context, *zap.Logger) error) error {
	log, _, err := service.NewLogger(logs, service.DefaultLog(), service.NewRegistry(build))
	if err != nil {
		return err
	}
	signals := service.WatchSignals(context.Background(), hangup)
	defer signals.Close()
	return do(signals.Finish(), log.Named(what))
}

func gateCommand(build service.Build, logs io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   "gate --directory DIRECTORY --listen IP:PORT --socket SOCKET",
		Short: "let the farm's nodes to the brick of this one, by mutual TLS",
		Args:  cobra.NoArgs,
	}
	directory := required(c, "directory", "the directory with the node's key and certificate")
	listen := required(c, "listen", "where the other nodes connect")
	socket := required(c, "socket", "the brick's socket")
	members := c.Flags().String("members", "", "the file with the names of the farm's members, a line each; \"\" for every node with a certificate of the farm")
	c.RunE = func(*cobra.Command, []string) error {
		return sharing(build, logs, "gate", nil, func(ctx context.Context, log *zap.Logger) error {
			return share.Gate{Files: enrol.Files(*directory), Listen: *listen, Socket: *socket, Members: *members, Log: log}.Run(ctx)
		})
	}
	return c
}

func doorCommand(build service.Build, logs io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   "door --directory DIRECTORY --socket SOCKET --holders FILE",
		Short: "lead what connects to a socket to the node that is the storage now, by mutual TLS",
		Long: `Lead what connects to the socket to the gate of the first node in the file that can be
reached. In the file is a line for each such node: its name, which its certificate must have,
and its host:port. The file is followed. On SIGHUP the connections that there are are closed, so that
the client makes new ones.`,
		Args: cobra.NoArgs,
	}
	directory := required(c, "directory", "the directory with the node's key and certificate")
	socket := required(c, "socket", "the socket to make")
	holders := required(c, "holders", "the file that says whom to lead to")
	led := c.Flags().String("led", "", "a file that is there while the client is led to a node, made anew with each connection; \"\" for none")
	hold := c.Flags().Duration("hold", share.DefaultHold, "how long a connection is kept until there is somebody to lead it to")
	c.RunE = func(*cobra.Command, []string) error {
		cut := make(chan struct{}, 1)
		hangup := func() {
			select {
			case cut <- struct{}{}:
			default: // it is about to be done
			}
		}
		return sharing(build, logs, "door", hangup, func(ctx context.Context, log *zap.Logger) error {
			return share.Door{Files: enrol.Files(*directory), Socket: *socket, Holders: *holders, Led: *led, Cut: cut, Hold: *hold, Log: log}.Run(ctx)
		})
	}
	return c
}

func lookCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "look PATH",
		Short: "say whether a storage is mounted at a path, and answers; it waits for as long as that does not",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return share.Place{Path: args[0]}.Look() },
	}
}

// required is a flag that has to be given.
func required(c *cobra.Command, name, usage string) *string {
	value := c.Flags().String(name, "", usage)
	if err := c.MarkFlagRequired(name); err != nil {
		panic(fmt.Sprintf("the flag %s was defined just now: %v", name, err))
	}
	return value
}
