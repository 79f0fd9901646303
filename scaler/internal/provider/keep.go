package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/child"
	"farmhand/scaler/internal/flock"
)

func zapName(name string) zap.Field { return zap.String("instance", name) }

// rescan is how often the directory is looked at for instances that another
// scaler has launched.
const rescan = time.Second

// Keep starts the sidecars that have ended, at once and with growing waits, and goes
// on with terminations that were cut short, until ctx ends. The instances run on
// then. Of several scalers on one machine, one does that at a time.
func (l *Local) Keep(ctx context.Context) (err error) {
	lock, err := flock.Hold(ctx, filepath.Join(l.Dir, "keeper.lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	var keepers sync.WaitGroup
	defer keepers.Wait()
	var mu sync.Mutex
	kept := map[string]bool{}
	tick := time.NewTicker(rescan)
	defer tick.Stop()
	for {
		records, err := l.records()
		if err != nil {
			l.Log.Error("instances cannot be listed", zap.Error(err))
		}
		for _, r := range records {
			mu.Lock()
			begin := !kept[r.Name]
			kept[r.Name] = true
			mu.Unlock()
			if begin {
				keepers.Go(func() {
					l.keep(ctx, r)
					mu.Lock()
					defer mu.Unlock()
					delete(kept, r.Name)
				})
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// keep keeps one instance running until it is gone or ctx ends.
func (l *Local) keep(ctx context.Context, r record) {
	var backoff child.Backoff
	for ctx.Err() == nil {
		now, err := l.read(r.Name)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		began := time.Now()
		switch {
		case err != nil:
		case now.Terminating:
			if err = l.Terminate(ctx, r.Name); err == nil {
				return
			}
		default:
			err = l.run(ctx, r)
		}
		if ctx.Err() != nil {
			return
		}
		then, rerr := l.settled(ctx, r.Name)
		gone := err == nil || errors.Is(err, fs.ErrNotExist) // somebody else removes it just now
		if rerr == nil && then.Terminating && gone || errors.Is(rerr, fs.ErrNotExist) {
			continue // it ended because it is to go
		}
		if rerr == nil && then.Configured != now.Configured {
			continue // it ended because it was configured anew
		}
		wait := backoff.Next(time.Since(began))
		l.Log.Warn("sidecar ended", zapName(r.Name), zap.Error(err), zap.Duration("again_in", wait))
		said := "see " + l.place.log(r.Name)
		if last := lastLine(l.place.log(r.Name)); !strings.Contains(last, "\tINFO\t") {
			said = l.place.log(r.Name) + " says: " + last
		}
		l.Tell(r.Name, fmt.Sprintf("its sidecar has ended (%s) and starts again in %v; %s", text(err), wait, said))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// settled is the record of an instance when nobody is about to start, stop or
// configure it.
func (l *Local) settled(ctx context.Context, name string) (record, error) {
	lock, err := flock.Hold(ctx, l.place.of(name, "lock"))
	if err != nil {
		return record{}, err
	}
	r, err := l.read(name)
	return r, errors.Join(err, lock.Close())
}

func text(err error) string {
	if err == nil {
		return "unasked"
	}
	return err.Error()
}

// endOfLog is how much of a log is looked at for its last line, in bytes.
const endOfLog = 4 << 10

// lastLine is the last line of a log, for people.
func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err == nil && info.Size() > endOfLog {
		if _, err := f.Seek(-endOfLog, io.SeekEnd); err != nil {
			return "(" + err.Error() + ")"
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, endOfLog))
	if err != nil {
		return "(" + err.Error() + ")"
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// run starts the sidecar, if it does not run, and returns when it has ended.
func (l *Local) run(ctx context.Context, r record) error {
	if err := l.start(ctx, r); err != nil {
		return err
	}
	sidecar, err := l.sidecar(r.Name)
	if err != nil || sidecar == nil {
		return err
	}
	return errors.Join(sidecar.Await(ctx), sidecar.Close())
}
