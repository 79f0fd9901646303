package hook

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

func TestHookLearnsOfTheEvent(t *testing.T) {
	w := newWorld(t)
	t.Setenv("FARMHAND_TEST_OURS", "1")
	w.hook(t, farm.HostUp, "10-env", "env | sort >"+w.dir+"/env; cat >"+w.dir+"/stdin")
	w.start(t)
	e := w.event(farm.HostUp, "web1")
	e.Fields = map[string]string{"zone": "b c"}
	w.put(t, e)
	hooks, whole := w.await(t, e)
	if len(hooks) != 1 || hooks[0].Hook != "10-env" || hooks[0].Result != "ok" || whole.Result != Delivered || whole.Failed != 0 || whole.Fields["zone"] != "b c" {
		t.Errorf("journaled: %+v, %+v", hooks, whole)
	}
	var env []string
	for _, line := range lines(read(t, w.dir+"/env")) {
		if name, _, _ := strings.Cut(line, "="); name != "PWD" && name != "_" && name != "SHLVL" && name != "OLDPWD" { // the shell's own
			env = append(env, line)
		}
	}
	want := []string{
		"FARMHAND_ADDRESS=10.0.0.1", "FARMHAND_ATTEMPT=1", "FARMHAND_EVENT=host-up", "FARMHAND_EVENT_ID=" + e.ID,
		"FARMHAND_FIELD_ZONE=b c", "FARMHAND_HOST=web1", "FARMHAND_NODE=node1", "FARMHAND_ROLE=web",
		"FARMHAND_TIME=" + e.Time.UTC().Format(time.RFC3339Nano), "LANG=C.UTF-8",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	slices.Sort(env)
	slices.Sort(want)
	if !slices.Equal(env, want) {
		t.Errorf("the environment is\n%s\nwant\n%s", strings.Join(env, "\n"), strings.Join(want, "\n"))
	}
	var told farm.Event
	must(t, json.Unmarshal([]byte(read(t, w.dir+"/stdin")), &told))
	if told.ID != e.ID || told.Host != e.Host || told.Fields["zone"] != "b c" || !told.Time.Equal(e.Time) {
		t.Errorf("standard input: %+v", told)
	}
}

func TestHooksRunInOrderAndAFailureStopsNothing(t *testing.T) {
	w := newWorld(t)
	note := func(s string) string { return "echo " + s + " >>" + w.dir + "/log;" }
	w.hook(t, farm.HostUp, "20-second", note("2"))
	w.hook(t, farm.HostUp, "10-first", note("1")+"echo it broke >&2; exit 7")
	w.hook(t, farm.HostUp, "15-hangs", note("h")+"sleep 1000")
	w.hook(t, farm.HostUp, "README", note("readme"))
	w.hook(t, farm.HostDown, "10-other", note("down"))
	w.options.Limit = 300 * time.Millisecond
	w.start(t)
	first, second := w.put(t, w.event(farm.HostUp, "web1")), w.put(t, w.event(farm.HostDown, "web1"))
	hooks, whole := w.await(t, first)
	_, after := w.await(t, second)
	if got := strings.Join(lines(read(t, w.dir+"/log")), " "); got != "1 h 2 down" {
		t.Errorf("ran: %s", got)
	}
	if len(hooks) != 3 || hooks[0].Result != "failed" || hooks[0].Exit != 7 || hooks[0].Output != "it broke\n" ||
		hooks[1].Result != "timed-out" || hooks[2].Result != "ok" || whole.Failed != 2 || after.Failed != 0 {
		t.Errorf("journaled: %+v, %+v, %+v", hooks, whole, after)
	}
	w.end(t)
	if n := w.pending(t); n != 0 {
		t.Errorf("%d events are left", n)
	}
}

func TestHooksThatOthersMayChangeAreRefused(t *testing.T) {
	w := newWorld(t)
	ran := "touch " + w.dir + "/ran"
	must(t, os.Chmod(w.hook(t, farm.HostUp, "10-open", ran), 0o775))
	must(t, os.Chmod(w.hook(t, farm.HostUp, "20-plain", ran), 0o644))
	must(t, os.Symlink("/nonexistent", filepath.Join(w.hooks, "host-up", "30-dangling")))
	// A good file behind a link, but in a directory where anybody may replace it.
	open := filepath.Join(w.dir, "open")
	must(t, os.Mkdir(open, 0o755))
	must(t, os.WriteFile(filepath.Join(open, "hook"), []byte("#!/bin/sh\n"+ran), 0o755))
	must(t, os.Chmod(open, 0o777))
	must(t, os.Symlink(filepath.Join(open, "hook"), filepath.Join(w.hooks, "host-up", "40-linked")))
	w.hook(t, farm.HostDown, "10-in-open-directory", ran)
	must(t, os.Chmod(filepath.Join(w.hooks, "host-down"), 0o777))
	w.start(t)
	hooks, whole := w.await(t, w.put(t, w.event(farm.HostUp, "web1")))
	if len(hooks) != 4 || whole.Failed != 4 {
		t.Fatalf("journaled: %+v, %+v", hooks, whole)
	}
	for i, want := range []string{"others than its owner may change it", "is not executable", "no such file", "others than its owner may change it"} {
		if hooks[i].Result != Refused || !strings.Contains(hooks[i].Detail, want) {
			t.Errorf("%s: %s %s; want refused: %s", hooks[i].Hook, hooks[i].Result, hooks[i].Detail, want)
		}
	}
	hooks, _ = w.await(t, w.put(t, w.event(farm.HostDown, "web1")))
	if len(hooks) != 1 || hooks[0].Result != Refused || !strings.Contains(hooks[0].Detail, "host-down has mode 0777") {
		t.Errorf("journaled: %+v", hooks)
	}
	if _, err := os.Stat(w.dir + "/ran"); err == nil {
		t.Error("a hook that was refused ran")
	}
}

func TestThousandEventsInOrderOfEachHost(t *testing.T) {
	w := newWorld(t)
	w.hook(t, farm.Custom, "10-note", `echo $FARMHAND_FIELD_N >>`+w.dir+`/$FARMHAND_HOST.log`)
	w.start(t)
	const hosts, events = 10, 100
	var last farm.Event
	for n := range events {
		for h := range hosts {
			e := w.event(farm.Custom, fmt.Sprintf("h%d", h))
			e.Fields = map[string]string{"n": fmt.Sprint(n)}
			last = w.put(t, e)
		}
	}
	w.await(t, last)
	farmtest.Eventually(t, "the spool is empty", func() error {
		if n := w.pending(t); n > 0 {
			return fmt.Errorf("%d events wait", n)
		}
		return nil
	})
	for h := range hosts {
		got := lines(read(t, fmt.Sprintf("%s/h%d.log", w.dir, h)))
		for n := range events {
			if len(got) != events || got[n] != fmt.Sprint(n) {
				t.Fatalf("host %d: %v", h, got)
			}
		}
	}
}

// TestAsyncHookIsNotWaitedFor: the host's next event ends before it.
func TestAsyncHookIsNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.hook(t, farm.HostUp, "10-slow.async", "while ! [ -e "+w.dir+"/go ]; do sleep 0.05; done; echo late")
	w.hook(t, farm.HostDown, "10-quick", "true")
	w.start(t)
	slow := w.put(t, w.event(farm.HostUp, "web1"))
	w.await(t, w.put(t, w.event(farm.HostDown, "web1")))
	for _, r := range w.records(t) {
		if r.Event == slow.ID {
			t.Errorf("the slow one is done: %+v", r)
		}
	}
	must(t, os.WriteFile(w.dir+"/go", nil, 0o644))
	if hooks, _ := w.await(t, slow); len(hooks) != 1 || !hooks[0].Async || hooks[0].Output != "late\n" {
		t.Errorf("journaled: %+v", hooks)
	}
}

