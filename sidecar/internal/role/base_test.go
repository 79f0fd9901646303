package role

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/report"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/membership"
)

// newBaseWorld is a node of the role base; its frame is the test's to say.
func newBaseWorld(t *testing.T) (*webWorld, *config.Frame) {
	w := newWebWorld(t)
	w.config.Role, w.config.Name = "base", "cache1"
	w.config.Base.Directory = filepath.Join(w.config.State, "work")
	return w, &w.config.Base.Frame
}

func waiting(name, script string) config.Program {
	return config.Program{Name: name, Command: []string{"sh", "-c", script}, StopAfter: service.Duration(5 * time.Second)}
}

// lines awaits that many lines in a file.
func lines(t *testing.T, path string, n int) []string {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		data, err := os.ReadFile(path)
		if list := strings.Fields(string(data)); err == nil && len(list) >= n {
			return list
		}
		if time.Now().After(limit) {
			t.Fatalf("%s has no %d lines: %q, %v", path, n, data, err)
		}
	}
}

// TestBase: a program begins when its file is there, is told of a change of that, and ends in
// order; and its environment is as it was said.
func TestBase(t *testing.T) {
	w, f := newBaseWorld(t)
	dir := f.Directory
	source, file, told := filepath.Join(w.config.State, "a.tmpl"), filepath.Join(dir, "a"), filepath.Join(w.config.State, "told")
	must(t, os.WriteFile(source, []byte(`{{range members "cache"}}{{.Name}}={{.Slot}},{{.Healthy}},{{.Draining}};{{end}}`), 0o644))
	p := waiting("one", `trap 'echo reload:$(cat "$FILE") >>"$TOLD"' USR1; trap 'echo stop >>"$TOLD"; exit 0' INT; echo start:$(cat "$FILE") >>"$TOLD"; while :; do sleep 0.02; done`)
	p.Environment, p.ReloadSignal, p.StopSignal = map[string]string{"FILE": file, "TOLD": told}, "USR1", "INT"
	f.Programs, f.Templates = []config.Program{p}, []config.Template{{Template: source, Destination: file, Program: "one"}}
	w.start(t)
	one := host("cache1", "base", "1:11211", membership.Up)
	one.Attributes = map[string]string{farm.RoleAttribute: "cache", farm.SlotAttribute: "1"}
	two := host("cache2", "base", "2:11211", membership.Leaving)
	two.Attributes = map[string]string{farm.RoleAttribute: "cache", farm.SlotAttribute: "2", farm.HealthAttribute: farm.HealthUnwell}
	w.source <- members(7, one)
	lines(t, told, 1)
	w.source <- members(7, one, two)
	lines(t, told, 2)
	w.await(t, "all well", fine)
	w.end(t)
	want := "start:cache1=1,true,false; reload:cache1=1,true,false;cache2=2,false,true; stop"
	if got := strings.Join(lines(t, told, 3), " "); got != want {
		t.Errorf("the program was told %q, want %q", got, want)
	}
}

// TestProgramOfAKilledSidecar is kept by the next one if it is as it is to be, and else
// ended before another is started.
func TestProgramOfAKilledSidecar(t *testing.T) {
	w, f := newBaseWorld(t)
	pids := filepath.Join(w.config.State, "pids")
	f.Programs = []config.Program{waiting("one", `echo $$ >>`+pids+`; while :; do sleep 0.02; done`)}
	w.start(t)
	first := lines(t, pids, 1)[0]
	w.await(t, "its process", func(r report.Report) bool { return strconv.Itoa(r.PID) == first })
	record, err := os.ReadFile(filepath.Join(w.config.State, "program-one.json"))
	must(t, err)
	// A second role beside it is as the sidecar that comes after a killed one.
	again := *w
	again.start(t)
	again.await(t, "the same process", func(r report.Report) bool { return strconv.Itoa(r.PID) == first })
	if now, err := os.ReadFile(filepath.Join(w.config.State, "program-one.json")); err != nil || string(now) != string(record) {
		t.Errorf("the record is %s, %v", now, err)
	}
	other := again
	other.config.Base.Programs = []config.Program{waiting("one", `: other; echo $$ >>`+pids+`; while :; do sleep 0.02; done`)}
	must(t, func() error { w.stop(); return nil }())
	if err := <-w.done; err == nil {
		t.Error("sh was ended by a signal, and that is said to be clean")
	}
	again.stop()
	<-again.done
	other.start(t)
	second := lines(t, pids, 2)[1]
	other.await(t, "another process", func(r report.Report) bool { return strconv.Itoa(r.PID) == second })
	pid, err := strconv.Atoi(first)
	must(t, err)
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %s: %v", first, err)
	}
	other.stop()
	<-other.done
}

// TestHealth: what a check finds is in the reports, after as many failures as it takes.
func TestHealth(t *testing.T) {
	var sick atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(r http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			r.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w, f := newBaseWorld(t)
	every := service.Duration(10 * time.Millisecond)
	f.Health = []config.Health{
		{HTTP: server.URL + "/", Interval: every},
		{TCP: listener.Addr().String(), Interval: every},
		{Command: []string{"true"}, Interval: every},
	}
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1", membership.Up))
	w.await(t, "all well", fine)
	sick.Store(true)
	w.await(t, "the failure", func(r report.Report) bool {
		return r.State == report.Unhealthy && strings.Contains(r.Detail, "503")
	})
	sick.Store(false)
	w.await(t, "all well again", fine)
	must(t, listener.Close())
	w.await(t, "the refusal", func(r report.Report) bool {
		return r.State == report.Unhealthy && strings.Contains(r.Detail, "connection refused")
	})
	w.end(t)
}

// TestVerdict: one success is enough at first, and nothing changes by a single try later.
func TestVerdict(t *testing.T) {
	bad := errors.New("bad")
	var v verdict
	for i, step := range []struct {
		err  error
		want condition
	}{
		{bad, unknown},
		{bad, unknown},
		{nil, healthy},
		{bad, healthy},
		{bad, healthy},
		{nil, healthy},
		{bad, healthy},
		{bad, healthy},
		{bad, unwell},
		{nil, unwell},
		{bad, unwell},
		{nil, unwell},
		{nil, healthy},
	} {
		if v = v.next(step.err, 3, 2); v.state != step.want {
			t.Fatalf("after try %d (%v) it is %v, want %v", i+1, step.err, v.state, step.want)
		}
	}
	v = verdict{}
	for range 3 {
		v = v.next(bad, 3, 2)
	}
	if v.state != unwell || !errors.Is(v.why, bad) {
		t.Errorf("after three failures: %+v", v)
	}
}
