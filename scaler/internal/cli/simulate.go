package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"farmhand/internal/service"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/simulate"
)

func simulation() *cobra.Command {
	c := &cobra.Command{
		Use:   "simulate TRACE",
		Short: "replay a load through the scaling of a farm file; nothing is launched",
		Long: `Replay a trace of a load (CSV; docs/SCALING.md has the format) through the same
choice that the scaler makes: how many servers there would be and what they would
cost, against as many as half more than the peak needs, and for how long they
would have too much to do. What a server can do must be said; nothing is
launched.`,
		Example: `  scaler simulate night.csv --farm farm.yaml --capacity db=2500 --price db=0.40 --plot night.svg`,
		Args:    cobra.ExactArgs(1),
	}
	flags := c.Flags()
	file := flags.String("farm", defaultFile, "the farm file")
	capacity := flags.StringToString("capacity", nil, "queries or requests per second that a server can do: ROLE=NUMBER (repeatable)")
	price := flags.StringToString("price", nil, "price of a server for an hour: ROLE=NUMBER (repeatable)")
	launch := flags.Duration("launch", 90*time.Second, "the time from asking for a server to its being there")
	warmUp := flags.Duration("warm-up", 2*time.Minute, "the time that a replica needs to catch up then")
	drain := flags.Duration("drain", time.Minute, "the time until a server that is to go is gone")
	asJSON := flags.Bool("json", false, "print JSON for programs, with the reasons of every action")
	plot := flags.String("plot", "", "write a plot to this file: .svg or .html")
	explain := flags.Bool("explain", false, "say every action and its reasons, and what held back when an overload began")
	c.RunE = func(c *cobra.Command, args []string) error {
		draw, err := plotter(*plot)
		if err != nil {
			return err
		}
		f, err := loadFarm(*file)
		if err != nil {
			return err
		}
		t, err := simulate.ReadFile(args[0])
		var wrong *simulate.TraceError
		switch {
		case errors.As(err, &wrong):
			return fmt.Errorf("%s is not good:\n%w", args[0], err)
		case err != nil:
			return err
		}
		a := simulate.Assumptions{Launch: *launch, WarmUp: *warmUp, Drain: *drain, Roles: map[string]simulate.Assumption{}}
		if err := assume(&a, *capacity, *price); err != nil {
			return err
		}
		result, err := simulate.Run(f, t, a)
		if err != nil {
			return err
		}
		if err := draw(result, fmt.Sprintf("%s with %s", filepath.Base(args[0]), filepath.Base(*file))); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c, result)
		}
		return tellSimulation(c.OutOrStdout(), result, len(*price) > 0, *explain)
	}
	return c
}

// plotter returns what writes the plot to a file, in the format of its name.
func plotter(file string) (func(*simulate.Result, string) error, error) {
	var write func(*simulate.Result, io.Writer, string) error
	switch strings.ToLower(filepath.Ext(file)) {
	case ".svg":
		write = (*simulate.Result).SVG
	case ".html":
		write = (*simulate.Result).HTML
	default:
		if file != "" {
			return nil, fmt.Errorf("--plot %s: expected a name that ends with .svg or .html", file)
		}
		return func(*simulate.Result, string) error { return nil }, nil
	}
	return func(r *simulate.Result, title string) error {
		var plot bytes.Buffer
		if err := write(r, &plot, title); err != nil {
			return fmt.Errorf("draw plot: %w", err)
		}
		if err := os.WriteFile(file, plot.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write plot: %w", err)
		}
		return nil
	}, nil
}

// loadFarm reads a farm file for a command that needs a good one.
func loadFarm(file string) (*farmfile.Farm, error) {
	f, err := farmfile.Load(file)
	var errs service.ConfigErrors
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no %s (scaler init %[1]s writes one)", file)
	case errors.As(err, &errs):
		return nil, fmt.Errorf("%s is not good:\n%w", file, err)
	}
	return f, err
}

