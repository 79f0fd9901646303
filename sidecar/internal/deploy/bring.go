package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/atomicfile"
	"farmhand/internal/cluster"
)

// trial is a change of current that was not found good yet.
type trial struct {
	To  string `json:"to"`
	Was string `json:"was"` // what visitors got before; empty for nothing
}

// How a site is asked whether a release is good.
const (
	askPause  = 200 * time.Millisecond
	enough    = 3 // answers in a row
	tooMany   = 2 // failures in a row, of what visitors get already
	backWords = "the release before is what visitors get again"
)

// Bring has visitors get a release. Before they do, its code is verified, checked and asked for pages; after
// that it is asked again, and if it does not answer well the one before takes its place at once. What is wrong with the
// release is a [RefusedError]; any other error may go away. With back nothing is asked: the release was good before.
//
// If ctx ends in the middle, or the process, the next call goes on with what it finds.
func (s *Site) Bring(ctx context.Context, r cluster.Release, back bool) error {
	under, err := s.trial()
	if err != nil {
		return err
	}
	if s.has(r) && (under == nil || back) {
		return errors.Join(s.point(nextLink, ""), s.settled())
	}
	if under != nil && !s.has(r) {
		// It was left in the middle, and something else is wanted: what was before counts.
		if err := s.restore(*under); err != nil || s.has(r) {
			return err
		}
		under = nil
	}
	if under == nil {
		if err := s.provide(ctx, r); err != nil {
			return err
		}
		if !back {
			if err := s.try(ctx, r); err != nil {
				return errors.Join(err, s.point(nextLink, ""))
			}
		}
		if under, err = s.change(dirName(r)); err != nil {
			return err
		}
	}
	if !back {
		s.Doing("asking " + r.Version + " as visitors do")
		if err := s.ask(ctx, false, tooMany); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if under.Was == "" {
				return fmt.Errorf("%s does not answer well, and there is nothing to go back to: %w", r.Version, err)
			}
			err = &RefusedError{fmt.Errorf("%s does not answer well; %s: %w", r.Version, backWords, err)}
			return errors.Join(err, s.restore(*under))
		}
	}
	s.Log.Info("visitors get another release", zap.String("version", r.Version), zap.String("before", under.Was))
	return errors.Join(s.point(nextLink, ""), s.settled(), s.prune(dirName(r), under.Was))
}

// try looks at the release as next, which no visitor sees.
func (s *Site) try(ctx context.Context, r cluster.Release) error {
	if s.Check != nil {
		s.Doing("checking " + r.Version)
		if err := s.Check(ctx, s.path(dirName(r))); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return &RefusedError{fmt.Errorf("%s: %w", r.Version, err)}
		}
	}
	if err := s.point(nextLink, dirName(r)); err != nil {
		return err
	}
	s.Doing("asking " + r.Version + " before visitors do")
	limited, cancel := context.WithTimeoutCause(ctx, s.Within, fmt.Errorf("not within %v", s.Within))
	defer cancel()
	err := s.ask(limited, true, 0)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return &RefusedError{fmt.Errorf("%s does not answer well, and visitors do not get it: %w", r.Version, err)}
}

// ask asks until enough answers in a row are good, or failures in a row are not (0: for as long as ctx lasts).
// The error is that of the last answer that there was.
func (s *Site) ask(ctx context.Context, next bool, failures int) error {
	good, bad := 0, 0
	var last error
	for {
		err := s.Ask(ctx, next)
		switch {
		case err == nil:
			good, bad = good+1, 0
		case ctx.Err() != nil:
			return errors.Join(context.Cause(ctx), last)
		default:
			good, bad, last = 0, bad+1, err
		}
		switch {
		case good == enough:
			return nil
		case err != nil && bad == failures:
			return err
		}
		select {
		case <-time.After(askPause):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), last)
		}
	}
}

// change has visitors get another release, which is on trial from now on.
func (s *Site) change(to string) (*trial, error) {
	was, err := s.link(currentLink)
	if err != nil {
		return nil, err
	}
	t := trial{To: to, Was: was}
	data, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Write(s.trialFile(), data, 0o600, nil); err != nil {
		return nil, err
	}
	if err := s.point(currentLink, to); err != nil {
		return nil, err
	}
	return &t, s.Changed()
}

// restore has visitors get again what they got before a trial, and ends that.
func (s *Site) restore(t trial) error {
	if t.Was != "" {
		s.Log.Warn("visitors get the release before again", zap.String("release", t.Was), zap.String("instead of", t.To))
		if err := s.point(currentLink, t.Was); err != nil {
			return err
		}
		if err := s.Changed(); err != nil {
			return err
		}
	}
	return errors.Join(s.point(nextLink, ""), s.settled())
}

func (s *Site) trialFile() string { return filepath.Join(s.Dir, trialFile) }

// trial is the one that goes on; nil for none.
func (s *Site) trial() (*trial, error) {
	data, err := os.ReadFile(s.trialFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	t := &trial{}
	if err == nil {
		err = json.Unmarshal(data, t)
	}
	if err != nil {
		return nil, fmt.Errorf("which release was on trial: %w", err)
	}
	now, err := s.link(currentLink)
	if err != nil {
		return nil, err
	}
	if now != t.To {
		return nil, s.settled() // it was to begin, and did not
	}
	return t, nil
}

// settled ends the trial.
func (s *Site) settled() error {
	if err := os.Remove(s.trialFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
