package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	farmregistry "farmhand/internal/registry"
	"farmhand/scaler/internal/control"
	"farmhand/scaler/internal/terminal"
)

func registryMembers() *cobra.Command {
	var asJSON, watch bool
	c := &cobra.Command{
		Use:   "members DIR",
		Short: "show which nodes are there",
		Long: `Show which nodes are there: those that renew their lease; and the control nodes,
with their state: "leads" and "follows" are of the registry's own election. --watch shows them
again at every change, until Ctrl-C; with --json that is one line for each.`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	c.Flags().BoolVar(&watch, "watch", false, "show every change until Ctrl-C")
	c.RunE = func(c *cobra.Command, args []string) error {
		d, err := directory(args)
		if err != nil {
			return err
		}
		out := c.OutOrStdout()
		return d.With(func(client *farmregistry.Client, _ control.Config) error {
			if watch {
				return untilSignal(c.Context(), func(ctx context.Context) error {
					return client.WatchMembers(ctx, func(v farmregistry.MembersView) error { return showView(out, v, asJSON) })
				})
			}
			members, err := client.Members(c.Context())
			if err != nil {
				return err
			}
			controls, err := controlNodes(c.Context(), client)
			if err != nil {
				return err
			}
			if asJSON {
				return indented(out, append(members, asMembers(controls)...))
			}
			return errors.Join(memberTable(out, members), controlTable(out, controls))
		})
	}
	return c
}

// showView prints one state of a watch.
func showView(w io.Writer, v farmregistry.MembersView, asJSON bool) error {
	lost := ""
	if v.Lost != nil {
		lost = v.Lost.Error()
	}
	if asJSON {
		return json.NewEncoder(w).Encode(struct {
			Time    time.Time             `json:"time"`
			Members []farmregistry.Member `json:"members"`
			Changed []string              `json:"changed"`
			Lost    string                `json:"lost,omitempty"`
		}{time.Now().UTC(), v.Members, append([]string{}, v.Changed...), lost})
	}
	head := fmt.Sprintf("%s, %d there", time.Now().Format(time.TimeOnly), len(v.Members))
	switch {
	case lost != "":
		head = fmt.Sprintf("%s, the registry is lost and this may be old: %s", time.Now().Format(time.TimeOnly), lost)
	case len(v.Changed) > 0:
		head += ", changed: " + strings.Join(v.Changed, " ")
	}
	if _, err := fmt.Fprintln(w, head); err != nil {
		return err
	}
	return memberTable(w, v.Members)
}

func memberTable(w io.Writer, members []farmregistry.Member) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "NODE\tROLE\tADDRESS\tSINCE") // Flush says what went wrong
	for _, m := range members {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", terminal.Plain(m.Name), terminal.Plain(m.Role), terminal.Plain(m.Address), m.Since.Local().Format(time.DateTime))
	}
	return t.Flush()
}

func registryEvents() *cobra.Command {
	var asJSON, follow bool
	var last uint
	c := &cobra.Command{
		Use:   "events DIR",
		Short: "show what happened and what was decided",
		Long: `Show the journal: what happened in the farm and what the scaler decided, in the
order of the registry. --json prints one JSON object a line, to keep or to search.`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON lines")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "wait for more, until Ctrl-C")
	c.Flags().UintVarP(&last, "last", "n", 0, "only the last N that are there (default: all)")
	c.RunE = func(c *cobra.Command, args []string) error {
		d, err := directory(args)
		if err != nil {
			return err
		}
		return d.With(func(client *farmregistry.Client, _ control.Config) error {
			return showEvents(c, client, asJSON, follow, int(last))
		})
	}
	return c
}

func showEntry(w io.Writer, e farmregistry.Entry, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(e)
	}
	var fields strings.Builder
	for _, key := range slices.Sorted(maps.Keys(e.Fields)) {
		fmt.Fprintf(&fields, " %s=%s", key, e.Fields[key])
	}
	_, err := fmt.Fprintf(w, "%7d  %s  %-20s %-16s %s%s\n", e.Revision, e.Time.Local().Format("2006-01-02 15:04:05.000"), terminal.Plain(e.Kind), terminal.Plain(e.Who), terminal.Plain(e.Text), terminal.Plain(fields.String()))
	return err
}

func indented(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// untilSignal runs f until Ctrl-C or SIGTERM, which is how it is meant to end.
func untilSignal(ctx context.Context, f func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := f(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}
