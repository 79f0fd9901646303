package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	format "farmhand/internal/backup"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/objects"
)

// Source is where a cluster's backups and its archive are.
type Source struct {
	Store   objects.Store
	Cluster string
	// Keys are those that encrypted objects may be read with.
	Keys []format.Identity
}

// Plan says what a restore uses.
type Plan struct {
	Source
	Target Target
	// Manifest is of the full backup that it begins with.
	Manifest *format.Manifest
	// Segments are replayed on it, in this order, up to Target; there may be none.
	Segments []format.Segment
	// Beyond is what the archive has after them, which is not restored. Of the last of
	// Segments some may not be, either.
	Beyond []format.Segment
	// Reach is all that could be restored.
	Reach Reach

	of    farm.Flavor
	base  gtid.Position // before the first segment
	avoid []string      // segments that turned out to be damaged
	batch int64         // see batchSize
}

// Stored is how many bytes of the store are read.
func (p *Plan) Stored() (sum int64) {
	if p.Manifest != nil {
		sum = p.Manifest.Stored()
	}
	for _, s := range p.Segments {
		sum += s.Size
	}
	return sum
}

// Range is a stretch of a cluster's history of which every moment can be restored.
type Range struct {
	Backup string // the full backup that is at its beginning
	// From and To are its first and its last GTID position.
	From, To string
	// Since and Until are the first and the last time that can be named. There is none
	// if Until is before Since: no transaction is known after that backup.
	Since, Until time.Time
	// Ends is why it does not go on; empty where the archive ends.
	Ends string
}

func (r Range) String() string {
	text := fmt.Sprintf("by GTID from %s to %s", r.From, r.To)
	if r.From == r.To {
		text = "GTID " + r.From
	}
	if !r.Until.Before(r.Since) {
		text += fmt.Sprintf(", by time from %s to %s", r.Since.UTC().Format(time.RFC3339), r.Until.UTC().Format(time.RFC3339))
	}
	text += " (backup " + r.Backup
	if r.Ends != "" {
		text += "; then " + r.Ends
	}
	return text + ")"
}

// Reach is what a store has of a cluster.
type Reach struct {
	Ranges []Range // the oldest first
	// Damaged names objects that cannot be used, and why.
	Damaged []string
}

func (r Reach) String() string {
	var lines []string
	for _, one := range r.Ranges {
		lines = append(lines, "  "+one.String())
	}
	if lines == nil {
		lines = []string{"  nothing"}
	}
	text := "what can be restored:\n" + strings.Join(lines, "\n")
	if len(r.Damaged) > 0 {
		text += "\nwhat is damaged:\n  " + strings.Join(r.Damaged, "\n  ")
	}
	return text
}

