package topology

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"farmhand/internal/farm"
)

// timing is how quickly a change is taken up.
type timing struct {
	// debounce is how long after the first event of a burst the file is read.
	// Later events do not put it off, so that a storm cannot starve the reader.
	debounce time.Duration
	// settle is how long a bad file must stay as it is before it is reported:
	// what is being written in place, or removed and put back, is bad for a
	// moment and no news.
	settle time.Duration
	// poll is the backstop for what no event tells: network file systems, a
	// renamed parent directory, a lost event.
	poll time.Duration
	// blindPoll replaces poll while there are no events at all.
	blindPoll time.Duration
}

var usualTiming = timing{
	debounce:  30 * time.Millisecond,
	settle:    250 * time.Millisecond,
	poll:      10 * time.Second,
	blindPoll: time.Second,
}

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
	path     string
	require  []string
	observer Observer
	timing   timing
	current  atomic.Pointer[farm.Topology]
	nudge    chan struct{}

	// Only NewWatcher and then Run's goroutine touch what follows.
	last    reading // the content that was judged last
	refused bool    // what the judgement was
	terms   map[string]term
}

// NewWatcher reads the file at path once, so that Current tells at once if there
// is a good one, and tells the observer the outcome. Run does the watching.
func NewWatcher(path string, options Options) (*Watcher, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("watch topology: %w", err)
	}
	w := &Watcher{
		path:     path,
		require:  options.Require,
		observer: options.Observer,
		timing:   usualTiming,
		nudge:    make(chan struct{}, 1),
		terms:    map[string]term{},
	}
	if w.observer == nil {
		w.observer = silent{}
	}
	first := w.read()
	w.apply(first, w.admit(first))
	return w, nil
}

type silent struct{}

func (silent) Accepted(_, _ *farm.Topology) {}
func (silent) Refused(*Refusal)             {}
func (silent) Blind(error)                  {}

// Current returns the topology in force, nil if there has been no good file yet.
// It is shared and must not be changed. Safe for use by any goroutine.
func (w *Watcher) Current() *farm.Topology { return w.current.Load() }

// Reload has Run read the file soon, as if it had changed.
func (w *Watcher) Reload() {
	select {
	case w.nudge <- struct{}{}:
	default:
	}
}

// Run watches the file until ctx ends, which is no error. It must run once at
// most.
func (w *Watcher) Run(ctx context.Context) error {
	run := run{w: w, ticker: time.NewTicker(w.timing.poll)}
	defer run.stop()
	events, err := fsnotify.NewWatcher()
	if err != nil {
		run.unwatched = err
		run.loop(ctx, nil, nil)
		return nil
	}
	run.watched = &watches{to: events, ids: map[string]fileID{}}
	run.loop(ctx, events.Events, events.Errors)
	if err := events.Close(); err != nil {
		return fmt.Errorf("watch topology: %w", err)
	}
	return nil
}

func (w *Watcher) read() reading {
	data, err := readFile(w.path)
	return reading{data, err}
}

func (w *Watcher) admit(r reading) verdict { return admit(w.path, r, w.terms, w.require) }

// apply brings what was read into force or refuses it, and tells the observer.
func (w *Watcher) apply(r reading, v verdict) {
	w.last = r
	if v.refusal != nil {
		w.refused = true
		w.observer.Refused(v.refusal)
		return
	}
	old, again := w.current.Load(), w.refused
	w.terms, w.refused = v.terms, false
	switch {
	case old == nil || !same(old, v.topology):
		w.current.Store(v.topology)
		w.observer.Accepted(old, v.topology)
	case again:
		w.observer.Accepted(old, old)
	}
}
