package hook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a node with hooks.
type world struct {
	dir, hooks, state string
	options           Options
	spool             *Spool
	stop, stopNow     func()
	done              chan error             // nil while no runner runs
	errors            *observer.ObservedLogs // what was logged with this level
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{dir: dir, hooks: filepath.Join(dir, "hooks.d"), state: filepath.Join(dir, "state")}
	w.options = Options{
		Node: "node1", Hooks: w.hooks, State: w.state, Limit: time.Minute, Grace: time.Second, Output: 4096, Attempts: 3,
		Parallel: 4, Journal: 1 << 20,
		Webhook: Webhook{Limit: 10 * time.Second, Attempts: 3, FirstWait: time.Millisecond},
	}
	core, logged := observer.New(zap.ErrorLevel)
	w.options.Log, w.errors = zap.New(core), logged
	must(t, os.MkdirAll(w.hooks, 0o755))
	must(t, os.MkdirAll(w.state, 0o700))
	spool, err := OpenSpool(w.state)
	must(t, err)
	w.spool = spool
	t.Cleanup(func() {
		if w.done != nil {
			w.kill(t)
		}
	})
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hook writes a shell script. It must be called before start: a script that is
// open for writing while another one is started cannot be run (ETXTBSY).
func (w *world) hook(t *testing.T, kind farm.EventKind, name, script string) string {
	t.Helper()
	dir := filepath.Join(w.hooks, string(kind))
	must(t, os.MkdirAll(dir, 0o755))
	path := filepath.Join(dir, name)
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	return path
}

func (w *world) start(t *testing.T) {
	t.Helper()
	w.run(t)
}

// run is start, and returns the runner.
func (w *world) run(t *testing.T) *Runner {
	t.Helper()
	r, err := NewRunner(w.options)
	must(t, err)
	now, stopNow := context.WithCancel(context.Background())
	finish, stop := context.WithCancel(now)
	w.stop, w.stopNow, w.done = stop, stopNow, make(chan error, 1)
	go func() { w.done <- errors.Join(r.Run(finish, now), r.Close()) }()
	return r
}

// end lets what runs end; kill does not.
func (w *world) end(t *testing.T) {
	t.Helper()
	w.stop()
	must(t, <-w.done)
	w.stopNow()
	w.done = nil
}

func (w *world) kill(t *testing.T) {
	t.Helper()
	w.stopNow()
	must(t, <-w.done)
	w.done = nil
}

func (w *world) event(kind farm.EventKind, host string) farm.Event {
	return farm.Event{
		ID: NewID(), Kind: kind, Time: time.Now(), Host: farm.EventHost{Name: host, Role: "web", Address: "10.0.0.1"},
	}
}

func (w *world) put(t *testing.T, e farm.Event) farm.Event {
	t.Helper()
	must(t, w.spool.Put(e))
	return e
}

func (w *world) records(t *testing.T) []Record {
	t.Helper()
	var all []Record
	spoilt, err := ReadJournal(w.state, func(r Record) { all = append(all, r) })
	must(t, err)
	if spoilt != 0 {
		t.Errorf("%d lines of the journal are spoilt", spoilt)
	}
	return all
}

// await returns the records of an event once it is done with.
func (w *world) await(t *testing.T, e farm.Event) (hooks []Record, whole Record) {
	t.Helper()
	farmtest.Eventually(t, "the event is done with", func() error {
		hooks = nil
		for _, r := range w.records(t) {
			switch {
			case r.Event != e.ID:
			case r.Hook != "":
				hooks = append(hooks, r)
			default:
				whole = r
				return nil
			}
		}
		return fmt.Errorf("%v", hooks)
	})
	return hooks, whole
}

func (w *world) pending(t *testing.T) int {
	t.Helper()
	entries, err := w.spool.list()
	must(t, err)
	return len(entries)
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

func lines(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }
