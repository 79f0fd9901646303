package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"
	"unique"

	"go.uber.org/zap"

	"farmhand/internal/backup"
	"farmhand/internal/objects"
	"farmhand/scaler/internal/safekeep"
)

// shelf looks at what the store has of a cluster, in the background and within
// limits, and lets go what the policy does not keep. It never holds a round up.
type shelf struct {
	policy  safekeep.Policy
	cluster string
	wake    func()
	// fence returns an error unless the leader's term lasts, and notes in the journal
	// what is about to be done.
	fence func(ctx context.Context, text string, minor bool) error
	log   *zap.Logger
	asked chan struct{} // one slot
	// bundles is when small pieces were bundled last.
	bundles time.Time
	locked  bool // nothing can be removed
	known   map[string][]backup.Segment

	mu      sync.Mutex
	found   *safekeep.Assessment
	trouble string
	proven  map[string]safekeep.Proof
	letGo   bool // what is not kept may be removed
}

// How often the store is looked at, and how long that may take.
const (
	lookEvery  = 5 * time.Minute
	lookAgain  = 15 * time.Second // after an error
	lookLimit  = 10 * time.Minute
	mostPieces = 5000 // of an archive are removed at a time
)

func newShelf(p safekeep.Policy, cluster string, wake func(), fence func(context.Context, string, bool) error, log *zap.Logger) *shelf {
	return &shelf{policy: p, cluster: cluster, wake: wake, fence: fence, log: log, asked: make(chan struct{}, 1), known: map[string][]backup.Segment{}}
}

// look has the store looked at soon.
func (s *shelf) look() { poke(s.asked) }

// let says what has been proven, and whether what is not kept may be removed.
func (s *shelf) let(proven map[string]safekeep.Proof, remove bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proven, s.letGo = maps.Clone(proven), remove
}

// stock is what the store had last; nil while that is not known. trouble is why it is not, or
// why it may be old.
func (s *shelf) stock() (found *safekeep.Assessment, trouble string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.found, s.trouble
}

// run looks at the store until ctx ends.
func (s *shelf) run(ctx context.Context) error {
	if s.policy.Store == "" {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for {
		again := lookEvery
		if err := s.once(ctx); err != nil && ctx.Err() == nil {
			again = lookAgain
			s.log.Error("the store for backups cannot be looked at", zap.Error(err))
			s.mu.Lock()
			s.trouble = err.Error()
			s.mu.Unlock()
			s.wake()
		}
		pause := time.NewTimer(again)
		select {
		case <-pause.C:
		case <-s.asked:
			pause.Stop()
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
}

// openStore opens a store for what can be done again later.
func openStore(ctx context.Context, address string) (objects.Store, error) {
	c, err := objects.ParseURL(address)
	if err != nil {
		return nil, err
	}
	c.Patience = time.Minute
	return objects.Open(ctx, c)
}

// once looks at the store, and removes what is not kept.
func (s *shelf) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lookLimit, fmt.Errorf("it took longer than %v", lookLimit))
	defer cancel()
	store, err := openStore(ctx, s.policy.Store)
	if err != nil {
		return err
	}
	a, err := s.assess(ctx, store)
	if err != nil {
		return err
	}
	s.mu.Lock()
	changed := !sameStock(s.found, a) || s.trouble != ""
	s.found, s.trouble = a, ""
	remove := s.letGo
	s.mu.Unlock()
	if changed {
		s.wake()
	}
	if !remove {
		return nil
	}
	return s.remove(ctx, store, a)
}

func (s *shelf) assess(ctx context.Context, store objects.Store) (*safekeep.Assessment, error) {
	at := time.Now()
	entries, err := backup.List(ctx, store, s.cluster)
	if err != nil {
		return nil, err
	}
	segments, faults, err := backup.RelistSegments(ctx, store, s.cluster, s.known)
	if err != nil {
		return nil, err
	}
	s.known = make(map[string][]backup.Segment, len(segments))
	for i := range segments {
		// There can be many; this is not needed to follow them.
		segments[i].SHA256, segments[i].Recipients = "", nil
		segments[i].Cluster, segments[i].Flavor = s.cluster, ""
		for _, text := range []*string{&segments[i].Writer, &segments[i].Had} {
			*text = unique.Make(*text).Value() // mostly the same
		}
		object := segments[i].Object()
		s.known[object] = append(s.known[object], segments[i])
	}
	s.mu.Lock()
	proven := s.proven
	s.mu.Unlock()
	a, err := safekeep.Assess(safekeep.Stock{At: at, Entries: entries, Segments: segments, Faults: faults}, s.policy, proven, at)
	return &a, err
}

// remove removes what the assessment does not keep: under the term, and written down
// before.
func (s *shelf) remove(ctx context.Context, store objects.Store, a *safekeep.Assessment) error {
	if ids := removals(a); len(ids) > 0 {
		text := fmt.Sprintf("backups are let go, which no rule of backups.retention keeps: %s (%d MiB)", strings.Join(ids, ", "), a.Prune.Freed>>20)
		if err := s.fence(ctx, text, false); err != nil {
			return err
		}
		removed, err := backup.Prune(ctx, store, s.cluster, a.Prune)
		s.log.Info("backups removed", zap.Strings("backups", removed), zap.Error(err))
		if err != nil {
			return err
		}
		s.look() // what that leaves of the archive
		return nil
	}
	if len(a.OldSegments) == 0 {
		return s.bundle(ctx, store)
	}
	keys := a.OldSegments[:min(len(a.OldSegments), mostPieces)]
	if err := s.fence(ctx, fmt.Sprintf("%d pieces of the archive are let go, which no kept backup needs: up to %s", len(keys), keys[len(keys)-1]), true); err != nil {
		return err
	}
	if err := backup.RemoveSegments(ctx, store, keys); err != nil {
		return fmt.Errorf("remove pieces of the archive: %w", err)
	}
	if len(keys) < len(a.OldSegments) {
		s.look()
	}
	return nil
}

// bundleAfter is for how long a piece of the archive is an object by itself.
const bundleAfter = time.Hour

// bundle makes few objects of many small pieces of the archive: a farm that is idle has
// some in a minute all the same, and each is asked for when a store is looked at anew.
func (s *shelf) bundle(ctx context.Context, store objects.Store) error {
	if s.locked || time.Since(s.bundles) < bundleAfter {
		return nil
	}
	if err := s.fence(ctx, "small pieces of the archive are bundled", true); err != nil {
		return err
	}
	s.bundles = time.Now()
	fewer, err := backup.Bundle(ctx, store, s.cluster, time.Now().Add(-bundleAfter))
	if fewer > 0 {
		s.log.Info("pieces of the archive are bundled", zap.Int("objects fewer", fewer))
		s.look()
	}
	if errors.Is(err, objects.ErrDenied) {
		// Under an object lock they would be there twice.
		s.locked = true
		s.log.Warn("pieces of the archive are not bundled: the store removes nothing", zap.Error(err))
		return nil
	}
	return err
}
