package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"farmhand/internal/backup"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/objects"
	farmregistry "farmhand/internal/registry"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/farmfile"
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

// shelf is where a cluster's backups are, and what is known of them beside.
type shelf struct {
	store   objects.Store
	cluster string
	policy  *safekeep.Policy // nil without a farm
	memory  safekeep.Memory
	client  *farmregistry.Client // nil without a farm
}

// shelving names a shelf by the farm, or by itself.
type shelving struct {
	where
	store, cluster *string // nil for commands that need the farm
}

func shelfFlags(c *cobra.Command, alone bool) shelving {
	if !alone {
		return shelving{where: farmFlags(c)}
	}
	s := shelving{
		where: where{
			c.Flags().String("local", "", "the directory of a farm on this machine, as of scaler up"),
			c.Flags().String("control", "", "a control node's directory"),
		},
		store:   c.Flags().String("store", "", "without a farm: where the backups are, /path or s3://bucket/prefix?endpoint=URL&region=NAME"),
		cluster: c.Flags().String("cluster", "", "without a farm: the cluster's name, as of the farm's role of kind mysql"),
	}
	c.MarkFlagsOneRequired("local", "control", "store")
	c.MarkFlagsMutuallyExclusive("local", "control", "store")
	c.MarkFlagsRequiredTogether("store", "cluster")
	return s
}

// with runs do with the shelf.
func (s shelving) with(ctx context.Context, do func(*shelf) error) error {
	if s.store != nil && *s.store != "" {
		if err := farm.CheckName(*s.cluster); err != nil {
			return fmt.Errorf("--cluster: %w", err)
		}
		store, err := openStore(ctx, *s.store)
		if err != nil {
			return err
		}
		return do(&shelf{store: store, cluster: *s.cluster})
	}
	return s.where.with(func(client *farmregistry.Client) error {
		file, _, err := daemon.Applied(ctx, client)
		if err != nil {
			return err
		}
		if file == nil {
			return errors.New("no farm file has been applied yet (scaler apply)")
		}
		f, err := file.Farm()
		if err != nil {
			return err
		}
		policy := f.Safekeeping()
		if policy.Store == "" {
			return errors.New("the farm file has no store for backups; backups.store says where they are to be, and scaler apply makes that so")
		}
		store, err := openStore(ctx, policy.Store)
		if err != nil {
			return err
		}
		memory, err := daemon.BackupMemory(ctx, client)
		if err != nil {
			return err
		}
		return do(&shelf{store: store, cluster: databaseRole(f), policy: &policy, memory: memory, client: client})
	})
}

func databaseRole(f *farmfile.Farm) string {
	for name, role := range f.Roles {
		if role.Kind == farmfile.MySQLKind {
			return name
		}
	}
	return ""
}

// patience is how long a command waits for a store that does not answer.
const patience = 20 * time.Second

func openStore(ctx context.Context, text string) (objects.Store, error) {
	c, err := objects.ParseURL(text)
	if err != nil {
		return nil, err
	}
	c.Patience = patience
	return objects.Open(ctx, c)
}

// find returns the entry of a backup; a name may be cut short.
func (s *shelf) find(ctx context.Context, id string) (backup.Entry, error) {
	entries, err := backup.List(ctx, s.store, s.cluster)
	if err != nil {
		return backup.Entry{}, err
	}
	var found []backup.Entry
	var names []string
	for _, e := range entries {
		if e.ID == id {
			return e, nil
		}
		if strings.HasPrefix(e.ID, id) {
			found = append(found, e)
		}
		names = append(names, e.ID)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return backup.Entry{}, fmt.Errorf("%q is the beginning of %d backups; give more of the name", id, len(found))
	case len(names) == 0:
		return backup.Entry{}, fmt.Errorf("%v has no backups of %s", s.store, s.cluster)
	}
	return backup.Entry{}, fmt.Errorf("there is no backup %q of %s; the newest are %s", id, s.cluster, strings.Join(names[max(0, len(names)-3):], ", "))
}