// assume reads the flags that are about a role.
func assume(a *simulate.Assumptions, capacity, price map[string]string) error {
	set := func(flag string, values map[string]string, into func(*simulate.Assumption, float64)) error {
		for _, role := range slices.Sorted(maps.Keys(values)) {
			value, err := strconv.ParseFloat(values[role], 64)
			if err != nil {
				return fmt.Errorf("--%s %s=%s: expected a number", flag, role, values[role])
			}
			r := a.Roles[role]
			into(&r, value)
			a.Roles[role] = r
		}
		return nil
	}
	return errors.Join(
		set("capacity", capacity, func(r *simulate.Assumption, v float64) { r.Capacity = v }),
		set("price", price, func(r *simulate.Assumption, v float64) { r.Price = v }),
	)
}

// tellSimulation prints the result for people.
func tellSimulation(w io.Writer, result *simulate.Result, priced, explain bool) error {
	if explain {
		explainSimulation(w, result)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(columns ...string) {
		_, _ = fmt.Fprintln(t, strings.TrimRight(strings.Join(columns, "\t"), "\t")) // Flush says what went wrong
	}
	row(fmt.Sprintf("%s from %s, decided every %v", service.Duration(result.To.Sub(result.From)), result.From.Format("2006-01-02 15:04 MST"), simulate.Tick))
	row()
	row("ROLE", "SERVERS", "LAUNCHED", "TERMINATED", "SERVER-HOURS", "COST", "OVERLOADED", "WORST", "NOT SERVED")
	fleet := func(name, servers, launched, terminated string, f simulate.Fleet) {
		cost := "-"
		if priced {
			cost = fmt.Sprintf("%.2f", f.Cost)
		}
		row(name, servers, launched, terminated, fmt.Sprintf("%.1f", f.Hours), cost,
			service.Duration(time.Duration(f.Overloaded*float64(time.Second))).String(),
			fmt.Sprintf("%.0f%%", f.Worst*100), fmt.Sprintf("%.2f%%", f.NotServed*100))
	}
	var scaled, fixed float64
	for _, r := range result.Roles {
		fleet(r.Name, span(r.Fewest, r.Most), strconv.Itoa(r.Launched), strconv.Itoa(r.Terminated), r.Fleet)
		fleet("  fixed", strconv.Itoa(r.Count), "-", "-", r.Fixed)
		scaled, fixed = scaled+r.Fleet.Hours, fixed+r.Fixed.Hours
		if priced {
			scaled, fixed = scaled-r.Fleet.Hours+r.Fleet.Cost, fixed-r.Fixed.Hours+r.Fixed.Cost
		}
	}
	row()
	what := "server-hours"
	if priced {
		what = "cost"
	}
	if fixed > 0 { // all prices may be zero
		row(fmt.Sprintf("Scaling takes %.0f%% of the %s of fleets of a fixed size, for the peak and half as much again.", scaled/fixed*100, what))
	}
	for _, r := range result.Roles {
		if r.AtMax > 0 {
			row(fmt.Sprintf("%s was overloaded for %v with as many servers as count.max allows.", r.Name, service.Duration(r.AtMax*float64(time.Second))))
		}
	}
	if len(result.LeftOut) > 0 {
		row("Left out, because the trace does not tell: " + strings.Join(result.LeftOut, ", "))
	}
	return t.Flush()
}

func span(low, high int) string {
	if low == high {
		return strconv.Itoa(low)
	}
	return fmt.Sprintf("%d to %d", low, high)
}

// explainSimulation prints every action, in the order of time, and its reasons.
func explainSimulation(w io.Writer, result *simulate.Result) {
	type action struct {
		role string
		simulate.Step
	}
	var all []action
	for _, r := range result.Roles {
		for _, s := range r.Steps {
			all = append(all, action{r.Name, s})
		}
	}
	slices.SortStableFunc(all, func(a, b action) int { return a.At.Compare(b.At) })
	var text strings.Builder
	for _, a := range all {
		_, _ = fmt.Fprintf(&text, "%s  %s: %s\n", a.At.Format("2006-01-02 15:04:05"), a.role, a.What)
		if a.What == "overloaded" {
			_, _ = fmt.Fprintf(&text, "  %-10s  %s\n", "load", a.Why)
		}
		for _, line := range a.Reasons {
			_, _ = fmt.Fprintf(&text, "  %-10s  %s\n", line.Kind, line.Text)
		}
	}
	_, _ = fmt.Fprintln(w, text.String()) // the table after it says what went wrong
}
