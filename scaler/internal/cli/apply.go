package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	farmregistry "farmhand/internal/registry"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/localfarm"
)

func apply() *cobra.Command {
	c := &cobra.Command{
		Use:   "apply [FILE]",
		Short: "make a farm file the one that the scaler goes by",
		Long: `Make a farm file (with --local DIR/farm.yaml, else farm.yaml, if FILE is not given) the
one that the scaler goes by, and say what that changes. Servers that run take what they
can while they run, one after another: hooks, templates, how a proxy reads. For the rest (status
and plan say which and what) others have to take their place. With --restart they do, one at a
time and only while all is well, the primary last, after a switchover.`,
		Args: cobra.MaximumNArgs(1),
	}
	w := farmFlags(c)
	dryRun := c.Flags().Bool("dry-run", false, "say what would change; change nothing")
	yes := c.Flags().BoolP("yes", "y", false, "do not ask first where servers may go")
	restart := c.Flags().Bool("restart", false, "replace servers that run an older configuration, one at a time; also when the file is applied already")
	c.RunE = func(c *cobra.Command, args []string) error {
		file, farm, err := w.file(args)
		if err != nil {
			return err
		}
		return w.with(func(client *farmregistry.Client) error {
			out := c.OutOrStdout()
			was, raw, err := daemon.Applied(c.Context(), client)
			if err != nil {
				return err
			}
			changes, err := compare(was, farm)
			if err != nil {
				return err
			}
			if err := printChanges(out, was, changes); err != nil {
				return err
			}
			same := was != nil && len(changes.lines) == 0 && was.Text == file.Text
			if *dryRun || same && !*restart {
				return nil
			}
			if (changes.fewer || *restart) && !*yes {
				what := "some servers may be terminated"
				if *restart {
					what = "servers that run an older configuration are replaced by others"
				}
				if err := confirm(c, what); err != nil {
					return err
				}
			}
			if same {
				return renew(c, client, w, farm)
			}
			if err := daemon.Apply(c.Context(), client, file, raw); err != nil {
				if errors.Is(err, farmregistry.ErrChanged) {
					return fmt.Errorf("somebody else has applied a farm file just now; look again: %w", err)
				}
				return err
			}
			if _, err := client.Append(c.Context(), farmregistry.Entry{Kind: "farm-file", Who: operator(), Text: fmt.Sprintf("%s was applied: %d changes", file.Path, len(changes.lines))}); err != nil {
				return err
			}
			if _, err = fmt.Fprintf(out, "applied; scaler status %s shows what comes of it\n", w.args()); err != nil || !*restart {
				return err
			}
			return renew(c, client, w, farm)
		})
	}
	return c
}

// renew has the servers replaced that run an older configuration than the file that
// was applied, and follows that. Who leads has to have taken the file before.
func renew(c *cobra.Command, client *farmregistry.Client, w where, farm *farmfile.Farm) error {
	digest, err := daemon.RolesDigest(farm)
	if err != nil {
		return err
	}
	o, err := client.Ask(c.Context(), farmregistry.Operation{Kind: daemon.OpRenew, Args: map[string]string{"roles": digest}, By: operator()})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c.OutOrStdout(), "operation %s: replace servers that run an older configuration\n", o.ID); err != nil {
		return err
	}
	return follow(c, client, w, o.ID)
}

// file is the farm file that is meant.
func (w where) file(args []string) (daemon.File, *farmfile.Farm, error) {
	path, local := fileOf(args), ""
	if *w.local != "" {
		d, err := w.dir()
		if err != nil {
			return daemon.File{}, nil, err
		}
		dir := localfarm.Dir{Path: filepath.Dir(d.Path)}
		if local = dir.Path; len(args) == 0 {
			path = dir.FarmFile()
		}
	}
	return readFarmFile(path, local)
}

// changes are the differences between two farm files.
type changes struct {
	lines []string
	fewer bool // servers may be terminated
}

// compare says what differs, key by key, and refuses what cannot be changed.
func compare(was *daemon.File, now *farmfile.Farm) (changes, error) {
	var c changes
	if was == nil {
		return c, nil
	}
	old, err := was.Farm()
	if err != nil {
		return c, err
	}
	if old.Name != now.Name {
		return c, fmt.Errorf("the farm's name cannot be changed: it is %s", old.Name)
	}
	if !sameProvider(old.Provider, now.Provider) {
		return c, errors.New("the region, the provider and its directory cannot be changed while there are instances: they would be forgotten")
	}
	for name, role := range old.Roles {
		other, there := now.Roles[name]
		if !there {
			return c, fmt.Errorf("role %s is missing: its servers would be forgotten; terminate them first", name)
		}
		if role.Kind != other.Kind {
			return c, fmt.Errorf("role %s is of kind %s; that cannot be changed", name, role.Kind)
		}
		if a, b := role.Parameters.MySQL, other.Parameters.MySQL; a != nil && (a.Flavor != b.Flavor || a.Port != b.Port) {
			return c, fmt.Errorf("role %s: flavor and port cannot be changed while there are servers: %s on port %d", name, a.Flavor, a.Port)
		}
		c.fewer = c.fewer || other.Count.Max < role.Count.Max
	}
	before, err := flat(old)
	if err != nil {
		return c, err
	}
	after, err := flat(now)
	if err != nil {
		return c, err
	}
	keys := maps.Clone(before)
	maps.Copy(keys, after)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if before[key] != after[key] {
			c.lines = append(c.lines, fmt.Sprintf("%s: %s -> %s", key, or(before[key], "-"), or(after[key], "-")))
		}
	}
	return c, nil
}

