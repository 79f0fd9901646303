package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	farmregistry "farmhand/internal/registry"
	"farmhand/scaler/internal/daemon"
)

// asking is how a command asks the scaler that leads for an operation.
type asking struct {
	where
	yes, dryRun, noWait *bool
}

// askFlags adds the flags of commands that ask for something. One that is
// destructive asks a person first.
func askFlags(c *cobra.Command, destructive bool) asking {
	a := asking{where: farmFlags(c)}
	a.dryRun = c.Flags().Bool("dry-run", false, "say what would be asked and what is seen now; ask for nothing")
	a.noWait = c.Flags().Bool("no-wait", false, "do not wait until it has ended (scaler wait ID does)")
	if destructive {
		a.yes = c.Flags().BoolP("yes", "y", false, "do not ask first")
	}
	return a
}

// do asks for an operation and follows it.
func (a asking) do(c *cobra.Command, kind string, args map[string]string, what string) error {
	for key, value := range args {
		if value == "" || value == "false" {
			delete(args, key)
		}
	}
	return a.with(func(client *farmregistry.Client) error {
		out := c.OutOrStdout()
		v, err := daemon.Viewed(c.Context(), client)
		if err != nil {
			return err
		}
		leads, err := client.Leader(c.Context())
		if err != nil {
			return err
		}
		if *a.dryRun {
			return dryRun(out, v, leads.Leader, what)
		}
		if leads.Leader == "" {
			_, _ = fmt.Fprintln(c.ErrOrStderr(), "nobody leads just now: it waits for the next scaler that does") // it goes on either way
		}
		if a.yes != nil && !*a.yes {
			if err := confirm(c, what); err != nil {
				return err
			}
		}
		o, err := client.Ask(c.Context(), farmregistry.Operation{Kind: kind, Args: args, By: operator()})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "operation %s: %s\n", o.ID, what); err != nil || *a.noWait {
			return err
		}
		return follow(c, client, a.where, o.ID)
	})
}

// dryRun says what would be asked, and what the leader sees.
func dryRun(w io.Writer, v *daemon.View, leads, what string) error {
	if leads == "" {
		leads = "the scaler that leads next (nobody does now)"
	}
	if _, err := fmt.Fprintf(w, "would ask %s: %s\n", leads, what); err != nil {
		return err
	}
	if v == nil {
		_, err := fmt.Fprintln(w, "nothing is known of the farm: no scaler has ever led it")
		return err
	}
	if _, err := fmt.Fprintf(w, "as it was seen at %s:\n", v.Time.Local().Format(time.DateTime)); err != nil {
		return err
	}
	return reasons(w, v)
}

// confirm asks a person at the terminal.
func confirm(c *cobra.Command, what string) error {
	if _, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); c.InOrStdin() == os.Stdin && err != nil {
		return fmt.Errorf("%s: nobody is there to be asked; --yes does it without, --dry-run says what is seen", what)
	}
	if _, err := fmt.Fprintf(c.ErrOrStderr(), "%s. Go on? [yes/no] ", what); err != nil {
		return err
	}
	line, err := bufio.NewReader(c.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "yes" && answer != "y" {
		return errors.New("nothing was done")
	}
	return nil
}

// follow shows an operation's steps until it has ended; Ctrl-C leaves it running.
func follow(c *cobra.Command, client *farmregistry.Client, w where, id string) error {
	var o farmregistry.Operation
	shown := time.Time{}
	ended := false
	err := untilSignal(c.Context(), func(ctx context.Context) (err error) {
		o, err = client.FollowOperation(ctx, id, func(o farmregistry.Operation) error {
			for _, step := range o.Steps {
				if !step.Time.After(shown) || o.HasEnded() && step.Text == o.Result+o.Error {
					continue
				}
				shown = step.Time
				if _, err := fmt.Fprintf(c.OutOrStdout(), "  %s  %s\n", step.Time.Local().Format("15:04:05.000"), firstLine(step.Text)); err != nil {
					return err
				}
			}
			return nil
		}, func(err error) { _, _ = fmt.Fprintln(c.ErrOrStderr(), "scaler: waiting:", err) })
		ended = err == nil
		return err
	})
	if err != nil {
		return err
	}
	if !ended {
		_, err := fmt.Fprintf(c.OutOrStdout(), "operation %s goes on; scaler wait %s %s waits for its end\n", id, id, w.args())
		return err
	}
	switch o.State {
	case farmregistry.OperationDone:
		// The clocks of two machines may differ.
		took := max(0, o.Ended.Sub(o.Asked)).Round(100 * time.Millisecond)
		_, err = fmt.Fprintf(c.OutOrStdout(), "done: %s (%v)\n", o.Result, took)
	case farmregistry.OperationCancelled:
		err = fmt.Errorf("operation %s was cancelled", id)
	default:
		err = fmt.Errorf("operation %s failed: %s", id, o.Error)
	}
	return err
}

func listOperations() *cobra.Command {
	c := &cobra.Command{
		Use: "operations", Short: "show what operators have asked for, and how far it is", Args: cobra.NoArgs,
	}
	w := farmFlags(c)
	asJSON := c.Flags().Bool("json", false, "print JSON for programs")
	all := c.Flags().Bool("all", false, "those that have ended long ago as well")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return w.with(func(client *farmregistry.Client) error {
			list, err := client.Operations(c.Context())
			if err != nil {
				return err
			}
			if !*all {
				list = slices.DeleteFunc(list, func(o farmregistry.Operation) bool { return o.HasEnded() && time.Since(o.Ended) > time.Hour })
			}
			if *asJSON {
				return indented(c.OutOrStdout(), append([]farmregistry.Operation{}, list...))
			}
			return operationTable(c.OutOrStdout(), list)
		})
	}
	return c
}

func waitOperation() *cobra.Command {
	c := &cobra.Command{Use: "wait ID", Short: "follow an operation until it has ended", Args: cobra.ExactArgs(1)}
	w := farmFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return w.with(func(client *farmregistry.Client) error { return follow(c, client, w, args[0]) })
	}
	return c
}

func cancel() *cobra.Command {
	c := &cobra.Command{Use: "cancel ID", Short: "take an operation back that was not begun, stop a rebundle where it is, or have a release go back", Args: cobra.ExactArgs(1)}
	w := farmFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return w.with(func(client *farmregistry.Client) error {
			err := client.CancelOperation(c.Context(), args[0], operator())
			if errors.Is(err, farmregistry.ErrOperationBegun) {
				return stop(c, client, w, args[0], err)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "operation %s is cancelled\n", args[0])
			return err
		})
	}
	return c
}

// stop has an operation that was begun stop, and says where; begun is why it cannot be
// taken back, which is the end of it for any but a rebundle and a release.
func stop(c *cobra.Command, client *farmregistry.Client, w where, id string, begun error) error {
	was, err := client.Operation(c.Context(), id)
	if err == nil && was.Kind != daemon.OpRebundle && was.Kind != daemon.OpRelease {
		err = begun
	}
	if err != nil {
		return err
	}
	o, err := client.Ask(c.Context(), farmregistry.Operation{Kind: daemon.OpAbort, Args: map[string]string{"id": id}, By: operator()})
	if err != nil {
		return err
	}
	if err := follow(c, client, w, o.ID); err != nil {
		return err
	}
	// Its end is the failure that was asked for.
	if was, err = client.FollowOperation(c.Context(), id, func(farmregistry.Operation) error { return nil }, nil); err == nil {
		_, err = fmt.Fprintf(c.OutOrStdout(), "operation %s: %s\n", id, or(was.Error, was.Result))
	}
	return err
}
