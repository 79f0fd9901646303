package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"farmhand/internal/backup"
	farmregistry "farmhand/internal/registry"
	"farmhand/internal/service"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/localfarm"
	"farmhand/scaler/internal/volume"
)

func volumes() *cobra.Command {
	c := &cobra.Command{
		Use: "volume", Short: "show, copy, grow and restore the disks of the farm's servers",
		Long: `Show, copy, grow and restore the volumes of servers whose storage is of kind volume or
array. These commands ask the provider themselves: they need no scaler that runs.
docs/VOLUMES.md says what is promised.`,
	}
	c.AddCommand(volumeList(), volumeShow(), volumeSnapshot(), volumeSnapshots(), volumeRestore(), volumeGrow(), volumePrune(), volumeDelete())
	return c
}

// onVolumes makes a command that does something with the farm's volumes.
func onVolumes(c *cobra.Command, do func(c *cobra.Command, w where, store volume.Store, args []string) error) *cobra.Command {
	w := farmFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		store, err := w.volumes(c.Context())
		if err != nil {
			return err
		}
		return do(c, w, store, args)
	}
	return c
}

// volumes are those of the farm.
func (w where) volumes(ctx context.Context) (store volume.Store, err error) {
	if *w.local != "" {
		path, err := filepath.Abs(*w.local)
		if err != nil {
			return nil, err
		}
		local, err := instancesIn(localfarm.Dir{Path: path})
		if err == nil && local == nil {
			err = fmt.Errorf("%s: there has never been a farm", *w.local)
		}
		if err != nil {
			return nil, err
		}
		return local.Volumes(), nil
	}
	d, err := w.dir()
	if err != nil {
		return nil, err
	}
	err = w.with(func(client *farmregistry.Client) error {
		farm, err := appliedFarm(ctx, client)
		if err != nil {
			return err
		}
		provided, err := provide(farm, d, "", zap.NewNop())
		store = provided.Volumes
		if err == nil && store == nil {
			err = fmt.Errorf("the provider %s has no volumes", farm.Provider.Kind)
		}
		return err
	})
	return store, err
}

// appliedFarm is what the farm file says that the scalers go by.
func appliedFarm(ctx context.Context, client *farmregistry.Client) (*farmfile.Farm, error) {
	file, _, err := daemon.Applied(ctx, client)
	if err == nil && file == nil {
		err = errors.New("no farm file was applied yet (scaler apply)")
	}
	if err != nil {
		return nil, err
	}
	return file.Farm()
}

func volumeList() *cobra.Command {
	var asJSON *bool
	c := onVolumes(&cobra.Command{Use: "list", Short: "show the volumes", Args: cobra.NoArgs},
		func(c *cobra.Command, _ where, store volume.Store, _ []string) error {
			list, err := store.List(c.Context())
			if err != nil {
				return err
			}
			if *asJSON {
				return indented(c.OutOrStdout(), append([]volume.Volume{}, list...))
			}
			return listing(c.OutOrStdout(), "VOLUME\tKIND\tSIZE\tUSED\tATTACHED TO\t", len(list), func(i int) string {
				v := list[i]
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", v.Name, sort(v.Spec), size(v.Size), used(v), or(v.Instance, "-"), v.Trouble)
			})
		})
	asJSON = c.Flags().Bool("json", false, "print JSON for programs")
	return c
}

func volumeShow() *cobra.Command {
	return onVolumes(&cobra.Command{Use: "show NAME", Short: "show all that is known of a volume, and its snapshots", Args: cobra.ExactArgs(1)},
		func(c *cobra.Command, _ where, store volume.Store, args []string) error {
			v, err := store.Describe(c.Context(), args[0])
			if err != nil {
				return err
			}
			list, err := snapshotsOf(c.Context(), store, v.Name)
			if err != nil {
				return err
			}
			return indented(c.OutOrStdout(), struct {
				volume.Volume
				Snapshots []volume.Snapshot `json:"snapshots"`
			}{v, append([]volume.Snapshot{}, list...)})
		})
}

func volumeSnapshot() *cobra.Command {
	var freeze *time.Duration
	c := onVolumes(&cobra.Command{
		Use: "snapshot NAME", Short: "keep what a volume has now", Args: cobra.ExactArgs(1),
		Long: `Keep what a volume has now. Only what changed since its other snapshots is stored.

Writes to a volume that is attached are held up while it is read, so that all files are
of one moment, as after a loss of power (crash-consistent): a database recovers from that
when it is started. Take it of a replica: a primary that cannot write for longer than
policies.failover allows is replaced.`,
	}, func(c *cobra.Command, _ where, store volume.Store, args []string) error {
		s, err := store.Snapshot(c.Context(), args[0], volume.SnapshotOptions{Freeze: *freeze})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "snapshot %s: %s, %s, of which %s were new; writes were held up for %v\n", s.ID, s.Moment, size(s.Size), size(s.Stored), s.Held.Round(time.Millisecond))
		return err
	})
	freeze = c.Flags().Duration("freeze", volume.DefaultFreeze, "how long writes may be held up; then the snapshot is given up")
	return c
}