// UnreachableError: the store has not what would be needed, or it is damaged.
type UnreachableError struct {
	Target Target
	Err    error // names what is missing
	Reach  Reach
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cannot restore to %s: %v; %s", e.Target, e.Err, e.Reach)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Find says how a cluster is restored to a target: from the newest full backup that
// will do, or that of an ID. What cannot be done is an UnreachableError.
func Find(ctx context.Context, from Source, to Target, id string) (*Plan, error) {
	return find(ctx, from, to, id, nil)
}

// Onward says what is to be replayed on data, of a server of a flavor, that is at a position
// already.
func Onward(ctx context.Context, from Source, of farm.Flavor, position string, to Target) (*Plan, error) {
	base, err := gtid.Parse(of, position)
	if err != nil {
		return nil, err
	}
	segments, faults, err := format.ListSegments(ctx, from.Store, from.Cluster)
	if err != nil {
		return nil, err
	}
	p := &Plan{Source: from, Target: to, of: of, base: base}
	chain, err := format.Follow(of, base, segments)
	if err == nil {
		p.Reach.Ranges = []Range{rangeOf("of the data that is there", base, time.Time{}, chain)}
		p.Reach.add(faults)
		err = p.take(chain)
	}
	if err != nil {
		return nil, &UnreachableError{Target: to, Err: err, Reach: p.Reach}
	}
	return p, nil
}

// find leaves some segments out.
func find(ctx context.Context, from Source, to Target, id string, avoid []string) (*Plan, error) {
	entries, err := format.List(ctx, from.Store, from.Cluster)
	if err != nil {
		return nil, err
	}
	segments, faults, err := format.ListSegments(ctx, from.Store, from.Cluster)
	if err != nil {
		return nil, err
	}
	if err := format.Judge(entries, segments); err != nil {
		return nil, err
	}
	segments = slices.DeleteFunc(segments, func(s format.Segment) bool { return slices.Contains(avoid, s.Key) })
	p := &Plan{Source: from, Target: to, avoid: avoid}
	if err := p.choose(entries, segments, faults, id); err != nil {
		return nil, &UnreachableError{Target: to, Err: err, Reach: p.Reach}
	}
	return p, nil
}

// choose completes the plan. All that can be restored is known in any case.
func (p *Plan) choose(entries []format.Entry, segments []format.Segment, faults format.FaultsError, id string) error {
	var usable []*format.Manifest // the oldest first
	chains := map[string]format.Chain{}
	p.Reach.add(faults)
	for i := range entries {
		e := &entries[i]
		if e.Fault != nil {
			p.Reach.Damaged = append(p.Reach.Damaged, fmt.Sprintf("backup %s: %v", e.ID, e.Fault))
		}
		if !e.Good() {
			continue
		}
		base, err := e.Manifest.At()
		if err != nil {
			p.Reach.Damaged = append(p.Reach.Damaged, fmt.Sprintf("backup %s: it is of a %s server at %q, which cannot be restored here", e.ID, e.Manifest.Flavor, e.Manifest.Position))
			continue
		}
		chain, err := e.Manifest.Continue(segments)
		if err != nil {
			return err
		}
		usable, chains[e.ID] = append(usable, e.Manifest), chain
		p.Reach.extend(rangeOf(e.ID, base, e.Manifest.Ended, chain))
	}
	if id != "" {
		i := slices.IndexFunc(entries, func(e format.Entry) bool { return e.ID == id })
		switch {
		case i < 0 || entries[i].Manifest == nil && entries[i].Fault == nil:
			return fmt.Errorf("there is no full backup %s of %s", id, p.Cluster)
		case entries[i].Fault != nil:
			return fmt.Errorf("backup %s is damaged: %w", id, entries[i].Fault)
		}
		usable = slices.DeleteFunc(usable, func(m *format.Manifest) bool { return m.ID != id })
	}
	if len(usable) == 0 {
		return fmt.Errorf("there is no full backup of %s that can be used in %v", p.Cluster, p.Store)
	}
	var why error
	for _, m := range slices.Backward(usable) {
		unfit, err := p.unfit(m, segments)
		if err != nil {
			return err
		}
		if unfit != nil {
			why = cmp.Or(why, unfit)
			continue
		}
		if err := p.begin(m); err != nil {
			return err
		}
		return p.take(chains[m.ID])
	}
	return why
}

// begin has the plan begin with a backup.
func (p *Plan) begin(m *format.Manifest) (err error) {
	if p.of, err = m.Make(); err != nil {
		return err
	}
	p.Manifest = m
	p.base, err = m.At()
	return err
}

// Flavor is that of the servers that can run on the data.
func (p *Plan) Flavor() farm.Flavor { return p.of }

// unfit says why a restore to the target cannot begin with a backup; nil if it can.
func (p *Plan) unfit(m *format.Manifest, segments []format.Segment) (unfit, err error) {
	has, err := m.At()
	if err != nil {
		return nil, err
	}
	switch {
	case p.Target.Position != "":
		to, err := p.Target.position()
		if err != nil {
			return nil, err
		}
		if !has.IsZero() && to.Flavor() != has.Flavor() {
			return fmt.Errorf("backup %s is of a %v server, whose positions are not of that form (%s)", m.ID, has.Flavor(), has), nil
		}
		if !to.Contains(has) {
			return fmt.Errorf("backup %s holds more than that (%s)", m.ID, has), nil
		}
	case !p.Target.Time.IsZero():
		if m.Ended.After(p.Target.Time) {
			return fmt.Errorf("backup %s was taken after that (at %s)", m.ID, m.Ended.UTC().Format(time.RFC3339)), nil
		}
		// The servers' clocks may differ: so the archive is asked, too.
		for _, s := range segments {
			_, position, err := s.At()
			if err != nil {
				return nil, err
			}
			if has.Contains(position) && s.Last.After(p.Target.Time) {
				return fmt.Errorf("backup %s holds a transaction of %s", m.ID, s.Last.UTC().Format(time.RFC3339)), nil
			}
		}
	}
	return nil, nil
}

// take takes of a chain what leads to the target: some from its beginning.
func (p *Plan) take(chain format.Chain) error {
	defer func() { p.Beyond = chain.Segments[len(p.Segments):] }()
	ends := endOf(chain)
	switch {
	case p.Target.Position != "":
		to, err := p.Target.position()
		if err != nil {
			return err
		}
		at := p.base
		if !to.Contains(at) {
			return fmt.Errorf("the data is at %s already", at)
		}
		for _, s := range chain.Segments {
			if at.Contains(to) {
				break
			}
			_, position, err := s.At()
			if err != nil {
				return err
			}
			at = at.Merge(position)
			p.Segments = append(p.Segments, s)
		}
		if !at.Contains(to) {
			return fmt.Errorf("the archive ends at %s%s", chain.Reached, ends)
		}
	case !p.Target.Time.IsZero():
		for _, s := range chain.Segments {
			if s.First.After(p.Target.Time) {
				return nil
			}
			p.Segments = append(p.Segments, s)
			if s.Last.After(p.Target.Time) {
				return nil
			}
		}
		return fmt.Errorf("nothing is known of what was committed after %s%s; \"latest\" restores to there", dated(chain.Until), ends)
	default:
		if ends != "" {
			return fmt.Errorf("what is stored goes on after %s%s", chain.Reached, ends)
		}
		p.Segments = chain.Segments
	}
	return nil
}

func dated(at time.Time) string {
	if at.IsZero() {
		return "the backup"
	}
	return at.UTC().Format(time.RFC3339)
}

// endOf is why a chain does not go on, for the end of a sentence; empty where the
// archive ends.
func endOf(c format.Chain) string {
	switch {
	case c.Fork != nil:
		return ", and then " + c.Fork.String()
	case len(c.Gaps) > 0:
		return ", and then " + c.Gaps[0].String()
	}
	return ""
}

// rangeOf is what can be reached with a backup.
func rangeOf(id string, base gtid.Position, ended time.Time, c format.Chain) Range {
	r := Range{Backup: id, From: base.String(), To: c.Reached.String(), Since: ended, Ends: strings.TrimPrefix(endOf(c), ", and then ")}
	// More transactions of the last second may be missing.
	for _, s := range c.Segments {
		for _, at := range []time.Time{s.First, s.Last} {
			if at = at.Add(-time.Second); at.After(r.Until) {
				r.Until = at
			}
		}
	}
	if !r.Since.Truncate(time.Second).Equal(r.Since) {
		r.Since = r.Since.Truncate(time.Second).Add(time.Second) // it is shown so
	}
	return r
}

// extend adds a range, which is of a newer backup than the others.
func (r *Reach) extend(one Range) {
	if n := len(r.Ranges); n > 0 && r.Ranges[n-1].To == one.To && r.Ranges[n-1].Ends == one.Ends {
		return // that of the older backup goes as far
	}
	r.Ranges = append(r.Ranges, one)
}

func (r *Reach) add(faults format.FaultsError) {
	for _, f := range faults {
		r.Damaged = append(r.Damaged, f.Error())
	}
}

// damaged makes an error about an object one that says what can be reached without
// it.
func (p *Plan) damaged(ctx context.Context, err error) error {
	var fault *format.FaultError
	if !errors.As(err, &fault) || p.Manifest == nil {
		return err
	}
	told := &UnreachableError{Target: p.Target, Err: err, Reach: p.Reach}
	without, ferr := find(ctx, p.Source, p.Target, p.Manifest.ID, append(slices.Clone(p.avoid), fault.Key))
	var other *UnreachableError
	switch {
	case errors.As(ferr, &other):
		told.Reach = other.Reach
	case ferr != nil:
		return err // that says enough
	default:
		told.Reach = without.Reach
	}
	told.Reach.Ranges = slices.DeleteFunc(told.Reach.Ranges, func(r Range) bool {
		return slices.ContainsFunc(p.Manifest.Parts, func(part format.Part) bool { return part.Key == fault.Key }) && r.Backup == p.Manifest.ID
	})
	if !slices.ContainsFunc(told.Reach.Damaged, func(s string) bool { return strings.Contains(s, fault.Key) }) {
		told.Reach.Damaged = append(told.Reach.Damaged, fault.Error())
	}
	return told
}
