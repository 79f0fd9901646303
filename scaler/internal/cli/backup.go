package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"farmhand/internal/backup"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/safekeep"
	"farmhand/scaler/internal/terminal"
)

func backups() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup",
		Short: "take, look at and let go the database's backups",
		Long: `Take, look at and let go the database's backups. On a control node the farm says
where they are (--local, --control). list, show and verify need no farm:
--store /path or --store s3://bucket/prefix, and --cluster, the name of the
database's role. An S3 store's credentials are found as AWS's own tools find them.`,
	}
	c.AddCommand(backupNow(), backupList(), backupShow(), backupVerify(), backupDelete(), backupPin(), backupUnpin(), backupPrune())
	return c
}

func backupNow() *cobra.Command {
	c := &cobra.Command{
		Use: "now", Short: "have a full backup taken now, or with --drill a restore tried out",
		Args: cobra.NoArgs,
	}
	a := askFlags(c, false)
	on := c.Flags().String("on", "", "the server that is to do it (default: the best replica)")
	drill := c.Flags().Bool("drill", false, "try a restore out instead")
	logical := c.Flags().Bool("logical", false, "one of statements, which servers of another series take, too")
	c.MarkFlagsMutuallyExclusive("drill", "logical")
	c.RunE = func(c *cobra.Command, _ []string) error {
		kind, what := daemon.OpBackup, "take a full backup of "+or(*on, "the best replica")
		if *drill {
			kind, what = daemon.OpDrill, "try a restore out on "+or(*on, "the best replica")
		}
		return a.do(c, kind, map[string]string{"name": *on, "logical": strconv.FormatBool(*logical)}, what)
	}
	return c
}

func backupShow() *cobra.Command {
	c := &cobra.Command{Use: "show ID", Short: "show all that is known of a backup; ID may be cut short", Args: cobra.ExactArgs(1)}
	s := shelfFlags(c, true)
	asJSON := c.Flags().Bool("json", false, "print JSON for programs: the manifest")
	c.RunE = func(c *cobra.Command, args []string) error {
		return s.with(c.Context(), func(s *shelf) error {
			e, err := s.find(c.Context(), args[0])
			if err != nil {
				return err
			}
			if e.Manifest == nil {
				if e.Fault != nil {
					return fmt.Errorf("backup %s cannot be used: %w", e.ID, e.Fault)
				}
				return fmt.Errorf("backup %s is not whole, or is being written: it does not count; %s of it are stored", e.ID, size(e.Stored))
			}
			if *asJSON {
				return indented(c.OutOrStdout(), e.Manifest)
			}
			return s.show(c.OutOrStdout(), e)
		})
	}
	return c
}

func (s *shelf) show(out io.Writer, e backup.Entry) error {
	m := e.Manifest
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, text string) {
		if text != "" {
			_, _ = fmt.Fprintf(t, "%s\t%s\n", name, terminal.Plain(text)) // Flush says what went wrong
		}
	}
	row("backup", m.ID)
	row("of", fmt.Sprintf("cluster %s, server %s, epoch %d", m.Cluster, m.Source, m.Epoch))
	row("server", m.Flavor+" "+m.ServerVersion)
	row("made by", m.Tool)
	row("position", or(m.Position, "(none)"))
	row("taken", fmt.Sprintf("%s to %s (%v)", moment(m.Began), moment(m.Ended), m.Ended.Sub(m.Began).Round(100*time.Millisecond)))
	row("data", size(m.Bytes))
	row("stored", fmt.Sprintf("%s in %d parts, %s", size(m.Stored()), len(m.Parts), or(m.Compression, "as it is")))
	encrypted := "no"
	if m.Encryption != "" {
		encrypted = m.Encryption + ", to " + strings.Join(m.Recipients, ", ")
	}
	row("encrypted", encrypted)
	if p := e.Pin; p != nil {
		row("pinned", fmt.Sprintf("by %s at %s: %s", p.By, moment(p.At), p.Why))
	}
	if p, ok := s.memory.Proven[m.ID]; ok {
		row("proven", fmt.Sprintf("a restore on %s at %s, up to %s (%s)", p.Node, moment(p.At), p.Position, moment(p.Until)))
	} else if s.client != nil {
		row("proven", "no restore of it has been proven")
	}
	if e.Fault != nil {
		row("DAMAGED", e.Fault.Error())
	}
	return t.Flush()
}