func volumeSnapshots() *cobra.Command {
	var asJSON *bool
	c := onVolumes(&cobra.Command{Use: "snapshots [NAME]", Short: "show the snapshots, of one volume or of all", Args: cobra.MaximumNArgs(1)},
		func(c *cobra.Command, _ where, store volume.Store, args []string) error {
			list, err := snapshotsOf(c.Context(), store, args...)
			if err != nil {
				return err
			}
			if *asJSON {
				return indented(c.OutOrStdout(), append([]volume.Snapshot{}, list...))
			}
			return listing(c.OutOrStdout(), "SNAPSHOT\tTAKEN\tMOMENT\tSIZE\tSTORED\tWRITES HELD UP\t", len(list), func(i int) string {
				s := list[i]
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%v", s.ID, s.Taken.Local().Format(time.DateTime), s.Moment, size(s.Size), size(s.Stored), s.Held.Round(time.Millisecond))
			})
		})
	asJSON = c.Flags().Bool("json", false, "print JSON for programs")
	return c
}

// snapshotsOf are those of some volumes; of all if none is named.
func snapshotsOf(ctx context.Context, store volume.Store, names ...string) ([]volume.Snapshot, error) {
	list, err := store.Snapshots(ctx)
	return slices.DeleteFunc(list, func(s volume.Snapshot) bool { return len(names) > 0 && !slices.Contains(names, s.Volume) }), err
}

func volumeRestore() *cobra.Command {
	var bytes service.Size
	c := onVolumes(&cobra.Command{
		Use: "restore SNAPSHOT NAME", Short: "make a new volume from a snapshot", Args: cobra.ExactArgs(2),
		Long: `Make the volume NAME with what the snapshot has; there must be none of that name. It is
made as the one that the snapshot is of, in the size that that had. A role whose storage
is pinned takes a volume ROLE-N that nobody has for its next server.`,
	}, func(c *cobra.Command, _ where, store volume.Store, args []string) error {
		list, err := store.Snapshots(c.Context())
		if err != nil {
			return err
		}
		at := slices.IndexFunc(list, func(s volume.Snapshot) bool { return s.ID == args[0] })
		if at < 0 {
			return fmt.Errorf("there is no snapshot %q; scaler volume snapshots shows those that there are", args[0])
		}
		spec := list[at].Spec
		spec.Name = args[1]
		if bytes > 0 {
			spec.Size = int64(bytes)
		}
		v, err := store.Restore(c.Context(), args[0], spec)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "volume %s has what %s has\n", v.Name, args[0])
		return err
	})
	c.Flags().Var((*sizeFlag)(&bytes), "size", "another size, such as 20GiB")
	return c
}

func volumeGrow() *cobra.Command {
	return onVolumes(&cobra.Command{Use: "grow NAME SIZE", Short: "make a volume larger, while it is used", Args: cobra.ExactArgs(2)},
		func(c *cobra.Command, _ where, store volume.Store, args []string) error {
			var bytes sizeFlag
			if err := bytes.Set(args[1]); err != nil {
				return err
			}
			v, err := store.Grow(c.Context(), args[0], int64(bytes))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "volume %s has %s\n", v.Name, size(v.Size))
			return err
		})
}

// ending are the flags of a command that removes something.
type ending struct{ yes, dryRun *bool }

func endingFlags(c *cobra.Command) ending {
	return ending{c.Flags().BoolP("yes", "y", false, "do not ask first"), c.Flags().Bool("dry-run", false, "say what would be removed; remove nothing")}
}

// do removes what is named, if that is wanted.
func (e ending) do(c *cobra.Command, what string, names []string, remove func(context.Context, string) error) error {
	if len(names) == 0 || *e.dryRun {
		_, err := fmt.Fprintf(c.OutOrStdout(), "would remove %d %s\n", len(names), what)
		return err
	}
	if !*e.yes {
		if err := confirm(c, fmt.Sprintf("remove %d %s: %s", len(names), what, strings.Join(names, ", "))); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := remove(c.Context(), name); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(c.OutOrStdout(), "removed", name); err != nil {
			return err
		}
	}
	return nil
}

