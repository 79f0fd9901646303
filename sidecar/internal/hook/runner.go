package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"

	"farmhand/internal/farm"
)

// Options are what a Runner needs.
type Options struct {
	Node  string // the name of the host that it runs on
	Hooks string // hooks.d; empty for none
	State string // the state directory
	// Limit is how long a hook may take; then it gets SIGTERM, and SIGKILL after
	// Grace.
	Limit, Grace time.Duration
	Output       int // bytes kept of what a hook says
	// Limits take the place of Limit for the hooks of single events, if not 0.
	Limits map[farm.EventKind]time.Duration
	// Attempts is how often the hooks of one event are begun at most.
	Attempts int
	Parallel int   // hosts whose hooks run at the same time
	Journal  int64 // bytes of the journal's current file, and as many of the old one
	Secrets  []string
	Webhook  Webhook
	Log      *zap.Logger
}

// limit is how long a hook of the event may take.
func (o *Options) limit(kind farm.EventKind) time.Duration {
	return cmp.Or(o.Limits[kind], o.Limit)
}

// maxAsync bounds the asynchronous hooks that run at the same time.
const maxAsync = 16

// lookEvery is how often the spool is listed although nothing was heard of a
// change; lookBlind is it if the system tells of none.
const (
	lookEvery = 10 * time.Second
	lookBlind = time.Second
)

// Runner delivers the events of one spool. There is one at a time per state
// directory.
type Runner struct {
	o       Options
	spool   *Spool
	journal *Journal
	client  *http.Client
	async   chan struct{} // holds one for each asynchronous hook that runs
	unlock  func()
	waiting
}

// NewRunner takes hold of the state directory. Close gives it back.
func NewRunner(o Options) (r *Runner, err error) {
	spool, err := OpenSpool(o.State)
	if err != nil {
		return nil, err
	}
	unlock, err := hold(o.State)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	if err := spool.clean(); err != nil {
		return nil, err
	}
	journal, err := OpenJournal(o.State, o.Journal)
	if err != nil {
		return nil, err
	}
	return &Runner{o: o, spool: spool, journal: journal, client: newClient(), async: make(chan struct{}, maxAsync), unlock: unlock, waiting: newWaiting()}, nil
}

func runnerLock(state string) string { return filepath.Join(state, "lock") }

// Of a sidecar that was killed a moment ago the kernel may not be done yet, and
// whoever asks whether one runs holds the lock for a moment.
const (
	holdLimit = 2 * time.Second
	holdEvery = 20 * time.Millisecond
)

// hold takes the state directory for this process alone.
func hold(state string) (unlock func(), err error) {
	for began := time.Now(); ; {
		unlock, err := lockFile(runnerLock(state), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return unlock, err
		}
		if time.Since(began) > holdLimit {
			return nil, fmt.Errorf("another sidecar works on %s: %w", state, err)
		}
		time.Sleep(holdEvery)
	}
}

// Runs reports whether a runner has the state directory in its hands.
func Runs(state string) (bool, error) {
	// It must not come into being here: it would be of who asks.
	if _, err := os.Stat(runnerLock(state)); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	unlock, err := lockFile(runnerLock(state), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	unlock()
	return false, nil
}

// Put adds an event; see [Spool.Put].
func (r *Runner) Put(e farm.Event) error { return r.spool.Put(e) }

// Close gives the state directory back. Run must have returned.
func (r *Runner) Close() error {
	r.client.CloseIdleConnections()
	err := r.journal.Close()
	r.unlock()
	return err
}

// Run delivers events until finish ends. What runs then may end, unless now ends
// first, which interrupts it; an event whose hooks did not all run stays.
func (r *Runner) Run(finish, now context.Context) error {
	d := &dispatch{r: r, finish: finish, now: now, known: map[int64]bool{}, hosts: map[string]*line{}, running: map[int64]string{}, freed: make(chan int64), gone: make(chan int64)}
	every := lookEvery
	look := time.NewTimer(every)
	defer look.Stop()
	var changes <-chan fsnotify.Event
	var overflow <-chan error
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		defer func() { _ = watcher.Close() }() // nothing is lost by it
		err = watcher.Add(r.spool.dir)
		changes, overflow = watcher.Events, watcher.Errors
	}
	if err != nil {
		r.o.Log.Warn("the system tells of no new events; looked for every second", zap.Error(err))
		every = lookBlind
		look.Reset(every)
	}
	d.list()
	soon := false // look is set to be early
	for finish.Err() == nil {
		d.begin()
		if d.behind && !soon {
			look.Reset(lookBlind)
			soon = true
		}
		select {
		case <-finish.Done():
		case change := <-changes:
			d.noticed(change)
		case err := <-overflow:
			r.o.Log.Warn("changes of the spool went unseen; it is listed", zap.Error(err))
			d.list()
		case <-look.C:
			look.Reset(every)
			soon = false
			d.list()
		case seq := <-d.freed:
			d.free(seq)
		case seq := <-d.gone:
			d.forget(seq)
		}
	}
	for len(d.running) > 0 || d.deliveries > 0 {
		select {
		case seq := <-d.freed:
			d.free(seq)
		case seq := <-d.gone:
			d.forget(seq)
		}
	}
	return nil
}