// flat is a farm by the paths of its keys.
func flat(f *farmfile.Farm) (map[string]string, error) {
	data, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	var content any
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, err
	}
	all := map[string]string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, one := range v {
				walk(strings.TrimPrefix(path+"."+key, "."), one)
			}
		case []any:
			for i, one := range v {
				walk(path+"["+strconv.Itoa(i)+"]", one)
			}
		default:
			all[path] = fmt.Sprint(v)
		}
	}
	walk("", content)
	return all, nil
}

func printChanges(w io.Writer, was *daemon.File, c changes) error {
	text := strings.Join(c.lines, "\n  ")
	switch {
	case was == nil:
		text = "this is the farm's first farm file"
	case len(c.lines) == 0:
		text = "nothing changes"
	default:
		text = "changes:\n  " + text
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

func plan() *cobra.Command {
	c := &cobra.Command{
		Use:   "plan [FILE]",
		Short: "say what the scaler would do now and why, or what a farm file would change",
		Long: `Say what the scaler that leads thinks of the farm now: how many servers of each role
there are to be and why, what it would do and what holds that back. With FILE, say
what applying it would change.`,
		Args: cobra.MaximumNArgs(1),
	}
	w := farmFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return w.with(func(client *farmregistry.Client) error {
			out := c.OutOrStdout()
			if len(args) > 0 {
				_, farm, err := w.file(args)
				if err != nil {
					return err
				}
				was, _, err := daemon.Applied(c.Context(), client)
				if err != nil {
					return err
				}
				changes, err := compare(was, farm)
				if err != nil {
					return err
				}
				return printChanges(out, was, changes)
			}
			v, err := daemon.Viewed(c.Context(), client)
			if err != nil {
				return err
			}
			if v == nil {
				return errors.New("no scaler has ever led this farm: it begins once a farm file is applied (scaler apply)")
			}
			return reasons(out, v)
		})
	}
	return c
}

// reasons prints what the leader thinks of the farm.
func reasons(w io.Writer, v *daemon.View) error {
	var s strings.Builder
	if v.Paused != "" {
		fmt.Fprintf(&s, "paused: %s\n", v.Paused)
	}
	if v.Cluster != "" {
		fmt.Fprintf(&s, "cluster %s\n", v.Cluster)
		for _, reason := range v.Reasons {
			fmt.Fprintf(&s, "  %s\n", reason)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.Roles)) {
		r := v.Roles[name]
		fmt.Fprintf(&s, "role %s: %d there, %d wanted", name, r.Live, r.Wanted)
		if r.Pinned > 0 {
			fmt.Fprintf(&s, " (a person asked for %d; scaler scale %s file gives that back to the farm file)", r.Pinned, name)
		}
		s.WriteString("\n")
		for _, reason := range r.Reasons {
			fmt.Fprintf(&s, "  %s: %s\n", reason.Kind, reason.Text)
		}
		if n := len(r.Outdated); n > 0 {
			fmt.Fprintf(&s, "  %d of %d run an older configuration (%s): %s; scaler apply --restart replaces them\n",
				n, r.Live, strings.Join(r.Outdated, ", "), strings.Join(r.OutdatedKeys, ", "))
		}
		if r.Held != "" {
			fmt.Fprintf(&s, "  held back: %s\n", r.Held)
		}
		if r.Failure != "" {
			fmt.Fprintf(&s, "  the last launch failed: %s\n", r.Failure)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.Doing)) {
		fmt.Fprintf(&s, "%s: %s\n", name, v.Doing[name])
	}
	_, err := io.WriteString(w, s.String())
	return err
}

// sameProvider reports whether instances of the one are found by the other.
func sameProvider(a, b farmfile.Provider) bool {
	local, aws := a.Parameters.Local, a.Parameters.AWS
	return a.Kind == b.Kind &&
		(local == nil || local.Directory == b.Parameters.Local.Directory) &&
		(aws == nil || aws.Region == b.Parameters.AWS.Region && aws.Endpoint == b.Parameters.AWS.Endpoint)
}
