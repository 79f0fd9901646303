package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"farmhand/internal/backup"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/safekeep"
	"farmhand/scaler/internal/terminal"
)

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
	if err := backup.Judge(entries, segments); err != nil {
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
			chain, err := m.Continue(segments)
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
			proven[max(at(f.Proven.Until), at(f.Ended))] = '^'
		}
	}
	text := string(line) + "\n"
	if any {
		text += strings.TrimRight(string(proven), " ") + " proven\n"
	}
	left, right := moment(begin), "now"
	return text + left + strings.Repeat(" ", max(1, pictureWidth-len(left)-len(right))) + right + "\n"
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "?"
	}
	return t.Local().Format(time.DateTime)
}
