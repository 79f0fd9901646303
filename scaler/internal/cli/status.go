package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"farmhand/internal/cluster"
	farmregistry "farmhand/internal/registry"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/localfarm"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/terminal"
)

// outdated is the age from which what the leader has shown says nothing about now.
const outdated = 5 * time.Second

// state is what status shows.
type state struct {
	*daemon.View
	// Leads is who leads now; empty for nobody.
	Leads string `json:"leads"`
	// Scalers are the control nodes.
	Scalers []controlShown `json:"scalers"`
	// Old is how old the view is, in seconds, if that is too old to go by.
	Old float64 `json:"old_seconds,omitempty"`
	// Operations have not ended.
	Operations []farmregistry.Operation `json:"operations"`
	// Decisions are the last ones, oldest first.
	Decisions []farmregistry.Entry `json:"decisions"`
}

func status() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "show the farm's servers, who leads, what is being done and was decided",
		Long: `Show the farm as the scaler that leads sees it: each server with its part, what it
does and how far it is behind; whether commits are acknowledged by a replica; what
is being done; the last decisions. What is not known is "?".`,
		Args: cobra.NoArgs,
	}
	w := farmFlags(c)
	asJSON := c.Flags().Bool("json", false, "print JSON for programs; with --watch a line at each change")
	watch := c.Flags().Bool("watch", false, "show it again at every change, until Ctrl-C")
	c.RunE = func(c *cobra.Command, _ []string) error {
		out := c.OutOrStdout()
		show := func(s *state, again bool) error {
			switch {
			case *asJSON && again:
				return json.NewEncoder(out).Encode(s)
			case *asJSON:
				return indented(out, s)
			}
			return table(out, s, time.Now())
		}
		err := w.with(func(client *farmregistry.Client) error {
			if !*watch {
				v, err := daemon.Viewed(c.Context(), client)
				if err != nil {
					return err
				}
				s, err := gather(c.Context(), client, v)
				if err != nil {
					return err
				}
				return show(s, false)
			}
			return untilSignal(c.Context(), func(ctx context.Context) error {
				return daemon.WatchView(ctx, client, func(v *daemon.View, lost error) error {
					if lost != nil {
						_, err := fmt.Fprintf(c.ErrOrStderr(), "the registry is lost: %v\n", lost)
						return err
					}
					s, err := gather(ctx, client, v)
					if err != nil {
						return err
					}
					if !*asJSON {
						if _, err := fmt.Fprintf(out, "\x1b[H\x1b[2J%s\n", time.Now().Format(time.TimeOnly)); err != nil {
							return err
						}
					}
					return show(s, true)
				})
			})
		})
		if errors.Is(err, farmregistry.ErrUnavailable) && *w.local != "" && !*asJSON {
			err = errors.Join(w.processes(c.Context(), out), err)
		}
		return err
	}
	return c
}

// processes shows what can be seen of a farm on this machine without its registry:
// which instances run.
func (w where) processes(ctx context.Context, out io.Writer) error {
	d, err := w.dir()
	if err != nil {
		return err
	}
	found, err := instancesIn(localfarm.Dir{Path: filepath.Dir(d.Path)})
	if err != nil || found == nil {
		return err
	}
	list, err := found.List(ctx)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "SERVER\tKIND\tADDRESS\tSIDECAR\tPID\tTASK\tSTATE") // Flush says what went wrong
	for _, i := range list {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%v\t%s\t%s\t?\t?\n", i.Name, i.Kind, i.Address, i.State, pid(i.PID))
	}
	return t.Flush()
}

// lastDecisions is how many are shown, and lookBack how many entries are looked
// through for them.
const (
	lastDecisions = 5
	lookBack      = 200
)

