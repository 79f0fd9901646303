package hook

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"

	"farmhand/internal/farm"
)

// dispatch is the state of one Run: which events wait for what. Only Run's
// goroutine touches it.
type dispatch struct {
	r           *Runner
	finish, now context.Context
	known       map[int64]bool   // the events that wait or run, by seq
	hosts       map[string]*line // by the name of the host
	order       []string         // hosts that wait, those longest first
	rest        []entry          // events of which only asynchronous hooks are left
	running     map[int64]string // the host that an event keeps to itself
	deliveries  int              // goroutines
	behind      bool             // an event could not be read: those after it wait for the next list
	freed, gone chan int64
}

// line is the events of one host that wait.
type line struct {
	waiting []entry // by seq
	busy    bool    // one before them runs
}

// noticed looks at a change of the spool's directory.
func (d *dispatch) noticed(change fsnotify.Event) {
	if !change.Has(fsnotify.Create) {
		return
	}
	// Deliveries rename and remove too; only an event that is new is news.
	if e, ok := parseEntry(filepath.Base(change.Name)); ok && e.attempts == 0 && !d.behind {
		d.behind = !d.add(e)
	}
}

// list looks for events that are not known yet.
func (d *dispatch) list() {
	entries, err := d.r.spool.list()
	if err != nil {
		d.r.o.Log.Error("the spool cannot be listed; tried again soon", zap.Error(err))
		return
	}
	d.behind = false
	for _, e := range entries {
		if d.behind = !d.add(e); d.behind {
			return
		}
	}
}

// add takes note of an event; false means that it cannot be read now.
func (d *dispatch) add(e entry) bool {
	if d.known[e.seq] {
		return true
	}
	event, err := d.r.spool.read(e)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true // its name has changed since, so it is known, or it has gone
	case errors.Is(err, errNoEvent):
		d.r.refuse(e, err)
		return true
	case err != nil:
		d.r.o.Log.Error("an event cannot be read; tried again soon", zap.Error(err))
		return false
	}
	d.known[e.seq] = true
	if e.async {
		d.rest = append(d.rest, e)
		return true
	}
	l := d.hosts[event.Host.Name]
	if l == nil {
		l = new(line)
		d.hosts[event.Host.Name] = l
	}
	if len(l.waiting) == 0 && !l.busy {
		d.order = append(d.order, event.Host.Name)
	}
	at, _ := slices.BinarySearchFunc(l.waiting, e.seq, func(w entry, seq int64) int { return cmp.Compare(w.seq, seq) })
	l.waiting = slices.Insert(l.waiting, at, e)
	return true
}

// begin starts what may start.
func (d *dispatch) begin() {
	for len(d.running) < d.r.o.Parallel && len(d.order) > 0 {
		host := d.order[0]
		d.order = d.order[1:]
		l := d.hosts[host]
		e := l.waiting[0]
		l.waiting, l.busy = l.waiting[1:], true
		d.running[e.seq] = host
		d.deliver(e)
	}
	for _, e := range d.rest {
		d.deliver(e)
	}
	d.rest = nil
}

func (d *dispatch) deliver(e entry) {
	d.deliveries++
	go func() {
		defer func() { d.gone <- e.seq }()
		d.r.deliver(d.finish, d.now, e, func() { d.freed <- e.seq })
	}()
}

// free lets the next event of a host begin.
func (d *dispatch) free(seq int64) {
	host, ok := d.running[seq]
	if !ok {
		return
	}
	delete(d.running, seq)
	l := d.hosts[host]
	l.busy = false
	if len(l.waiting) == 0 {
		delete(d.hosts, host)
		return
	}
	d.order = append(d.order, host)
}

// forget is the end of a delivery.
func (d *dispatch) forget(seq int64) {
	d.free(seq)
	delete(d.known, seq)
	d.deliveries--
}

// refuse drops a file that is no event.
func (r *Runner) refuse(e entry, why error) {
	r.o.Log.Error("a file in the spool is no event and is dropped", zap.Error(why))
	r.write(Record{Event: e.name(), Kind: farm.Custom, Result: Refused, Detail: why.Error()})
	if err := r.spool.remove(e); err != nil {
		r.o.Log.Error("a file in the spool cannot be removed", zap.Error(err))
	}
}

func (r *Runner) write(record Record) {
	record.Time = time.Now().UTC()
	if err := r.journal.Write(record); err != nil {
		r.o.Log.Error("a record is missing in the journal", zap.Error(err), zap.String("event", record.Event), zap.String("hook", record.Hook),
			zap.String("result", record.Result))
	}
}
