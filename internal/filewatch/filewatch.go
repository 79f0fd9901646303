// Package filewatch follows a small file that is replaced, or written anew, while
// programs run on it: it reads the file when that may have changed and asks its
// owner what to make of it.
//
// It knows nothing of what is in the file. What is bad for a moment, because it
// is being written in place, is not shown to its owner as final.
//
// Invariant: a content is taken once, however many events it causes.
package filewatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Timing is how quickly a change is taken up.
type Timing struct {
	// Debounce is how long after the first event of a burst the file is read.
	// Later events do not put it off, so that a storm cannot starve the reader.
	Debounce time.Duration
	// Settle is how long a bad file must stay as it is before it is taken for
	// what it is: what is being written in place, or removed and put back, is bad
	// for a moment and no news.
	Settle time.Duration
	// Poll is the backstop for what no event tells: network file systems, a
	// renamed parent directory, a lost event.
	Poll time.Duration
	// BlindPoll replaces Poll while there are no events at all.
	BlindPoll time.Duration
}

// Usual is the timing outside of tests.
var Usual = Timing{
	Debounce:  30 * time.Millisecond,
	Settle:    250 * time.Millisecond,
	Poll:      10 * time.Second,
	BlindPoll: time.Second,
}

// Reading is one look at the file: its content, or why there is none.
type Reading struct {
	Data []byte
	Err  error
}

func (r Reading) same(other Reading) bool {
	if r.Err != nil || other.Err != nil {
		return r.Err != nil && other.Err != nil && r.Err.Error() == other.Err.Error()
	}
	return string(r.Data) == string(other.Data)
}

// Judge is the owner of a Watcher. Its methods are called one at a time and hold
// up the watching while they run.
type Judge interface {
	// Good reports whether the reading can come into force. It changes nothing.
	Good(Reading) bool
	// Take brings a good reading into force, and refuses one that has stayed bad.
	Take(Reading)
	// Blind says that the system gives no (or not every) event for the file, so
	// that a change is found by looking every second; once for each cause.
	Blind(error)
}

// Watcher follows one file.
type Watcher struct {
	path   string
	most   int64
	judge  Judge
	timing Timing
	nudge  chan struct{}
	last   Reading // what was taken last; only New's and then Run's
}

// New reads the file at path once and has the judge take it, whatever it is. Of
// a larger file than most bytes one byte more is read, for the judge to refuse.
func New(path string, most int64, timing Timing, judge Judge) (*Watcher, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	w := &Watcher{path: path, most: most, judge: judge, timing: timing, nudge: make(chan struct{}, 1)}
	w.take(w.read())
	return w, nil
}

// Path is the file's absolute path.
func (w *Watcher) Path() string { return w.path }

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
	run := run{w: w, ticker: time.NewTicker(w.timing.Poll)}
	defer run.stop()
	events, err := fsnotify.NewWatcher()
	if err != nil {
		run.unwatched = err
		run.loop(ctx, nil, nil)
		return nil
	}
	run.watched = &watches{to: events, ids: map[string]fileID{}}
	run.loop(ctx, events.Events, events.Errors)
	return events.Close()
}

func (w *Watcher) read() Reading {
	data, err := Read(w.path, w.most)
	return Reading{data, err}
}

func (w *Watcher) take(r Reading) {
	w.last = r
	w.judge.Take(r)
}

// Read reads the file at path, at most one byte more than most.
func Read(path string, most int64) (data []byte, err error) {
	// Without O_NONBLOCK the open of a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it is %s, not a file", kind(info.Mode()))}
	}
	return io.ReadAll(io.LimitReader(f, most+1))
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	}
	return "a device or socket"
}