// TestInterruptedEventIsDeliveredAgain: without having used up an attempt, and
// before what came after it.
func TestInterruptedEventIsDeliveredAgain(t *testing.T) {
	w := newWorld(t)
	w.hook(t, farm.HostUp, "10-slow", "echo up $FARMHAND_ATTEMPT >>"+w.dir+"/log; [ -e "+w.dir+"/go ] || sleep 1000")
	w.hook(t, farm.HostUp, "20-async.async", "echo async >>"+w.dir+"/log")
	w.hook(t, farm.HostDown, "10-next", "echo down >>"+w.dir+"/log")
	w.start(t)
	w.put(t, w.event(farm.HostUp, "web1"))
	next := w.put(t, w.event(farm.HostDown, "web1"))
	for range 5 { // more often than Attempts
		farmtest.Eventually(t, "the hook runs", func() error {
			_, err := os.Stat(w.dir + "/log")
			return err
		})
		w.kill(t)
		must(t, os.Remove(w.dir+"/log"))
		w.start(t)
	}
	farmtest.Eventually(t, "the hook runs", func() error {
		_, err := os.Stat(w.dir + "/log")
		return err
	})
	must(t, os.WriteFile(w.dir+"/go", nil, 0o644))
	w.kill(t)
	w.start(t)
	w.await(t, next)
	w.end(t)
	got := lines(read(t, w.dir+"/log"))
	if i := slices.Index(got, "down"); i < 0 || !slices.Equal(slices.DeleteFunc(slices.Clone(got[:i]), func(s string) bool { return s == "async" }), []string{"up 1", "up 1"}) || !slices.Contains(got, "async") {
		t.Errorf("ran: %v", got)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.hook(t, farm.HostUp, "10-note", "echo ran >>"+w.dir+"/log")
	e := w.put(t, w.event(farm.HostUp, "web1"))
	// As a sidecar leaves it that was killed while the hooks ran, three times.
	entries, err := w.spool.list()
	must(t, err)
	killed := entries[0]
	killed.attempts = w.options.Attempts
	must(t, w.spool.become(entries[0], killed))
	w.start(t)
	if hooks, whole := w.await(t, e); len(hooks) != 0 || whole.Result != GivenUp || !strings.Contains(whole.Detail, "3 times") {
		t.Errorf("journaled: %+v, %+v", hooks, whole)
	}
	w.end(t)
	if n := w.pending(t); n != 0 {
		t.Errorf("%d events are left", n)
	}
}

func TestOneRunnerPerDirectory(t *testing.T) {
	w := newWorld(t)
	if runs, err := Runs(w.state); runs || err != nil {
		t.Errorf("runs: %v, %v", runs, err)
	}
	w.start(t)
	if runs, err := Runs(w.state); !runs || err != nil {
		t.Errorf("runs: %v, %v", runs, err)
	}
	if _, err := NewRunner(w.options); err == nil || !strings.Contains(err.Error(), "another sidecar works on") {
		t.Errorf("got %v", err)
	}
}