func gather(ctx context.Context, client *farmregistry.Client, v *daemon.View) (*state, error) {
	if v == nil {
		return nil, errors.New("no scaler has ever led this farm: it begins once a farm file is applied (scaler apply)")
	}
	s := &state{View: v, Operations: []farmregistry.Operation{}, Decisions: []farmregistry.Entry{}}
	leads, err := client.Leader(ctx)
	if err != nil {
		return nil, err
	}
	s.Leads = leads.Leader
	if s.Scalers, err = controlNodes(ctx, client); err != nil {
		return nil, err
	}
	if age := time.Since(v.Time); age > outdated {
		s.Old = age.Seconds()
	}
	operations, err := client.Operations(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range operations {
		if !o.HasEnded() {
			s.Operations = append(s.Operations, o)
		}
	}
	entries, err := client.Entries(ctx, lookBack)
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(entries) {
		if e.Kind == farmregistry.Decision && e.Fields[farmregistry.Minor] == "" && len(s.Decisions) < lastDecisions {
			s.Decisions = append(s.Decisions, e)
		}
	}
	slices.Reverse(s.Decisions)
	return s, nil
}

// table prints a farm for people. What is not known is "?".
func table(w io.Writer, s *state, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(columns ...string) {
		_, _ = fmt.Fprintln(t, strings.TrimRight(strings.Join(columns, "\t"), "\t")) // Flush says what went wrong
	}
	leads := "nobody leads: nothing is decided"
	if s.Leads != "" {
		leads = fmt.Sprintf("%s leads, term %d", s.Leads, s.Term)
	}
	row(fmt.Sprintf("farm %s: %s", s.Farm, leads))
	if s.Old > 0 {
		row(fmt.Sprintf("OLD: this was seen %v ago; how it is now nobody knows", time.Duration(s.Old*float64(time.Second)).Round(time.Second)))
	}
	if s.Paused != "" {
		row("PAUSED: " + s.Paused + " (scaler resume)")
	}
	if s.Cluster != "" {
		row(durability(s))
	}
	backupRows(s.View, now, row)
	row()
	row("SERVER", "ROLE", "ADDRESS", "TASK", "STATE", "BEHIND", "EPOCH", "PID", "")
	for _, n := range s.Nodes {
		row(nodeRow(s, n)...)
	}
	for name, doing := range s.Doing {
		if !slices.ContainsFunc(s.Nodes, func(n daemon.NodeView) bool { return n.Name == name }) {
			row(name, strings.TrimPrefix(doing, "launching "), "?", "-", "launching", "?", "?", "?")
		}
	}
	targetRows(s.Roles, row)
	if len(s.Scalers) > 1 {
		controlRows(s.Scalers, row)
	}
	if len(s.Operations) > 0 {
		row()
		row("OPERATION", "", "ASKED BY", "STATE", "")
		for _, o := range s.Operations {
			row(o.ID, o.Kind+" "+arguments(o), o.By, string(o.State), lastStep(o))
		}
	}
	if len(s.Decisions) > 0 {
		row()
		row("DECIDED")
		for _, e := range s.Decisions {
			row(e.Time.Local().Format(time.DateTime) + "  " + firstLine(e.Text))
		}
	}
	return t.Flush()
}

// targetRows are the servers in the provider's load balancers, if it has any.
func targetRows(roles map[string]daemon.RoleView, row func(columns ...string)) {
	first := true
	for _, role := range slices.Sorted(maps.Keys(roles)) {
		r := roles[role]
		if first && (len(r.Targets) > 0 || r.Unbalanced != "") {
			row()
			row("TARGET GROUP", "SERVER", "STATE", "")
			first = false
		}
		for _, t := range r.Targets {
			row(t.Group, t.Instance, t.State, firstLine(t.Why))
		}
		if r.Unbalanced != "" {
			row("?", role, "?", firstLine(r.Unbalanced))
		}
	}
}

// durability is what becomes of a commit, in a line.
func durability(s *state) string {
	a := s.Assignment
	if a == nil {
		return "cluster " + s.Cluster + ": it has no primary yet: " + strings.Join(s.Reasons, "; ")
	}
	var acknowledging []string
	for _, server := range a.Servers {
		if server.Acknowledges {
			acknowledging = append(acknowledging, server.Name)
		}
	}
	text := fmt.Sprintf("cluster %s: epoch %d", s.Cluster, a.Epoch)
	if a.Primary == "" {
		text += ", no primary: writes wait"
	} else {
		text += ", primary " + a.Primary
	}
	if a.Phase != cluster.Steady {
		text += fmt.Sprintf(" (%s: %s)", a.Phase, a.Why)
	}
	switch {
	case !a.SemiSync:
		text += "; commits are acknowledged by NO replica"
	case len(acknowledging) == 0:
		text += "; commits wait: no replica acknowledges"
	default:
		text += "; commits are acknowledged by one of " + strings.Join(acknowledging, ", ")
	}
	return text
}

func nodeRow(s *state, n daemon.NodeView) []string {
	columns := []string{n.Name, string(n.Kind), n.Address.String(), "-", string(n.State), "-", "?", "-", ""}
	var detail string
	fresh := s.Old == 0 && n.Age != nil && *n.Age < 3
	if n.Kind == farmfile.MySQLKind {
		columns[5] = "?"
		columns[1] = "replica"
		server, known := s.Assignment.Server(n.Name)
		switch {
		case !known:
			columns[1] = "?"
		case server.Task == cluster.Lead:
			columns[1], columns[5] = "primary", "-"
		}
		if known {
			columns[2], columns[3] = server.Address, string(server.Task)
		}
		if r := n.Database; r != nil && fresh {
			columns[2], columns[4] = r.Address, string(r.Process)
			if !r.Answers && r.Process == cluster.Running {
				columns[4] = "no answer"
			} else if r.Process == cluster.Running && server.State != "" {
				columns[4] = string(server.State)
			}
			if columns[5] == "?" && r.Beat != nil {
				columns[5] = fmt.Sprintf("%.1f s", r.Beat.Seconds())
			}
			columns[6], columns[7], detail = strconv.FormatUint(uint64(r.Epoch), 10), pid(r.PID), r.Detail
			if r.Errant != "" {
				detail = "it has transactions that its primary has not: " + r.Errant
			} else if r.Missing != "" {
				detail = "it lacks transactions that its position says it has: " + r.Missing
			}
		}
	} else {
		columns[2] = strings.TrimSpace(n.Listen + " " + n.Socket)
		if r := n.Report; r != nil && fresh {
			columns[6], columns[7], detail = strconv.FormatUint(uint64(r.Epoch), 10), pid(r.PID), r.Detail
			if r.State != "" {
				columns[4] = r.State
			}
		}
	}
	if !fresh && n.State == provider.Running {
		columns[4], columns[7] = "?", "?"
		detail = "it has never reported"
		if n.Database != nil || n.Report != nil {
			detail = "it has not reported since this scaler leads"
		}
		if n.Age != nil {
			detail = fmt.Sprintf("it has not reported for %.0f s", *n.Age)
		}
	}
	switch {
	case n.Leaving != "":
		detail = strings.TrimSpace("is to leave (" + n.Leaving + "): " + n.Step + ". " + detail)
	case len(n.Drift) > 0:
		detail = strings.TrimSpace("runs an older configuration: " + strings.Join(n.Drift, ", ") + ". " + detail)
	case n.Lost != "":
		detail = strings.TrimSpace("is given up: " + n.Lost + ". " + detail)
	}
	columns[8] = firstLine(strings.TrimSpace(releaseText(s, n) + " " + detail))
	return columns
}

// releaseText is which release of its site's code a node has, and how that differs from the one in force; empty
// for a node without releases.
func releaseText(s *state, n daemon.NodeView) string {
	if n.Report == nil || n.Report.Release == nil {
		return ""
	}
	r, inForce := n.Report.Release, s.Roles[n.RoleName].Release
	text := "release " + or(r.Version, "none")
	if r.Version != inForce {
		text += ", " + or(inForce, "none") + " is in force"
	}
	switch {
	case r.Doing != "":
		text += ": " + r.Doing
	case r.Refused != "":
		text += ": refuses " + r.Refused + ": " + r.Why
	}
	return text + "."
}

func pid(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func firstLine(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return terminal.Plain(text)
}

func arguments(o farmregistry.Operation) string {
	var list []string
	for _, key := range []string{"role", "version", "rollback", "servers", "name", "to", "why", "force", "allow_loss", "shrink", "undo"} {
		switch value := o.Args[key]; value {
		case "":
		case "true":
			list = append(list, key)
		default:
			list = append(list, value)
		}
	}
	return strings.Join(list, " ")
}

func lastStep(o farmregistry.Operation) string {
	if len(o.Steps) == 0 {
		return ""
	}
	return firstLine(o.Steps[len(o.Steps)-1].Text)
}
