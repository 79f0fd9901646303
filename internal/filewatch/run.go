package filewatch

import (
	"context"
	"time"

	"github.com/fsnotify/fsnotify"
)

// run is the state of one Run: the timers and what they wait for.
type run struct {
	w         *Watcher
	ticker    *time.Ticker
	watched   *watches    // nil if the system gives no events
	unwatched error       // why it does not give all of them, as the observer knows
	look      *time.Timer // set while events wait for their debounce
	doubt     Reading     // what looked bad and has yet to settle
	settled   *time.Timer // set while there is a doubt
}

func (r *run) stop() {
	r.ticker.Stop()
	if r.look != nil {
		r.look.Stop()
	}
	r.clearDoubt()
}

func (r *run) loop(ctx context.Context, events <-chan fsnotify.Event, overflows <-chan error) {
	if r.unwatched != nil {
		r.blind(r.unwatched)
	}
	r.follow()
	r.check() // for what changed before the watch stood
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
			if r.look == nil {
				r.look = time.NewTimer(r.w.timing.Debounce)
			}
			continue
		case <-fired(r.settled):
			r.settled = nil
			r.confirm()
			continue
		case <-fired(r.look):
			r.look = nil
		case <-overflows: // events were lost: the state of the file is the truth
		case <-r.w.nudge:
		case <-r.ticker.C:
		}
		r.follow()
		r.check()
	}
}

func fired(t *time.Timer) <-chan time.Time {
	if t == nil {
		return nil
	}
	return t.C
}

// follow sets the watches anew. A directory that cannot be watched is left to
// the poll: nothing must stop because somebody took a permission away.
func (r *run) follow() {
	if r.watched == nil {
		return
	}
	err := r.watched.follow(r.w.path)
	switch {
	case err == nil && r.unwatched != nil:
		r.unwatched = nil
		r.ticker.Reset(r.w.timing.Poll)
	case err != nil && (r.unwatched == nil || r.unwatched.Error() != err.Error()):
		r.blind(err)
	}
}

func (r *run) blind(err error) {
	r.unwatched = err
	r.ticker.Reset(r.w.timing.BlindPoll)
	r.w.judge.Blind(err)
}

// check reads the file and judges it, unless it is new and bad: then it must
// settle first.
func (r *run) check() {
	now := r.w.read()
	if now.same(r.w.last) {
		r.clearDoubt()
		return
	}
	if r.w.judge.Good(now) {
		r.clearDoubt()
		r.w.take(now)
		return
	}
	if r.settled != nil {
		if now.same(r.doubt) {
			return
		}
		r.settled.Stop()
	}
	r.doubt, r.settled = now, time.NewTimer(r.w.timing.Settle)
}

// confirm has a bad file that has stayed as it was taken for what it is, and looks
// anew at any other.
func (r *run) confirm() {
	now := r.w.read()
	if !now.same(r.doubt) {
		r.check()
		return
	}
	r.clearDoubt()
	r.w.take(now)
}

func (r *run) clearDoubt() {
	if r.settled != nil {
		r.settled.Stop()
	}
	r.doubt, r.settled = Reading{}, nil
}