func backupVerify() *cobra.Command {
	c := &cobra.Command{
		Use: "verify [ID]", Short: "read a whole backup, or with --archive the archive, and compare every checksum",
		Long: `Read a backup and compare every part with its checksum; without ID the newest good
one. With --archive every piece of the archive after it is read as well. What is
missing or altered is named, and the exit status is 1 then. It needs no key: what it
does not show is whether a key for an encrypted backup still exists.`,
		Args: cobra.MaximumNArgs(1),
	}
	s := shelfFlags(c, true)
	archive := c.Flags().Bool("archive", false, "the archive after it, too")
	c.RunE = func(c *cobra.Command, args []string) error {
		return s.with(c.Context(), func(s *shelf) error {
			var e backup.Entry
			if len(args) > 0 {
				var err error
				if e, err = s.find(c.Context(), args[0]); err != nil {
					return err
				}
			} else {
				entries, err := backup.List(c.Context(), s.store, s.cluster)
				if err != nil {
					return err
				}
				newest := backup.Newest(entries, time.Now())
				if newest == nil {
					return fmt.Errorf("%v has no good backup of %s", s.store, s.cluster)
				}
				e = *newest
			}
			return s.verify(c.Context(), c.OutOrStdout(), e, *archive)
		})
	}
	return c
}

func (s *shelf) verify(ctx context.Context, out io.Writer, e backup.Entry, archive bool) error {
	if e.Manifest == nil {
		return fmt.Errorf("backup %s does not count: %w", e.ID, cmp.Or(e.Fault, errors.New("it has no manifest")))
	}
	if err := backup.Verify(ctx, s.store, e.Manifest); err != nil {
		return fmt.Errorf("backup %s cannot be restored: %w", e.ID, err)
	}
	if _, err := fmt.Fprintf(out, "backup %s is whole: %d parts, %s\n", e.ID, len(e.Manifest.Parts), size(e.Manifest.Stored())); err != nil || !archive {
		return err
	}
	segments, faults, err := backup.ListSegments(ctx, s.store, s.cluster)
	if err != nil {
		return err
	}
	chain, err := e.Manifest.Continue(segments)
	if err != nil {
		return err
	}
	wrong := []error{}
	for _, f := range faults {
		wrong = append(wrong, f)
	}
	for _, g := range chain.Gaps {
		wrong = append(wrong, fmt.Errorf("gap: %v", g))
	}
	if chain.Fork != nil {
		wrong = append(wrong, fmt.Errorf("fork: %v", chain.Fork))
	}
	for _, seg := range chain.Segments {
		if err := seg.Verify(ctx, s.store); err != nil {
			var fault *backup.FaultError
			if !errors.As(err, &fault) {
				return err
			}
			wrong = append(wrong, err)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the archive after backup %s cannot be used as a whole: %w", e.ID, errors.Join(wrong...))
	}
	_, err = fmt.Fprintf(out, "the archive is whole: %d pieces, from %s to %s (%s)\n", len(chain.Segments), e.Manifest.Position, chain.Reached, moment(chain.Until))
	return err
}

// changing adds the flag with which a command does what it otherwise only shows.
func changing(c *cobra.Command) *bool {
	return c.Flags().BoolP("yes", "y", false, "do it (without it, only what would be done is said)")
}

func backupDelete() *cobra.Command {
	c := &cobra.Command{
		Use: "delete ID", Short: "remove a backup; without --yes only say what that means",
		Long: `Remove a backup, its manifest first. Without --yes only what that means is said. The
newest good backup, the newest that is proven and pinned ones are not removed.`,
		Args: cobra.ExactArgs(1),
	}
	s := shelfFlags(c, false)
	yes := changing(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return s.with(c.Context(), func(s *shelf) error { return s.delete(c.Context(), c.OutOrStdout(), args[0], *yes) })
	}
	return c
}

func (s *shelf) delete(ctx context.Context, out io.Writer, id string, yes bool) error {
	entries, err := backup.List(ctx, s.store, s.cluster)
	if err != nil {
		return err
	}
	e, err := s.among(entries, id)
	if err != nil {
		return err
	}
	// Without rules but one that keeps nothing that must not be kept.
	least := backup.PlanPrune(entries, backup.Policy{Last: 1}, s.proven(), time.Now())
	for _, v := range least.Verdicts {
		if v.ID == e.ID && v.Keep {
			return fmt.Errorf("backup %s is not removed: %s", e.ID, strings.Join(v.Why, ", "))
		}
	}
	what := fmt.Sprintf("backup %s, %s", e.ID, size(e.Stored))
	if e.Manifest != nil {
		what += ", of " + moment(e.Manifest.Ended)
	}
	if !yes {
		_, err := fmt.Fprintf(out, "would remove %s; moments between it and the next one could not be restored any more (--yes does it)\n", what)
		return err
	}
	if err := s.journal(ctx, "%s is removed", what); err != nil {
		return err
	}
	if err := backup.Remove(ctx, s.store, s.cluster, e.ID); err != nil {
		return fmt.Errorf("remove backup %s: %w", e.ID, err)
	}
	_, err = fmt.Fprintf(out, "removed %s\n", what)
	return err
}

func (s *shelf) proven() map[string]bool {
	names := map[string]bool{}
	for id := range s.memory.Proven {
		names[id] = true
	}
	return names
}

func backupPin() *cobra.Command {
	c := &cobra.Command{Use: "pin ID WHY", Short: "keep a backup whatever the rules say", Args: cobra.ExactArgs(2)}
	s := shelfFlags(c, false)
	c.RunE = func(c *cobra.Command, args []string) error {
		return s.with(c.Context(), func(s *shelf) error {
			return s.pin(c.Context(), c.OutOrStdout(), args[0], &backup.Pin{By: operator(), Why: args[1], At: time.Now().UTC()})
		})
	}
	return c
}

func backupUnpin() *cobra.Command {
	c := &cobra.Command{Use: "unpin ID", Short: "let the rules decide about a backup again", Args: cobra.ExactArgs(1)}
	s := shelfFlags(c, false)
	c.RunE = func(c *cobra.Command, args []string) error {
		return s.with(c.Context(), func(s *shelf) error { return s.pin(c.Context(), c.OutOrStdout(), args[0], nil) })
	}
	return c
}

func (s *shelf) pin(ctx context.Context, out io.Writer, id string, pin *backup.Pin) error {
	e, err := s.find(ctx, id)
	if err != nil {
		return err
	}
	if pin != nil && (pin.Why == "" || len(pin.Why) > 1000) {
		return errors.New("say why, in at most 1000 characters")
	}
	if err := backup.SetPin(ctx, s.store, s.cluster, e.ID, pin); err != nil {
		return err
	}
	what := "backup " + e.ID + " is not pinned any more"
	if pin != nil {
		what = "backup " + e.ID + " is pinned: " + pin.Why
	}
	if err := s.journal(ctx, "%s", what); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, what)
	return err
}

