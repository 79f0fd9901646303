package safekeep

import (
	"fmt"
	"slices"
	"time"

	"farmhand/internal/backup"
	"farmhand/internal/gtid"
)

// Stock is what a store has of a cluster.
type Stock struct {
	// At is when it was begun to be listed.
	At       time.Time
	Entries  []backup.Entry // the oldest first
	Segments []backup.Segment
	// Faults are segments that cannot be read.
	Faults backup.FaultsError
}

// Assessment is what a stock is worth, and what of it may go.
type Assessment struct {
	At time.Time `json:"at"`
	// Fulls are the full backups that count, the oldest first.
	Fulls []Full `json:"fulls"`
	// Newest is the newest good one's index; -1 if there is none.
	Newest int `json:"newest"`
	// Segments and SegmentBytes are what the archive has.
	Segments     int   `json:"segments"`
	SegmentBytes int64 `json:"segment_bytes"`
	// Data is how many bytes of data the newest good full backup has, Read how many of the
	// store are read to restore it and what the archive has since. Follows says that what is
	// restored of it can follow a primary; one of statements has not all that servers have.
	Data    int64 `json:"data,omitempty"`
	Read    int64 `json:"read,omitempty"`
	Follows bool  `json:"follows,omitempty"`
	// From is the oldest good full backup's end, the first moment that can be restored;
	// zero if there is none.
	From time.Time `json:"from,omitzero"`
	// Reached is how far the newest good full backup and the archive go, without a gap,
	// and Until when the last transaction of that was committed; zero if the archive has
	// nothing after the backup.
	Reached string    `json:"reached,omitempty"`
	Until   time.Time `json:"until,omitzero"`
	// Gaps are those in the archive from the oldest good full backup on; there,
	// point-in-time recovery is unsafe. Open says that one of them is after the newest
	// good one: only another full backup closes it.
	Gaps []backup.Gap `json:"gaps,omitempty"`
	Open bool         `json:"open,omitempty"`
	Fork *backup.Fork `json:"fork,omitempty"`
	// Faults are what is seen to be wrong, in words.
	Faults []string `json:"faults,omitempty"`

	// Prune is what is let go of the full backups, OldSegments the keys of pieces of the
	// archive that no kept backup needs.
	Prune       backup.Plan `json:"-"`
	OldSegments []string    `json:"-"`
}

// Full is a full backup that counts.
type Full struct {
	ID       string    `json:"id"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Position string    `json:"position"`
	Node     string    `json:"node"`
	Stored   int64     `json:"stored"`
	Fault    string    `json:"fault,omitempty"`
	Pinned   string    `json:"pinned,omitempty"` // why
}

// Assess says what a stock is worth. proven names backups of which a restore has
// been proven. It reads every segment's position: it is not for every round.
func Assess(s Stock, p Policy, proven map[string]Proof, now time.Time) (Assessment, error) {
	a := Assessment{At: s.At, Newest: -1, Segments: len(s.Segments)}
	if err := backup.Judge(s.Entries, s.Segments); err != nil {
		return a, err
	}
	names := map[string]bool{}
	for id := range proven {
		names[id] = true
	}
	a.Prune = backup.PlanPrune(s.Entries, p.Retain, names, now)
	kept := map[string]bool{}
	for _, v := range a.Prune.Verdicts {
		kept[v.ID] = v.Keep
	}
	for _, seg := range s.Segments {
		a.SegmentBytes += seg.Size
	}
	for _, f := range s.Faults {
		a.Faults = append(a.Faults, f.Error())
	}
	var oldest, newest *backup.Manifest // that are good
	for _, e := range s.Entries {
		if e.Fault != nil {
			a.Faults = append(a.Faults, e.Fault.Error())
		}
		if e.Manifest == nil {
			continue
		}
		m := e.Manifest
		f := Full{ID: e.ID, Began: m.Began, Ended: m.Ended, Position: m.Position, Node: m.Source, Stored: e.Stored}
		if e.Fault != nil {
			f.Fault = e.Fault.Error()
		}
		if e.Pin != nil {
			f.Pinned = e.Pin.Why
		}
		if e.Good() {
			a.Newest = len(a.Fulls)
			a.Data, a.Read, a.Follows = m.Bytes, m.Stored(), m.Follows()
			if newest = m; oldest == nil {
				a.From, oldest = m.Ended, m
			}
		}
		a.Fulls = append(a.Fulls, f)
	}
	if a.Newest < 0 {
		return a, nil
	}
	chain, err := newest.Continue(s.Segments)
	if err != nil {
		return a, err
	}
	for _, seg := range chain.Segments {
		a.Read += seg.Size
	}
	whole, err := oldest.Continue(s.Segments)
	if err != nil {
		return a, err
	}
	a.Reached, a.Until, a.Gaps, a.Fork = chain.Reached.String(), chain.Until, whole.Gaps, chain.Fork
	a.Open = len(chain.Gaps) > 0 || chain.Fork != nil
	a.OldSegments, err = unneeded(s, p, kept, now)
	return a, err
}

// unneeded are the keys of the segments that lie before all that is kept.
func unneeded(s Stock, p Policy, kept map[string]bool, now time.Time) ([]string, error) {
	// What is kept, the oldest first; only what is good can carry the archive.
	var good []*backup.Entry
	for i := range s.Entries {
		if e := &s.Entries[i]; e.Good() && kept[e.ID] {
			good = append(good, e)
		}
	}
	if len(good) == 0 {
		return nil, nil
	}
	first := 0 // the archive begins with it
	if p.KeepArchive > 0 {
		for i, e := range good {
			if now.Sub(e.Manifest.Ended) > p.KeepArchive {
				first = i
			}
		}
	}
	var positions []gtid.Position
	for _, e := range good[first:] {
		position, err := e.Manifest.At()
		if err != nil {
			return nil, fmt.Errorf("backup %s: %w", e.ID, err)
		}
		positions = append(positions, position)
	}
	overruled, err := backup.Overruled(s.Segments)
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{} // objects: a bundle goes as a whole
	for _, seg := range s.Segments {
		if overruled[seg.Key] && seg.Last.Before(good[first].Manifest.Began) {
			continue // nothing can be replayed of it, and no backup that is kept has it
		}
		_, position, err := seg.At()
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(positions, func(p gtid.Position) bool { return !p.Contains(position) }) {
			needed[seg.Object()] = true
		}
	}
	var keys []string
	for _, seg := range s.Segments {
		if !needed[seg.Object()] {
			keys = append(keys, seg.Key)
		}
	}
	return keys, nil
}
