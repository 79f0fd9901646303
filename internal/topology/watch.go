package topology

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"farmhand/internal/farm"
	"farmhand/internal/filewatch"
)

// Observer is told what becomes of the file. Its methods are called one at a
// time and hold up the watching while they run.
type Observer interface {
	// Accepted says that now is in force. The topology before it was old, nil
	// for the first. The two are the same pointer if the file was refused in
	// between and is good again with what was in force all the time.
	Accepted(old, now *farm.Topology)
	// Refused says that the file is not taken and what was in force before
	// stays; once for each content, however many events it causes.
	Refused(*Refusal)
	// Blind says that the system gives no (or not every) event for the file, so
	// that a change is found by looking every second; once for each cause.
	Blind(error)
}

// Options are the choices that a watcher's owner has.
type Options struct {
	// Require names the clusters that the file must have. A file without them
	// is refused; other clusters come and go.
	Require []string
	// Observer may be nil.
	Observer Observer
}

// Watcher keeps the newest good content of a topology file.
type Watcher struct {
	file  *filewatch.Watcher
	judge *judge
}

// NewWatcher reads the file at path once, so that Current tells at once if there
// is a good one, and tells the observer the outcome. Run does the watching.
func NewWatcher(path string, options Options) (*Watcher, error) {
	return newWatcher(path, options, filewatch.Usual)
}

func newWatcher(path string, options Options, timing filewatch.Timing) (*Watcher, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("watch topology: %w", err)
	}
	j := &judge{path: path, require: options.Require, observer: options.Observer, terms: map[string]term{}}
	if j.observer == nil {
		j.observer = silent{}
	}
	file, err := filewatch.New(path, MaxSize, timing, j)
	if err != nil {
		return nil, fmt.Errorf("watch topology: %w", err)
	}
	return &Watcher{file: file, judge: j}, nil
}

type silent struct{}

func (silent) Accepted(_, _ *farm.Topology) {}
func (silent) Refused(*Refusal)             {}
func (silent) Blind(error)                  {}

// Current returns the topology in force, nil if there has been no good file yet.
// It is shared and must not be changed. Safe for use by any goroutine.
func (w *Watcher) Current() *farm.Topology { return w.judge.current.Load() }

// Reload has Run read the file soon, as if it had changed.
func (w *Watcher) Reload() { w.file.Reload() }

// Run watches the file until ctx ends, which is no error. It must run once at
// most.
func (w *Watcher) Run(ctx context.Context) error {
	if err := w.file.Run(ctx); err != nil {
		return fmt.Errorf("watch topology: %w", err)
	}
	return nil
}

// judge is what a Watcher makes of its file.
type judge struct {
	path     string
	require  []string
	observer Observer
	current  atomic.Pointer[farm.Topology]

	// Only the watching touches what follows.
	refused bool // what the last judgement was
	terms   map[string]term
}

// Good implements [filewatch.Judge].
func (j *judge) Good(r filewatch.Reading) bool {
	return admit(j.path, r, j.terms, j.require).refusal == nil
}

// Blind implements [filewatch.Judge].
func (j *judge) Blind(err error) { j.observer.Blind(err) }

// Take implements [filewatch.Judge]: it brings what was read into force or
// refuses it, and tells the observer.
func (j *judge) Take(r filewatch.Reading) {
	v := admit(j.path, r, j.terms, j.require)
	if v.refusal != nil {
		j.refused = true
		j.observer.Refused(v.refusal)
		return
	}
	old, again := j.current.Load(), j.refused
	j.terms, j.refused = v.terms, false
	switch {
	case old == nil || !same(old, v.topology):
		j.current.Store(v.topology)
		j.observer.Accepted(old, v.topology)
	case again:
		j.observer.Accepted(old, old)
	}
}