func backupPrune() *cobra.Command {
	c := &cobra.Command{
		Use: "prune", Short: "say what the rules let go, and with --yes remove it now",
		Long: `Say of every backup whether the rules of the farm file keep it and why, and how much
of the archive no kept backup needs. The scaler that leads removes what is not kept
by itself; --yes does it now.`,
		Args: cobra.NoArgs,
	}
	s := shelfFlags(c, false)
	yes := changing(c)
	asJSON := c.Flags().Bool("json", false, "print JSON for programs; removes nothing")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return s.with(c.Context(), func(s *shelf) error { return s.prune(c.Context(), c.OutOrStdout(), *yes, *asJSON) })
	}
	return c
}

func (s *shelf) prune(ctx context.Context, out io.Writer, yes, asJSON bool) error {
	now := time.Now()
	entries, err := backup.List(ctx, s.store, s.cluster)
	if err != nil {
		return err
	}
	segments, _, err := backup.ListSegments(ctx, s.store, s.cluster)
	if err != nil {
		return err
	}
	a, err := safekeep.Assess(safekeep.Stock{At: now, Entries: entries, Segments: segments}, *s.policy, s.memory.Proven, now)
	if err != nil {
		return err
	}
	if asJSON {
		return indented(out, struct {
			Verdicts  []backup.Verdict
			Abandoned []string
			Freed     int64
			Segments  []string
		}{a.Prune.Verdicts, a.Prune.Abandoned, a.Prune.Freed, a.OldSegments})
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, v := range slices.Backward(a.Prune.Verdicts) {
		verdict, why := "goes", "no rule keeps it"
		if v.Keep {
			verdict, why = "stays", strings.Join(v.Why, ", ")
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", v.ID, verdict, why) // Flush says what went wrong
	}
	for _, id := range a.Prune.Abandoned {
		_, _ = fmt.Fprintf(t, "%s\tgoes\tit was never whole, and nobody writes it any more\n", id)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	would := "would free"
	if yes {
		would = "frees"
	}
	if _, err := fmt.Fprintf(out, "that %s %s, and %d pieces of the archive go\n", would, size(a.Prune.Freed), len(a.OldSegments)); err != nil || !yes {
		return err
	}
	if err := s.journal(ctx, "what no rule keeps is removed: %d MiB of backups, %d pieces of the archive", a.Prune.Freed>>20, len(a.OldSegments)); err != nil {
		return err
	}
	removed, err := backup.Prune(ctx, s.store, s.cluster, a.Prune)
	if err == nil {
		err = backup.RemoveSegments(ctx, s.store, a.OldSegments)
	}
	if _, werr := fmt.Fprintf(out, "removed: %s\n", or(strings.Join(removed, ", "), "no backup")); werr != nil {
		err = errors.Join(err, werr)
	}
	return err
}