// journal notes what a person does to backups.
func (s *shelf) journal(ctx context.Context, format string, args ...any) error {
	_, err := s.client.Append(ctx, farmregistry.Entry{
		Time: time.Now(), Kind: "backup-changed", Who: operator(), Text: fmt.Sprintf(format, args...), Fields: map[string]string{"cluster": s.cluster},
	})
	return err
}

func backupNow() *cobra.Command {
	c := &cobra.Command{
		Use: "now", Short: "have a full backup taken now, or with --drill a restore tried out",
		Args: cobra.NoArgs,
	}
	a := askFlags(c, false)
	on := c.Flags().String("on", "", "the server that is to do it (default: the best replica)")
	drill := c.Flags().Bool("drill", false, "try a restore out instead")
	c.RunE = func(c *cobra.Command, _ []string) error {
		kind, what := daemon.OpBackup, "take a full backup of "+or(*on, "the best replica")
		if *drill {
			kind, what = daemon.OpDrill, "try a restore out on "+or(*on, "the best replica")
		}
		return a.do(c, kind, map[string]string{"name": *on}, what)
	}
	return c
}

// listed is what list shows.
type listed struct {
	Store    string       `json:"store"`
	Cluster  string       `json:"cluster"`
	Backups  []listedFull `json:"backups"`
	Archive  listedChain  `json:"archive"`
	Unwhole  []string     `json:"unwhole"` // what does not count
	Problems []string     `json:"problems"`
}

