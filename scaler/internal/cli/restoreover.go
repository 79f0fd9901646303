package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"farmhand/internal/backup"
	"farmhand/internal/restore"
	"farmhand/scaler/internal/steer"
)

func restoreOver() *cobra.Command {
	c := &cobra.Command{
		Use:   "over",
		Short: "take the farm's database back to an earlier moment",
		Long: `Take the farm's database back to an earlier moment. The primary is killed, and nobody
takes writes until its data has been made of a full backup and the archive; then it
leads, the other servers copy it, and a full backup is taken. What was committed after that
moment is given up. What the primary had before stays on its disk until scaler restore
confirm. If the moment cannot be reached, or the data is not whole, the cluster goes on
with the data that it has.`,
		Example: `  scaler restore over --local ./farm --to 2026-11-28T17:04:05Z --dry-run`,
		Args:    cobra.NoArgs,
	}
	a := askFlags(c, true)
	s := shelving{where: a.where}
	to := c.Flags().String("to", "latest", "the moment: latest, a time (RFC 3339), or a GTID position")
	id := c.Flags().String("backup", "", "the full backup to begin with (default: the newest that will do)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		target, err := restore.ParseTarget(*to)
		if err != nil {
			return err
		}
		if err := s.with(c.Context(), func(s *shelf) error {
			return s.foretell(c.Context(), c.OutOrStdout(), target, *id)
		}); err != nil {
			return err
		}
		return a.do(c, string(steer.Restore), map[string]string{"to": target.String(), "backup": *id},
			fmt.Sprintf("take the database back to %s: what was committed after that IS GIVEN UP, and nobody can write until it is done", target))
	}
	return c
}

// foretell says what a restore over the cluster would use and what it would give up.
func (s *shelf) foretell(ctx context.Context, out io.Writer, target restore.Target, id string) error {
	plan, err := restore.Find(ctx, restore.Source{Store: s.store, Cluster: s.cluster}, target, id)
	if err != nil {
		return err
	}
	if err := tellPlan(out, plan, false); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "given up: "+givenUp(plan.Beyond, target))
	return err
}

// givenUp is what of an archive a restore leaves out, for people.
func givenUp(beyond []backup.Segment, target restore.Target) string {
	const unstored = "what the archive has not stored yet"
	if target == (restore.Target{}) {
		return unstored
	}
	transactions := 0
	var until time.Time
	for _, s := range beyond {
		transactions += s.Transactions
		if s.Last.After(until) {
			until = s.Last
		}
	}
	text := "what of the last of those pieces was committed after that, and " + unstored
	if transactions > 0 {
		text = fmt.Sprintf("%d transactions up to %s, %s", transactions, until.UTC().Format(time.RFC3339), text)
	}
	return text
}

func restoreConfirm() *cobra.Command {
	c := &cobra.Command{
		Use: "confirm", Short: "remove the data that was kept from before the last restore",
		Args: cobra.NoArgs,
	}
	a := askFlags(c, true)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.do(c, string(steer.Confirm), nil, "remove the data from before the last restore, which is then GONE")
	}
	return c
}
