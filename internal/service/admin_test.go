package service

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
)

func runAdmin(t *testing.T, o AdminOptions) *Admin {
	t.Helper()
	o.Config.Address = "127.0.0.1:0"
	o.Log = zap.NewNop()
	o.Build = Build{Program: "proxy", Version: "v1", Go: "go1"}
	o.Metrics = NewRegistry(o.Build)
	a, err := NewAdmin(t.Context(), o)
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := soon(t, done, "end of Run"); err != nil {
			t.Errorf("Run: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return a
}

func ask(t *testing.T, method, url, body string, header ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	must(t, err)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(request)
	must(t, err)
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	must(t, err)
	return answer.StatusCode, string(content)
}

func TestAdmin(t *testing.T) {
	var ready atomic.Bool
	level := zap.NewAtomicLevel()
	a := runAdmin(t, AdminOptions{
		Level: level,
		Ready: func() []Condition {
			return []Condition{{Name: "topology", OK: true}, {Name: "primary", OK: ready.Load(), Detail: "db1 does not answer"}}
		},
	})
	url := "http://" + a.Addr().String()

	for path, want := range map[string]string{
		"/":        "proxy v1, go1\n\n/metrics\n/healthz\n/readyz\n/loglevel\n",
		"/healthz": "ok\n",
	} {
		if status, body := ask(t, "GET", url+path, ""); status != 200 || body != want {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	_, metrics := ask(t, "GET", url+"/metrics", "")
	for _, want := range []string{
		"\ngo_goroutines ", "\nprocess_open_fds ",
		"\nfarmhand_build_info{goversion=\"go1\",program=\"proxy\",revision=\"\",version=\"v1\"} 1\n",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %q", want)
		}
	}

	for _, is := range []bool{false, true} {
		ready.Store(is)
		status, body := ask(t, "GET", url+"/readyz", "")
		var answer struct {
			Ready      bool
			Conditions []Condition
		}
		must(t, json.Unmarshal([]byte(body), &answer))
		if want := map[bool]int{false: 503, true: 200}[is]; status != want || answer.Ready != is || len(answer.Conditions) != 2 ||
			answer.Conditions[1] != (Condition{"primary", is, "db1 does not answer"}) {
			t.Errorf("ready %v: %d %s", is, status, body)
		}
	}

	if status, body := ask(t, "PUT", url+"/loglevel", `{"level":"debug"}`); status != 200 || level.Level() != zap.DebugLevel {
		t.Errorf("loglevel: %d %s, level %s", status, body, level)
	}
	if _, body := ask(t, "GET", url+"/loglevel", ""); strings.TrimSpace(body) != `{"level":"debug"}` {
		t.Errorf("loglevel is %s", body)
	}
	if status, _ := ask(t, "PUT", url+"/loglevel", `{"level":"error"}`, "Sec-Fetch-Site", "cross-site"); status != 403 || level.Level() != zap.DebugLevel {
		t.Errorf("a page of another site changed the log level: %d", status)
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/nothing"} {
		if status, _ := ask(t, "GET", url+path, ""); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
}

func TestAdminPprof(t *testing.T) {
	a := runAdmin(t, AdminOptions{Config: AdminConfig{Pprof: true}})
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline"} {
		if status, body := ask(t, "GET", "http://"+a.Addr().String()+path, ""); status != 200 || body == "" {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
}

func TestAdminKeepsStrangersFromControl(t *testing.T) {
	level := zap.NewAtomicLevel()
	build := Build{Program: "proxy"}
	handler := AdminOptions{Config: AdminConfig{Pprof: true}, Build: build, Metrics: NewRegistry(build), Level: level, Log: zap.NewNop()}.handler()
	for _, test := range []struct {
		method, path, peer string
		want               int
	}{
		{"GET", "/healthz", "192.0.2.1:5", 200},
		{"GET", "/metrics", "192.0.2.1:5", 200},
		{"PUT", "/loglevel", "192.0.2.1:5", 403},
		{"PUT", "/loglevel", "[2001:db8::1]:5", 403},
		{"GET", "/debug/pprof/cmdline", "192.0.2.1:5", 403},
		{"PUT", "/loglevel", "127.0.0.9:5", 200},
		{"PUT", "/loglevel", "[::ffff:127.0.0.1]:5", 200},
		{"GET", "/debug/pprof/cmdline", "[::1]:5", 200},
	} {
		request := httptest.NewRequest(test.method, test.path, strings.NewReader(`{"level":"warn"}`))
		request.RemoteAddr = test.peer
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code != test.want {
			t.Errorf("%s %s from %s: %d; want %d", test.method, test.path, test.peer, answer.Code, test.want)
		}
	}
}

func TestAdminSaysThatThePortIsTaken(t *testing.T) {
	a := runAdmin(t, AdminOptions{})
	o := AdminOptions{Config: AdminConfig{Address: a.Addr().String()}, Log: zap.NewNop()}
	if _, err := NewAdmin(t.Context(), o); err == nil || !strings.Contains(err.Error(), "admin endpoint: listen tcp "+a.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestAdminOff(t *testing.T) {
	a, err := NewAdmin(t.Context(), AdminOptions{})
	if err != nil || a != nil || a.Addr() != nil {
		t.Fatalf("%v, %v", a, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := a.Run(ctx); err != nil {
		t.Error(err)
	}
}
