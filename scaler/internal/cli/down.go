package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"farmhand/scaler/internal/localfarm"
)

func down() *cobra.Command {
	c := &cobra.Command{
		Use:   "down --local DIR",
		Short: "stop a farm that runs on this machine; its data stays",
		Args:  cobra.NoArgs,
	}
	dir := localFlag(c)
	limit := c.Flags().Duration("limit", 2*time.Minute, "how long to wait until it has stopped")
	c.RunE = func(c *cobra.Command, _ []string) error {
		path, err := dir()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeoutCause(c.Context(), *limit, fmt.Errorf("waited for %v", *limit))
		defer cancel()
		err = localfarm.Stop(ctx, path)
		if errors.Is(err, localfarm.ErrNotRunning) {
			_, err = fmt.Fprintln(c.OutOrStdout(), err)
			return err
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "farm stopped; its data is in %s\n", path)
		return err
	}
	return c
}
