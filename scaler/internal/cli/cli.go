// Package cli is the scaler's command line: it reads flags, calls what does
// the work and prints for people. It decides nothing.
package cli

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"farmhand/internal/service"
)

// New returns the scaler's command.
func New() *cobra.Command {
	root := &cobra.Command{
		Use:   "scaler",
		Short: "runs and looks after farms",
		Long: `The operator's tool for farms.

Today it runs a whole farm on this machine (up, status, down): one primary, its
replicas, and the proxy in front of them, as real servers on loopback addresses
of their own. init and check are about the file that says what a farm is to be,
which up does not read yet; simulate replays a load through what it says about
scaling. registry runs what a farm's nodes share, and lets nodes join it.`,
		Version:       service.ReadBuild("scaler").String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(up(), status(), down(), initialise(), check(), schema(), simulation(), registry())
	return root
}

// localFlag adds --local DIR and returns a function that gives the directory's
// absolute path.
func localFlag(c *cobra.Command) func() (string, error) {
	dir := c.Flags().String("local", "", "the directory of a farm on this machine")
	if err := c.MarkFlagRequired("local"); err != nil {
		panic(err) // the flag was defined in the line above
	}
	return func() (string, error) {
		path, err := filepath.Abs(*dir)
		if err != nil {
			return "", fmt.Errorf("--local %s: %w", *dir, err)
		}
		return path, nil
	}
}
