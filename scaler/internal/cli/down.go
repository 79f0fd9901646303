package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"farmhand/scaler/internal/localfarm"
	"farmhand/scaler/internal/provider"
)

func down() *cobra.Command {
	c := &cobra.Command{
		Use:   "down --local DIR",
		Short: "stop a farm that runs on this machine; its data stays",
		Long: `Stop a farm that runs on this machine, in order; its data stays. A farm whose scaler
was killed is stopped as well.`,
		Args: cobra.NoArgs,
	}
	dir := localFlag(c)
	limit := c.Flags().Duration("limit", 2*time.Minute, "how long to wait until it has stopped")
	c.RunE = func(c *cobra.Command, _ []string) error {
		d, err := dir()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeoutCause(c.Context(), *limit, fmt.Errorf("waited for %v", *limit))
		defer cancel()
		err = d.Stop(ctx)
		if errors.Is(err, localfarm.ErrNotRunning) {
			return downWithoutScaler(ctx, c.OutOrStdout(), d, err)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "farm stopped; its data is in %s\n", d.Path)
		return err
	}
	return c
}

// downWithoutScaler stops what a scaler that was killed has left.
func downWithoutScaler(ctx context.Context, w io.Writer, d localfarm.Dir, notRunning error) error {
	found, err := instancesIn(d)
	if err != nil {
		return err
	}
	var running []provider.Instance
	if found != nil {
		list, err := found.List(ctx)
		if err != nil {
			return err
		}
		running = slices.DeleteFunc(list, func(i provider.Instance) bool { return i.PID == 0 })
	}
	if len(running) == 0 {
		_, err := fmt.Fprintln(w, notRunning)
		return err
	}
	lock, err := d.Hold() // no scaler begins meanwhile
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := localfarm.StopInstances(ctx, found, running, ""); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d instances stopped, whose scaler had gone; the data is in %s\n", len(running), d.Path)
	return err
}

// instancesIn is the local provider of the farm in a directory; nil if there has
// never been a farm.
func instancesIn(d localfarm.Dir) (*provider.Local, error) {
	if _, err := d.Control().Config(); err != nil {
		return nil, nil
	}
	// Only what is there is looked at: new addresses are not given.
	return provider.NewLocal(provider.Options{Dir: d.Path, First: netip.AddrFrom4([4]byte{127, 0, 10, 1})})
}
