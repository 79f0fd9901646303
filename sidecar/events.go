package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/hook"
)

func eventsCommand(out, logs io.Writer) *cobra.Command {
	var state string
	var asJSON bool
	var last int
	c := &cobra.Command{
		Use: "events", Short: "show what became of events and their hooks", Args: cobra.NoArgs,
		Long: `Shows the journal of the sidecar on this machine: each hook that was run, what it
said (without secrets), and what became of each event, oldest first.`,
		RunE: func(*cobra.Command, []string) error {
			var records []hook.Record
			spoilt, err := hook.ReadJournal(state, func(r hook.Record) {
				records = append(records, r)
				if last > 0 && len(records) > last {
					records = records[1:]
				}
			})
			if err != nil {
				return err
			}
			if spoilt > 0 {
				if _, err := fmt.Fprintf(logs, "%d lines of the journal cannot be read, as a crash leaves them\n", spoilt); err != nil {
					return err
				}
			}
			for _, r := range records {
				if err := printRecord(out, r, asJSON); err != nil {
					return err
				}
			}
			return nil
		},
	}
	flags := c.Flags()
	flags.StringVar(&state, "dir", config.DefaultState, "the sidecar's state directory (state in its configuration)")
	flags.BoolVar(&asJSON, "json", false, "one line of JSON for each, as in the journal itself")
	flags.IntVarP(&last, "last", "n", 0, "only the last so many (0: all)")
	return c
}

func printRecord(out io.Writer, r hook.Record, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	head := fmt.Sprintf("%s %s %s (%s, %s) ", r.Time.Local().Format(time.DateTime), r.Kind, r.Host.Name, r.Host.Role, r.Host.Address)
	if r.Hook != "" {
		if _, err := io.WriteString(out, head); err != nil {
			return err
		}
		return printHook(out, r)
	}
	line := head + "event " + r.Event + ": " + r.Result
	if r.Failed > 0 {
		line += fmt.Sprintf(", %d hooks did not end well", r.Failed)
	}
	if r.Detail != "" {
		line += " (" + r.Detail + ")"
	}
	_, err := fmt.Fprintln(out, line)
	return err
}
