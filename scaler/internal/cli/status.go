package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"farmhand/internal/farm"
	"farmhand/internal/report"
	"farmhand/scaler/internal/localfarm"
)

func status() *cobra.Command {
	c := &cobra.Command{
		Use:   "status --local DIR",
		Short: "show the servers of a farm and how they are",
		Args:  cobra.NoArgs,
	}
	dir := localFlag(c)
	asJSON := c.Flags().Bool("json", false, "print JSON for programs")
	c.RunE = func(c *cobra.Command, _ []string) error {
		path, err := dir()
		if err != nil {
			return err
		}
		state, err := localfarm.ReadState(path)
		if err != nil {
			return err
		}
		if *asJSON {
			encoder := json.NewEncoder(c.OutOrStdout())
			encoder.SetIndent("", "  ")
			return encoder.Encode(state)
		}
		return table(c.OutOrStdout(), state)
	}
	return c
}

// table prints a farm's state for people. What is not known is "?".
func table(w io.Writer, s localfarm.State) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(columns ...string) {
		_, _ = fmt.Fprintln(t, strings.TrimRight(strings.Join(columns, "\t"), "\t")) // Flush says what went wrong
	}
	row("SERVER", "ROLE", "ADDRESS", "STATE", "BEHIND", "PID", "")
	state := "running"
	if s.Proxy.PID == 0 {
		state = "stopped"
	}
	row("proxy", "", strings.TrimSpace(s.Proxy.Listen+" "+s.Proxy.Socket), state, "", pid(s.Proxy.PID), s.Proxy.Detail)
	for _, r := range s.Servers {
		row(r.Name, string(r.Role), r.Address, string(r.State), behind(r), pid(r.PID), detail(r))
	}
	if !s.Ready {
		row("the farm is not ready")
	}
	return t.Flush()
}

func pid(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func behind(r report.Report) string {
	switch {
	case r.Role == farm.Primary:
		return "-"
	case r.Replication == nil || r.Replication.Behind == nil:
		return "?"
	}
	return fmt.Sprintf("%d s", *r.Replication.Behind)
}

// detail is the first line of what is to be said of a server.
func detail(r report.Report) string {
	text := r.Detail
	if r.Replication != nil && r.Replication.Error != "" {
		text = r.Replication.Error
	}
	text, _, _ = strings.Cut(text, "\n")
	return text
}
