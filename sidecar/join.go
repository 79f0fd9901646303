package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"farmhand/internal/enrol"
	"farmhand/internal/farm"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/member"
)

func join(in io.Reader, out io.Writer) *cobra.Command {
	var dir, name string
	c := &cobra.Command{
		Use:   "join TOKEN|-|@FILE --dir DIR",
		Short: "make this machine a node of a farm",
		Long: `Make this machine a node of a farm: exchange a token of "scaler registry token"
for a certificate, and keep that and its key in DIR.

Every user of the machine sees the arguments of a program: give "-" to read the
token from standard input, or @FILE to read it from a file. The scaler is told
the token only after it has shown the certificate of the farm that the token
names.`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&dir, "dir", "", "the node's directory, which only its owner may enter")
	c.Flags().StringVar(&name, "name", "", "the node's name (default: the token's; for a pattern, the host's)")
	if err := c.MarkFlagRequired("dir"); err != nil {
		panic(err) // the flag was defined above
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		text, err := tokenText(args[0], in)
		if err != nil {
			return err
		}
		token, err := enrol.ParseToken(text)
		if err != nil {
			return err
		}
		if name == "" {
			if name, err = nodeName(token); err != nil {
				return err
			}
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		if dir, err = filepath.Abs(dir); err != nil {
			return err
		}
		node, err := enrol.Join(ctx, token, name, dir)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "joined farm %s as %s with the role %s; %s holds its key and certificate\n", node.Farm, node.Name, node.Role, dir)
		return err
	}
	return c
}

// maxTokenText is more than a token has, in bytes.
const maxTokenText = 8 << 10

// tokenText is the token that an argument means. An error has nothing of it.
func tokenText(arg string, in io.Reader) (string, error) {
	switch path, isFile := strings.CutPrefix(arg, "@"); {
	case isFile:
		return service.ReadSecret(path)
	case arg == "-":
		data, err := io.ReadAll(io.LimitReader(in, maxTokenText))
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		return string(data), nil
	}
	return arg, nil
}

// nodeName is the name that a token means, or the host's where it leaves a
// choice.
func nodeName(t enrol.Token) (string, error) {
	if farm.CheckName(t.Names) == nil {
		return t.Names, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find a name for the node: %w (give one with --name)", err)
	}
	host, _, _ = strings.Cut(host, ".")
	return host, nil
}

func memberCommand(build service.Build, out, logs io.Writer) *cobra.Command {
	var o member.Options
	log := service.DefaultLog()
	c := &cobra.Command{
		Use:   "member DIR",
		Short: "be a member of the farm until SIGTERM or Ctrl-C",
		Long: `Be a member of the farm that was joined from DIR: renew the node's lease in the
registry, and its certificate when it is time. It prints a line beginning
"member:" when it is one, "not a member:" when its lease has lapsed, and leaves
when it ends. Killed, the node is gone once its lease has lapsed.`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().DurationVar(&o.Lease, "lease", 10*time.Second, "how long the node counts as there after its last renewal")
	c.Flags().StringVar(&o.Address, "address", "", "host:port of what the node serves, if it does")
	c.Flags().StringVar(&log.Level, "log-level", log.Level, "debug, info, warn or error")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if o.Address != "" {
			if err := farm.CheckAddress(o.Address); err != nil {
				return fmt.Errorf("--address: %w", err)
			}
		}
		var err error
		if o.Dir, err = filepath.Abs(args[0]); err != nil {
			return err
		}
		if o.Log, _, err = service.NewLogger(logs, log, service.NewRegistry(build)); err != nil {
			return err
		}
		o.Log = o.Log.With(zap.String("dir", o.Dir))
		signal.Ignore(syscall.SIGPIPE) // who reads what is said may be gone
		signals := service.WatchSignals(context.Background(), nil)
		defer signals.Close()
		node, err := enrol.Read(o.Dir)
		if err != nil {
			return err
		}
		o.Told = func(state string) {
			if _, err := fmt.Fprintf(out, "%s: %s of farm %s\n", state, node.Name, node.Farm); err != nil {
				o.Log.Debug("nobody reads what is said", zap.Error(err))
			}
		}
		m, err := member.Open(o)
		if err != nil {
			return err
		}
		return errors.Join(m.Run(signals.Finish()), m.Close())
	}
	return c
}