// listedFull is one full backup.
type listedFull struct {
	ID       string    `json:"id"`
	Node     string    `json:"node"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Position string    `json:"position"`
	Bytes    int64     `json:"bytes"`
	Stored   int64     `json:"stored"`
	Pin      string    `json:"pin,omitempty"`
	Fault    string    `json:"fault,omitempty"`
	// Until is how far it can be brought forward with the archive alone, Position is its
	// own.
	Until   time.Time `json:"until,omitzero"`
	Reached string    `json:"reached"`
	// Proven is up to when a restore of it was proven; nil if that never was, or there is
	// no farm that knows.
	Proven *safekeep.Proof `json:"proven,omitempty"`
}

// listedChain is the archive.
type listedChain struct {
	Segments int          `json:"segments"`
	Stored   int64        `json:"stored"`
	First    time.Time    `json:"first,omitzero"`
	Until    time.Time    `json:"until,omitzero"`
	Gaps     []backup.Gap `json:"gaps"`
	Fork     *backup.Fork `json:"fork,omitempty"`
}

func backupList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "show the full backups and the archive between them", Args: cobra.NoArgs,
		Long: `Show the full backups, the oldest first, and the archive of the binlog between them
as a small picture: F is a full backup, = time that can be restored to any moment of,
. time without an archive, ? a gap: point-in-time recovery is unsafe there. Each gap
follows with its times.`,
	}
	s := shelfFlags(c, true)
	asJSON := c.Flags().Bool("json", false, "print JSON for programs")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return s.with(c.Context(), func(s *shelf) error {
			l, err := s.list(c.Context())
			if err != nil {
				return err
			}
			if *asJSON {
				return indented(c.OutOrStdout(), l)
			}
			return l.print(c.OutOrStdout(), time.Now())
		})
	}
	return c
}

func (s *shelf) list(ctx context.Context) (*listed, error) {
	entries, err := backup.List(ctx, s.store, s.cluster)
	if err != nil {
		return nil, err
	}
	segments, faults, err := backup.ListSegments(ctx, s.store, s.cluster)
	if err != nil {
		return nil, err
	}
	l := &listed{Store: s.store.String(), Cluster: s.cluster, Backups: []listedFull{}, Unwhole: []string{}, Problems: []string{}}
	for _, f := range faults {
		l.Problems = append(l.Problems, f.Error())
	}
	l.Archive = listedChain{Segments: len(segments), Gaps: []backup.Gap{}}
	for _, seg := range segments {
		l.Archive.Stored += seg.Size
		if l.Archive.First.IsZero() || seg.First.Before(l.Archive.First) {
			l.Archive.First = seg.First
		}
		if seg.Last.After(l.Archive.Until) {
			l.Archive.Until = seg.Last
		}
	}
	first := true
	for _, e := range entries {
		if e.Manifest == nil && e.Fault == nil {
			l.Unwhole = append(l.Unwhole, e.ID)
			continue
		}
		full := listedFull{ID: e.ID, Stored: e.Stored, Ended: e.Changed}
		if e.Fault != nil {
			full.Fault = e.Fault.Error()
			l.Problems = append(l.Problems, "backup "+e.ID+": "+full.Fault)
		}
		if e.Pin != nil {
			full.Pin = e.Pin.Why
		}
		if p, ok := s.memory.Proven[e.ID]; ok {
			full.Proven = &p
		}
		if m := e.Manifest; m != nil {
			full.Node, full.Began, full.Ended, full.Position, full.Bytes = m.Source, m.Began, m.Ended, m.Position, m.Bytes
			chain, err := chainOf(m, segments)
			if err != nil {
				return nil, err
			}
			full.Until, full.Reached = chain.Until, chain.Reached.String()
			if first && e.Good() {
				first = false
				l.Archive.Gaps, l.Archive.Fork = append(l.Archive.Gaps, chain.Gaps...), chain.Fork
			}
		}
		l.Backups = append(l.Backups, full)
	}
	return l, nil
}

func chainOf(m *backup.Manifest, segments []backup.Segment) (backup.Chain, error) {
	flavor := farm.MariaDB
	if m.Flavor != flavor.String() {
		return backup.Chain{}, fmt.Errorf("backup %s is of a %s server, whose archive is not known here", m.ID, m.Flavor)
	}
	position, err := gtid.Parse(flavor, m.Position)
	if err != nil {
		return backup.Chain{}, fmt.Errorf("backup %s: %w", m.ID, err)
	}
	return backup.Follow(flavor, position, segments)
}

func (l *listed) print(out io.Writer, now time.Time) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(columns ...string) {
		for i := range columns {
			columns[i] = terminal.Plain(columns[i])
		}
		_, _ = fmt.Fprintln(t, strings.TrimRight(strings.Join(columns, "\t"), "\t")) // Flush says what went wrong
	}
	row(fmt.Sprintf("backups of %s in %s", l.Cluster, l.Store))
	row()
	if len(l.Backups) == 0 {
		row("there is no full backup: nothing can be restored")
	} else {
		row("BACKUP", "OF", "ENDED", "TOOK", "DATA", "STORED", "TO ANY MOMENT UNTIL", "PROVEN UNTIL", "")
	}
	for _, f := range l.Backups {
		until, proven, note := "-", "-", ""
		if !f.Until.IsZero() {
			until = moment(f.Until)
		}
		if f.Proven != nil {
			proven = moment(f.Proven.Until)
		}
		if f.Pin != "" {
			note = "pinned: " + f.Pin
		}
		if f.Fault != "" {
			note = strings.TrimPrefix(note+"; DAMAGED: "+f.Fault, "; ")
		}
		took := "?"
		if !f.Began.IsZero() {
			took = f.Ended.Sub(f.Began).Round(100 * time.Millisecond).String()
		}
		row(f.ID, f.Node, moment(f.Ended), took, size(f.Bytes), size(f.Stored), until, proven, note)
	}
	row()
	if err := t.Flush(); err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString(l.picture(now))
	fmt.Fprintf(&text, "archive: %d pieces, %s\n", l.Archive.Segments, size(l.Archive.Stored))
	for _, g := range l.Archive.Gaps {
		fmt.Fprintf(&text, "GAP: point-in-time recovery is unsafe from %s to %s: what lies between %s and %s is missing\n", moment(g.From), moment(g.To), or(g.After, "the beginning"), g.Until)
	}
	if f := l.Archive.Fork; f != nil {
		fmt.Fprintf(&text, "FORK: %v; nothing after that is known to be the cluster's history\n", f)
	}
	if len(l.Unwhole) > 0 {
		fmt.Fprintf(&text, "not whole, or being written; does not count: %s\n", strings.Join(l.Unwhole, ", "))
	}
	for _, p := range l.Problems {
		text.WriteString("DAMAGED: " + terminal.Plain(p) + "\n")
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// backupRows are what status says of backups: what would be lost now, and what could
// be restored.
func backupRows(v *daemon.View, now time.Time, row func(...string)) {
	b := v.Backups
	if b == nil {
		return
	}
	row("if the primary died now, lost would be " + b.Meter.Primary.Text)
	row("if everything died now, lost would be " + b.Meter.Everything.Text)
	ago := func(t time.Time) string { return now.Sub(t).Round(time.Second).String() + " ago" }
	full := "none"
	if s := b.Stock; s != nil && s.Newest >= 0 {
		newest := s.Fulls[s.Newest]
		full = fmt.Sprintf("%s (%s), of %d", newest.ID, ago(newest.Ended), b.Fulls)
	} else if s == nil {
		full = "?"
	}
	proven := "never"
	if b.Proven != nil {
		proven = fmt.Sprintf("%s up to %s (%s)", b.ProvenBackup, moment(b.Proven.Until), ago(b.Proven.At))
	}
	row(fmt.Sprintf("backups: last good full %s; last proven restorable: %s", full, proven))
	if b.Trouble != "" {
		row("THE STORE cannot be looked at: " + firstLine(b.Trouble))
	}
	if s := b.Stock; s != nil {
		for _, g := range s.Gaps {
			row(fmt.Sprintf("GAP: point-in-time recovery is unsafe from %s to %s", moment(g.From), moment(g.To)))
		}
		if s.Fork != nil {
			row("FORK: " + s.Fork.String())
		}
		for _, f := range s.Faults {
			row("DAMAGED: " + firstLine(f))
		}
	}
	if f := b.Failure; f != nil {
		row(fmt.Sprintf("BACKUP FAILED on %s %s: %s", f.Node, ago(f.Ended), firstLine(f.Error)))
	}
	if f := b.DrillFailure; f != nil {
		row(fmt.Sprintf("RESTORE DRILL FAILED on %s %s: %s", f.Node, ago(f.Ended), firstLine(f.Error)))
	}
	for _, reason := range b.Reasons {
		row("  " + firstLine(reason))
	}
}

// pictureWidth is how many characters the time from the first backup to now has.
const pictureWidth = 72

// picture draws what can be restored, from the oldest backup or piece to now.
func (l *listed) picture(now time.Time) string {
	begin := l.Archive.First
	for _, f := range l.Backups {
		if begin.IsZero() || f.Ended.Before(begin) {
			begin = f.Ended
		}
	}
	if begin.IsZero() || !begin.Before(now) {
		return ""
	}
	at := func(t time.Time) int {
		return max(0, min(pictureWidth-1, int(float64(t.Sub(begin))/float64(now.Sub(begin))*pictureWidth)))
	}
	line := []byte(strings.Repeat(".", pictureWidth))
	fill := func(from, to time.Time, with byte) {
		for i := at(from); i <= at(to); i++ {
			line[i] = with
		}
	}
	for _, f := range l.Backups {
		if f.Fault == "" && !f.Until.IsZero() && f.Until.After(f.Ended) {
			fill(f.Ended, f.Until, '=')
		}
	}
	for _, g := range l.Archive.Gaps {
		from := g.From
		if from.IsZero() {
			from = begin
		}
		fill(from, g.To, '?')
	}
	proven := []byte(strings.Repeat(" ", pictureWidth))
	any := false
	for _, f := range l.Backups {
		line[at(f.Ended)] = 'F'
		if f.Fault != "" {
			line[at(f.Ended)] = 'X'
		}
		if f.Proven != nil {
			any = true
			proven[at(later(f.Proven.Until, f.Ended))] = '^'
		}
	}
	text := string(line) + "\n"
	if any {
		text += strings.TrimRight(string(proven), " ") + " proven\n"
	}
	left, right := moment(begin), "now"
	return text + left + strings.Repeat(" ", max(1, pictureWidth-len(left)-len(right))) + right + "\n"
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "?"
	}
	return t.Local().Format(time.DateTime)
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
	chain, err := chainOf(e.Manifest, segments)
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
	e, err := s.find(ctx, id)
	if err != nil {
		return err
	}
	entries, err := backup.List(ctx, s.store, s.cluster)
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
	a, err := safekeep.Assess(farm.MariaDB, safekeep.Stock{At: now, Entries: entries, Segments: segments}, *s.policy, s.memory.Proven, now)
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
