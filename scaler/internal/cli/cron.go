package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	farmregistry "farmhand/internal/registry"
	"farmhand/scaler/internal/cron"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/terminal"
)

func cronCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "cron", Short: "messages that are put into queues again and again",
		Long: `Messages that the scaler which leads puts into queues again and again, as the section
cron of the farm file says. docs/ROLES.md says what is promised about them.`,
	}
	c.AddCommand(cronList(), cronRun())
	return c
}

func cronList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "show each one's next time and its last", Args: cobra.NoArgs}
	w := farmFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return w.with(func(client *farmregistry.Client) error {
			jobs, err := cronJobs(c.Context(), client)
			if err != nil {
				return err
			}
			states, err := daemon.CronStates(c.Context(), client)
			if err != nil {
				return err
			}
			return cronTable(c.OutOrStdout(), jobs, states, time.Now())
		})
	}
	return c
}

// cronJobs are those of the farm file that the scalers go by.
func cronJobs(ctx context.Context, client *farmregistry.Client) ([]farmfile.CronJob, error) {
	file, _, err := daemon.Applied(ctx, client)
	if err != nil {
		return nil, err
	}
	if file == nil {
		return nil, errors.New("the scalers have no farm file yet; scaler apply gives them one")
	}
	f, err := file.Farm()
	if err != nil {
		return nil, err
	}
	return f.CronJobs()
}

// cronTable prints the schedules, each with times where it is.
func cronTable(w io.Writer, jobs []farmfile.CronJob, states map[string]cron.State, now time.Time) error {
	if len(jobs) == 0 {
		_, err := fmt.Fprintln(w, "the farm file has no cron")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "NAME\tSCHEDULE\tTIME ZONE\tNEXT\tLAST SENT\tSTATE") // Flush says what went wrong
	for _, j := range jobs {
		s, known := states[j.Name]
		at := func(when time.Time) string {
			if when.IsZero() {
				return "-"
			}
			return when.In(j.Zone).Format(time.DateTime)
		}
		state := s.Told
		switch {
		case !known:
			state = "no scaler that leads has looked at it yet"
		case s.Claim != nil:
			state = "sending that of " + at(s.Claim.Tick)
			if s.Told != "" {
				state += "; " + s.Told
			}
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", j.Name, j.Schedule, j.Zone, at(j.Upcoming(s, now)), at(s.Sent), terminal.Plain(state))
	}
	return t.Flush()
}

func cronRun() *cobra.Command {
	c := &cobra.Command{
		Use: "run NAME", Short: "put its message into the queue now, once more than its schedule says",
		Args: cobra.ExactArgs(1),
	}
	a := askFlags(c, false)
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.do(c, daemon.OpCron, map[string]string{"name": args[0]}, "put the message of "+args[0]+" into its queue now")
	}
	return c
}
