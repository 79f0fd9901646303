package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	farmregistry "farmhand/internal/registry"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/localfarm"
	"farmhand/scaler/internal/terminal"
)

// around is how much time before and after a decision why shows.
const around = 10 * time.Second

func why() *cobra.Command {
	c := &cobra.Command{
		Use:   "why [ID|NAME]",
		Short: "say why something was decided",
		Long: `Say why something was decided. Without an argument: the last decisions, and what is
thought now. ID is the number that scaler events shows of an entry: that entry, all
that is known of it, and what happened around it. NAME is a server or a role: what
was decided about it.`,
		Args: cobra.MaximumNArgs(1),
	}
	w := farmFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return w.with(func(client *farmregistry.Client) error {
			out := c.OutOrStdout()
			entries, err := client.Entries(c.Context(), 0)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				return explain(out, entries, args[0])
			}
			decided := slices.DeleteFunc(entries, func(e farmregistry.Entry) bool {
				return e.Kind != farmregistry.Decision || e.Fields[farmregistry.Minor] != ""
			})
			for _, e := range decided[max(0, len(decided)-10):] {
				if err := showWhole(out, e); err != nil {
					return err
				}
			}
			v, err := daemon.Viewed(c.Context(), client)
			if err != nil || v == nil {
				return err
			}
			if _, err := fmt.Fprintf(out, "now (%s):\n", v.Time.Local().Format(time.TimeOnly)); err != nil {
				return err
			}
			return reasons(out, v)
		})
	}
	return c
}

// explain shows the entries about something.
func explain(w io.Writer, entries []farmregistry.Entry, what string) error {
	is := func(e farmregistry.Entry) bool {
		return slices.Contains(slices.Collect(maps.Values(e.Fields)), what) || slices.Contains(strings.FieldsFunc(e.Text, func(r rune) bool { return strings.ContainsRune(" :;,()", r) }), what)
	}
	if revision, err := strconv.ParseInt(what, 10, 64); err == nil {
		at := slices.IndexFunc(entries, func(e farmregistry.Entry) bool { return e.Revision == revision })
		if at < 0 {
			return fmt.Errorf("the journal has no entry %d; scaler events shows those that there are", revision)
		}
		moment := entries[at].Time
		is = func(e farmregistry.Entry) bool {
			return e.Time.After(moment.Add(-around)) && e.Time.Before(moment.Add(around))
		}
	}
	found := slices.DeleteFunc(slices.Clone(entries), func(e farmregistry.Entry) bool { return !is(e) })
	if len(found) == 0 {
		return fmt.Errorf("the journal has nothing about %q", what)
	}
	for _, e := range found {
		if err := showWhole(w, e); err != nil {
			return err
		}
	}
	return nil
}

// showWhole prints an entry with all its fields.
func showWhole(w io.Writer, e farmregistry.Entry) error {
	text := fmt.Sprintf("%d  %s  %s  %s: %s\n", e.Revision, e.Time.Local().Format(time.DateTime), terminal.Plain(e.Who), terminal.Plain(e.Kind), terminal.Plain(e.Text))
	var fields []string
	for _, key := range slices.Sorted(maps.Keys(e.Fields)) {
		if e.Fields[key] != "" {
			fields = append(fields, key+"="+e.Fields[key])
		}
	}
	if len(fields) > 0 {
		text += "         " + terminal.Plain(strings.Join(fields, " ")) + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

func events() *cobra.Command {
	c := &cobra.Command{
		Use: "events", Short: "show what happened and what was decided", Args: cobra.NoArgs,
		Long: `Show the journal: what happened in the farm and what the scaler decided, in the
order of the registry. --json prints one JSON object a line, to keep or to search.`,
	}
	w := farmFlags(c)
	asJSON := c.Flags().Bool("json", false, "print JSON lines")
	follow := c.Flags().BoolP("follow", "f", false, "wait for more, until Ctrl-C")
	last := c.Flags().UintP("last", "n", 0, "only the last N that are there (default: all)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return w.with(func(client *farmregistry.Client) error { return showEvents(c, client, *asJSON, *follow, int(*last)) })
	}
	return c
}

func showEvents(c *cobra.Command, client *farmregistry.Client, asJSON, follow bool, last int) error {
	show := func(e farmregistry.Entry) error { return showEntry(c.OutOrStdout(), e, asJSON) }
	if follow {
		return untilSignal(c.Context(), func(ctx context.Context) error {
			return client.FollowEntries(ctx, last, show, func(err error) {
				_, _ = fmt.Fprintln(c.ErrOrStderr(), "scaler: waiting:", err)
			})
		})
	}
	entries, err := client.Entries(c.Context(), last)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := show(e); err != nil {
			return err
		}
	}
	return nil
}

func logs() *cobra.Command {
	c := &cobra.Command{
		Use: "logs NAME", Short: "show what an instance of this machine logs; NAME may be scaler",
		Args: cobra.ExactArgs(1),
	}
	dir := localFlag(c)
	last := c.Flags().UintP("last", "n", 100, "only the last N lines; 0 for all")
	c.RunE = func(c *cobra.Command, args []string) error {
		d, err := dir()
		if err != nil {
			return err
		}
		path, err := logOf(c.Context(), d, args[0])
		if err != nil {
			return err
		}
		return tail(c.OutOrStdout(), path, int(*last))
	}
	return c
}

// logOf is the log of an instance.
func logOf(ctx context.Context, d localfarm.Dir, name string) (string, error) {
	if name == "scaler" {
		return d.Log(), nil
	}
	found, err := instancesIn(d)
	if err != nil {
		return "", err
	}
	names := []string{"scaler"}
	if found != nil {
		list, err := found.List(ctx)
		if err != nil {
			return "", err
		}
		for _, i := range list {
			if i.Name == name {
				return i.Log, nil
			}
			names = append(names, i.Name)
		}
	}
	return "", fmt.Errorf("there is no instance %q on this machine; there are %s", name, strings.Join(names, ", "))
}

// tail prints the last n lines of a file; all if n is 0.
func tail(w io.Writer, path string, n int) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if n == 0 {
		_, err := io.Copy(w, f)
		return err
	}
	var lines []string
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		if lines = append(lines, scan.Text()); len(lines) > 2*n {
			lines = slices.Clone(lines[len(lines)-n:])
		}
	}
	if err := scan.Err(); err != nil {
		return err
	}
	_, err = io.WriteString(w, strings.Join(append(lines[max(0, len(lines)-n):], ""), "\n"))
	return err
}

func operationTable(w io.Writer, list []farmregistry.Operation) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "ID\tASKED\tBY\tWHAT\tSTATE\t") // Flush says what went wrong
	for _, o := range list {
		text := lastStep(o)
		if o.HasEnded() {
			text = firstLine(o.Result + o.Error)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", o.ID, o.Asked.Local().Format(time.DateTime), o.By, strings.TrimSpace(o.Kind+" "+arguments(o)), o.State, text)
	}
	return t.Flush()
}
