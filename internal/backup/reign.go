package backup

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
)

// A MySQL server's transactions have numbers of its own (UUID:number), so that what a
// primary had which was replaced, and nobody had acknowledged, contradicts nothing that
// its successor wrote. What shows it is what the successor had when it began to lead:
// what comes from an earlier epoch and is not in that is not the cluster's history.

// reign is who led in an epoch, and what that server had when it began.
type reign struct {
	epoch farm.Epoch
	had   gtid.Position
	uuids map[string]bool
}

// reigns are those that segments tell of, the oldest first.
func reigns(segments []Segment) ([]reign, error) {
	found := map[farm.Epoch]reign{}
	read := map[string]gtid.Position{} // many segments say the same
	for i := range segments {
		s := &segments[i]
		if s.Writer == "" {
			continue
		}
		r, known := found[s.Epoch]
		if !known {
			r = reign{epoch: s.Epoch, uuids: map[string]bool{}}
		}
		had, seen := read[s.Had]
		if !seen {
			var err error
			if had, err = gtid.Parse(farm.MySQL, s.Had); err != nil {
				return nil, fmt.Errorf("segment %s: what its server had: %w", s.Key, err)
			}
			read[s.Had] = had
		}
		r.had = r.had.Merge(had)
		r.uuids[s.Writer] = true
		found[s.Epoch] = r
	}
	return slices.SortedFunc(maps.Values(found), func(a, b reign) int { return cmp.Compare(a.epoch, b.epoch) }), nil
}

// Overruled are the keys of segments, of a MySQL cluster, of which something is not its
// history: each is left out as a whole, as the archive of the newer epoch begins before it.
func Overruled(segments []Segment) (map[string]bool, error) {
	all, err := reigns(segments)
	if err != nil || len(all) < 2 {
		return nil, err
	}
	gone := map[string]bool{}
	for i := range segments {
		s := &segments[i]
		if s.Writer == "" || s.Epoch >= all[len(all)-1].epoch {
			continue
		}
		position, err := gtid.Parse(farm.MySQL, s.Position)
		if err != nil {
			return nil, fmt.Errorf("segment %s: %w", s.Key, err)
		}
		for _, r := range all {
			if r.epoch > s.Epoch && !r.had.Contains(position) {
				gone[s.Key] = true
			}
		}
	}
	return gone, nil
}

// Judge marks the entries, of a MySQL cluster, that hold what a replaced primary wrote and
// its successor did not have.
func Judge(entries []Entry, segments []Segment) error {
	all, err := reigns(segments)
	if err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		if !e.Good() || !e.Manifest.IsOf(farm.MySQL) {
			continue
		}
		fault := func(format string, args ...any) {
			e.Fault = &FaultError{Key: manifestKey(e.Manifest.Cluster, e.Manifest.ID), Reason: fmt.Sprintf(format, args...)}
		}
		position, err := e.Manifest.At()
		if err != nil {
			fault("has a position that cannot be read: %v", err)
			continue
		}
		for n := range all {
			if all[n].epoch <= e.Manifest.Epoch {
				continue
			}
			strange, err := beyond(position, all[:n], all[n:])
			if err != nil {
				return fmt.Errorf("backup %s: %w", e.ID, err)
			}
			if !strange.IsZero() {
				fault("has transactions that are not the cluster's history: of %s the primary of epoch %d had %s", strange, all[n].epoch, all[n].had)
				break
			}
		}
	}
	return nil
}

// beyond is what a position has of servers that had written before a reign, which is the
// first of since, and do not lead from then on, and which that reign does not have. Of
// others it is not known: one may lead since, and have archived nothing yet.
func beyond(position gtid.Position, before, since []reign) (strange gtid.Position, err error) {
	led := func(reigns []reign, uuid string) bool {
		return slices.ContainsFunc(reigns, func(r reign) bool { return r.uuids[uuid] })
	}
	for _, uuid := range position.Writers() {
		if led(since, uuid) {
			continue
		}
		wrote, err := position.WrittenBy(uuid)
		if err != nil {
			return strange, err
		}
		had, err := since[0].had.WrittenBy(uuid)
		if err != nil {
			return strange, err
		}
		if !had.Contains(wrote) && (!had.IsZero() || led(before, uuid)) {
			strange = strange.Merge(wrote)
		}
	}
	return strange, nil
}