func volumePrune() *cobra.Command {
	var last *int
	var young *time.Duration
	var e ending
	c := onVolumes(&cobra.Command{
		Use: "prune [NAME]", Short: "remove the snapshots that no rule keeps", Args: cobra.MaximumNArgs(1),
		Long: `Remove the snapshots that no rule keeps, of one volume or of all. The rules are
storage.snapshots of the volume's role in the farm file, or --last and --for instead.
Without a rule all are kept, and the newest of each volume always is.`,
	}, func(c *cobra.Command, w where, store volume.Store, args []string) error {
		list, err := snapshotsOf(c.Context(), store, args...)
		if err != nil {
			return err
		}
		given := backup.Policy{Last: *last, For: *young}
		var farm *farmfile.Farm
		if given == (backup.Policy{}) {
			if err := w.with(func(client *farmregistry.Client) (err error) {
				farm, err = appliedFarm(c.Context(), client)
				return err
			}); err != nil {
				return fmt.Errorf("the rules of the farm file are not known (--last and --for are others): %w", err)
			}
		}
		byRule := map[backup.Policy][]volume.Snapshot{}
		for _, s := range list {
			p := given
			if farm != nil {
				p = ruleOf(farm, s.Volume)
			}
			byRule[p] = append(byRule[p], s)
		}
		var gone []string
		for p, list := range byRule {
			for _, v := range volume.Prune(p, list, time.Now()) {
				why := strings.Join(v.Why, ", ")
				if !v.Keep {
					gone, why = append(gone, v.ID), "no rule keeps it"
				}
				if _, err := fmt.Fprintf(c.OutOrStdout(), "%s  %-6s  %s\n", v.ID, map[bool]string{true: "keep", false: "remove"}[v.Keep], why); err != nil {
					return err
				}
			}
		}
		slices.Sort(gone)
		return e.do(c, "snapshots", gone, store.DeleteSnapshot)
	})
	last = c.Flags().Int("last", 0, "keep as many of the newest of each volume")
	young = c.Flags().Duration("for", 0, "keep those that are younger")
	e = endingFlags(c)
	return c
}

// ruleOf is which snapshots of a volume the farm file keeps.
func ruleOf(farm *farmfile.Farm, name string) backup.Policy {
	for role, r := range farm.Roles {
		if _, ok := volume.Index(role, name); ok {
			return backup.Policy{Last: r.Storage.Snapshots.Last, For: time.Duration(r.Storage.Snapshots.For)}
		}
	}
	return backup.Policy{}
}

func volumeDelete() *cobra.Command {
	var e ending
	c := onVolumes(&cobra.Command{Use: "delete NAME", Short: "remove a volume that nobody has; its snapshots stay", Args: cobra.ExactArgs(1)},
		func(c *cobra.Command, _ where, store volume.Store, args []string) error {
			v, err := store.Describe(c.Context(), args[0])
			if err == nil && v.Instance != "" {
				err = fmt.Errorf("volume %s: %w to %s", v.Name, volume.ErrAttached, v.Instance)
			}
			if err != nil {
				return err
			}
			return e.do(c, "volume", args, store.Delete)
		})
	e = endingFlags(c)
	return c
}

// listing prints rows below a heading.
func listing(w io.Writer, heading string, rows int, row func(int) string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, heading) // Flush says what went wrong
	for i := range rows {
		_, _ = fmt.Fprintln(t, row(i))
	}
	return t.Flush()
}

// sort is what a volume is made of.
func sort(s volume.Spec) string {
	switch s.Kind {
	case volume.Array:
		return fmt.Sprintf("%s of %d, %s", s.Layout, s.Disks, s.FileSystem)
	case volume.Single:
		return s.FileSystem
	}
	return string(s.Kind)
}

func used(v volume.Volume) string {
	if v.Used+v.Free == 0 {
		return "-"
	}
	return fmt.Sprintf("%d%%", 100*v.Used/(v.Used+v.Free))
}

// sizeFlag is a size as the farm file has them.
type sizeFlag service.Size

func (s *sizeFlag) String() string { return service.Size(*s).String() }
func (s *sizeFlag) Type() string   { return "size" }

// Set reads the size.
func (s *sizeFlag) Set(text string) error {
	var read service.Size
	if err := yaml.Unmarshal([]byte(text), &read); err != nil || read <= 0 {
		return fmt.Errorf("%q is not a size; expected one such as 20GiB", text)
	}
	*s = sizeFlag(read)
	return nil
}
