package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"farmhand/internal/objects"
)

// abandoned is how long nothing must have changed in what does not count before it
// is removed: it may be a backup that is being written.
const abandoned = 24 * time.Hour

// Plan says what Policy makes of a cluster's backups.
type Plan struct {
	Verdicts []Verdict
	// Abandoned are backups that were never whole, and that nobody writes any more.
	Abandoned []string
	// Freed is how much Prune would free, in bytes.
	Freed int64
}

// PlanPrune makes a Plan and changes nothing. proven names backups of which a
// restore has been proven.
func PlanPrune(entries []Entry, p Policy, proven map[string]bool, now time.Time) Plan {
	var plan Plan
	var candidates []Candidate
	sizes := map[string]int64{}
	for _, e := range entries {
		sizes[e.ID] = e.Stored
		if e.Manifest == nil && e.Fault == nil {
			if e.Pin == nil && now.Sub(e.Changed) > abandoned {
				plan.Abandoned = append(plan.Abandoned, e.ID)
				plan.Freed += e.Stored
			}
			continue
		}
		c := Candidate{ID: e.ID, Ended: e.Changed, Good: e.Good(), Proven: proven[e.ID], Pinned: e.Pin != nil}
		if e.Manifest != nil {
			c.Ended = e.Manifest.Ended
		}
		candidates = append(candidates, c)
	}
	plan.Verdicts = p.Decide(candidates, now)
	for _, v := range plan.Verdicts {
		if !v.Keep {
			plan.Freed += sizes[v.ID]
		}
	}
	return plan
}

// Prune removes what a plan does not keep, as far as the store lets it: under an
// object lock it refuses some (objects.ErrDenied), and the others are removed
// nevertheless. The error names what is left. What was pinned since the plan was
// made is kept.
func Prune(ctx context.Context, store objects.Store, cluster string, plan Plan) (removed []string, err error) {
	ids := plan.Abandoned
	for _, v := range plan.Verdicts {
		if !v.Keep {
			ids = append(ids, v.ID)
		}
	}
	var left []error
	for _, id := range ids {
		if ctx.Err() != nil {
			return removed, errors.Join(append(left, context.Cause(ctx))...)
		}
		if _, err := store.Head(ctx, home(cluster, id)+pinName); err == nil {
			continue
		} else if !errors.Is(err, objects.ErrNotFound) {
			left = append(left, fmt.Errorf("backup %s: %w", id, err))
			continue
		}
		if err := remove(ctx, store, cluster, id); err != nil {
			left = append(left, fmt.Errorf("backup %s: %w", id, err))
			continue
		}
		removed = append(removed, id)
	}
	// What puts that were killed have left of single objects.
	if _, err := store.Sweep(ctx, fullPrefix(cluster), time.Now().Add(-abandoned)); err != nil {
		left = append(left, err)
	}
	return removed, errors.Join(left...)
}

// remove removes a backup: its manifest first, so that what is left of it does not
// count.
func remove(ctx context.Context, store objects.Store, cluster, id string) error {
	if err := store.Delete(ctx, manifestKey(cluster, id), ""); err != nil {
		return err
	}
	var keys []string
	if err := store.List(ctx, home(cluster, id), func(o objects.Object) error {
		keys = append(keys, o.Key)
		return nil
	}); err != nil {
		return err
	}
	for _, key := range keys {
		if err := store.Delete(ctx, key, ""); err != nil {
			return err
		}
	}
	return nil
}
