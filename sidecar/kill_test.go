package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/sidecar/internal/hook"
)

// TestEventSurvivesKill9: the sidecar is killed in the middle of a hook, which
// dies with it and runs again.
func TestEventSurvivesKill9(t *testing.T) {
	n := newWebNode(t, nil)
	n.hook(t, "backup-complete", "10-slow", `echo "$FARMHAND_EVENT_ID $FARMHAND_ATTEMPT" >>`+n.path("runs")+`; [ -e `+n.path("go")+` ] && exit; echo $$ >`+n.path("pid.new")+`; mv `+n.path("pid.new")+" "+n.path("pid")+`; exec sleep 1000`)
	n.hook(t, "backup-complete", "20-after", "echo after >>"+n.path("runs"))
	n.setMembers(t, membersYAML)
	n.start(t)
	n.await(t, "running", running)
	id, err := sidecar("event", "backup-complete", "--host", "db1", "--role", "primary", "--address", "127.0.0.1:1", "--dir", n.state)
	must(t, err)
	id = strings.TrimSpace(id)
	var pid int
	farmtest.Eventually(t, "the hook runs", func() error {
		text, err := os.ReadFile(n.path("pid"))
		if err != nil {
			return err
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err
	})
	running9 := farmtest.Watch(t, pid)
	must(t, n.cmd.Process.Kill())
	running9.AwaitEnd(t)
	must(t, os.WriteFile(n.path("go"), nil, 0o644))
	_ = n.cmd.Wait() // killed
	n.start(t)
	n.awaitFile(t, "runs", id+" 1\n"+id+" 2\nafter\n")
	farmtest.Eventually(t, "the event is done with", func() error {
		if got := n.delivered(t); !slices.Contains(got, "backup-complete db1") {
			return fmt.Errorf("the journal has %v", got)
		}
		return nil
	})
	n.end(t)
	if left, err := filepath.Glob(filepath.Join(n.state, "spool", "*.json")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestEventsSurviveManyKills: none is lost, and none overtakes another one of its
// host, wherever the sidecar is killed.
func TestEventsSurviveManyKills(t *testing.T) {
	n := newWebNode(t, func(_ *webNode, _, hooks map[string]any) { hooks["attempts"] = 100 })
	n.hook(t, "custom", "10-note", `echo "$FARMHAND_FIELD_N" >>`+n.path("")+`/$FARMHAND_HOST.log`)
	n.setMembers(t, membersYAML)
	spool, err := hook.OpenSpool(n.state)
	must(t, err)
	const events = 300
	hosts := []string{"a", "b", "c"}
	for i := range events {
		for _, host := range hosts {
			must(t, spool.Put(farm.Event{
				ID: hook.NewID(), Kind: farm.Custom, Time: time.Now(), Host: farm.EventHost{Name: host, Role: "web", Address: "h"},
				Fields: map[string]string{"n": strconv.Itoa(i)},
			}))
		}
	}
	ran := func(host string) []string {
		data, err := os.ReadFile(n.path(host + ".log"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Fields(string(data))
	}
	awaitRuns := func(count int) {
		t.Helper()
		farmtest.Eventually(t, fmt.Sprintf("%d hooks have run", count), func() error {
			if got := len(ran("a")); got < count {
				return fmt.Errorf("%d have", got)
			}
			return nil
		})
	}
	for kills := range 8 {
		n.start(t)
		awaitRuns(len(ran("a")) + kills)
		must(t, n.cmd.Process.Kill())
		_ = n.cmd.Wait() // killed
	}
	n.start(t)
	farmtest.Eventually(t, "nothing waits any more", func() error {
		left, err := filepath.Glob(filepath.Join(n.state, "spool", "*.json"))
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d events wait", len(left))
		}
		return err
	})
	n.end(t)
	for _, host := range hosts {
		got := ran(host)
		if len(got) < events {
			t.Fatalf("host %s: %d of %d events: %v", host, len(got), events, got)
		}
		// Each may have run more than once, but only before the next one began.
		once := slices.Compact(got)
		for i := range events {
			if len(once) != events || once[i] != strconv.Itoa(i) {
				t.Fatalf("host %s: %v", host, once)
			}
		}
	}
}
