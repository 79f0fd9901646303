package page

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/provider"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet is a source that tells nothing by itself.
func quiet(farms <-chan Farm) Source {
	end := func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return Source{
		Farm: func(ctx context.Context, tell func(Farm, error) error) error {
			for {
				select {
				case f := <-farms:
					var lost error
					if f.Shown == nil {
						lost = errors.New("the registry is lost")
					}
					if err := tell(f, lost); err != nil {
						return err
					}
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		},
		Journal: func(ctx context.Context, _ int, tell func(registry.Entry) error, _ func(error)) error {
			for n := range journalKept + 5 {
				if err := tell(registry.Entry{Revision: int64(n), Text: "one\ntwo"}); err != nil {
					return err
				}
			}
			return end(ctx)
		},
		Reports: func(ctx context.Context, _ func(registry.ReportsView) error) error { return end(ctx) },
	}
}

func start(t *testing.T) (p *Page, farms chan Farm) {
	t.Helper()
	farms = make(chan Farm)
	ctx, stop := context.WithCancel(context.Background())
	p, err := New(ctx, "127.0.0.1:0", quiet(farms), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) && err != nil {
			t.Error(err)
		}
	})
	return p, farms
}

// ask sends a request as no browser would follow it.
func (p *Page) ask(t *testing.T, method, path string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.listener.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // it was read
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// in is who has shown the token.
func (p *Page) in(r *http.Request) {
	r.AddCookie(&http.Cookie{Name: p.guard.cookie, Value: p.guard.session})
}

func TestOnlyWhoHasTheTokenIsLetIn(t *testing.T) {
	p, _ := start(t)
	for _, path := range []string{"/", "/live", "/app.js", "/?token=", "/?token=" + strings.Repeat("A", 26), "/live?token=" + p.guard.token} {
		response, body := p.ask(t, http.MethodGet, path, nil)
		if response.StatusCode != http.StatusForbidden || strings.Contains(body, "<") || !strings.Contains(body, "scaler ui") {
			t.Errorf("%s: %s, %s", path, response.Status, body)
		}
	}
	for _, value := range []string{"", p.guard.token, p.guard.session[1:]} {
		if response, _ := p.ask(t, http.MethodGet, "/", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: p.guard.cookie, Value: value}) }); response.StatusCode != http.StatusForbidden {
			t.Errorf("cookie %q: %s", value, response.Status)
		}
	}
	response, _ := p.ask(t, http.MethodGet, "/?token="+p.guard.token, nil)
	cookies := response.Cookies()
	if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != "/" || len(cookies) != 1 {
		t.Fatalf("with the token: %s, %v", response.Status, response.Header)
	}
	if c := cookies[0]; !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Value == p.guard.token {
		t.Errorf("the cookie is %v", c)
	}
	response, body := p.ask(t, http.MethodGet, "/", func(r *http.Request) { r.AddCookie(cookies[0]) })
	if response.StatusCode != http.StatusOK || !strings.Contains(body, "<main") {
		t.Errorf("with the cookie: %s, %s", response.Status, body)
	}
	for header, want := range map[string]string{"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
		if !strings.Contains(response.Header.Get(header), want) {
			t.Errorf("%s: %q", header, response.Header.Get(header))
		}
	}
}

// TestAnotherSitesNameForThisMachine: a page from elsewhere can have its name point
// here, and the browser then sends what it has for that name.
func TestAnotherSitesNameForThisMachine(t *testing.T) {
	p, _ := start(t)
	for host, want := range map[string]int{
		"evil.example": http.StatusMisdirectedRequest, "localhost.evil.example:80": http.StatusMisdirectedRequest, "10.0.0.1": http.StatusMisdirectedRequest,
		"127.0.0.1.evil.example": http.StatusMisdirectedRequest, "": http.StatusMisdirectedRequest,
		"localhost:8090": http.StatusOK, "127.0.0.1": http.StatusOK, "[::1]:8090": http.StatusOK, "LOCALHOST": http.StatusOK,
	} {
		if host == "" {
			if isLoopback(host) {
				t.Error("no host is loopback")
			}
			continue
		}
		response, _ := p.ask(t, http.MethodGet, "/", func(r *http.Request) { p.in(r); r.Host = host })
		if response.StatusCode != want {
			t.Errorf("%s: %s", host, response.Status)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		if response, _ := p.ask(t, method, "/", p.in); response.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %s", method, response.Status)
		}
	}
}

func TestItListensOnLoopbackOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "10.0.0.1:80", "[::]:0", ":80", "localhost:80", "192.168.1.1:1"} {
		if p, err := New(t.Context(), address, Source{}, zap.NewNop()); err == nil {
			t.Errorf("%s: %v", address, p.listener.Close())
		}
	}
	p, err := New(t.Context(), "127.0.0.2:0", Source{}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.listener.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := New(t.Context(), p.listener.Addr().String(), Source{}, zap.NewNop()); !errors.Is(err, net.ErrClosed) && err == nil {
		t.Error("an address was taken twice")
	}
}

// TestNothingComesFromElsewhere: the page's files name no other host.
func TestNothingComesFromElsewhere(t *testing.T) {
	files, err := embedded.ReadDir("assets")
	if err != nil || len(files) < 6 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		data, err := os.ReadFile("assets/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(data), "http://www.w3.org/2000/svg", "") // a name, not an address
		for _, wrong := range []string{"http:", "https:", "//cdn", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="} {
			if strings.Contains(text, wrong) {
				t.Errorf("%s has %q", f.Name(), wrong)
			}
		}
	}
}

// stream is a browser's.
type stream struct {
	t    *testing.T
	scan *bufio.Scanner
	end  func()
	kept map[string][]string // data of messages that came before those that were asked for
}

func (p *Page) stream(t *testing.T) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.listener.Addr().String()+"/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	p.in(r)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		cancel()
		_ = response.Body.Close()
		t.Fatalf("%s", response.Status)
	}
	s := &stream{t, bufio.NewScanner(response.Body), func() {
		cancel()
		_ = response.Body.Close()
	}, map[string][]string{}}
	s.scan.Buffer(nil, 4<<20)
	return s
}

// next returns the data of the next message of a kind, whatever comes in between.
func (s *stream) next(event string) string {
	s.t.Helper()
	if kept := s.kept[event]; len(kept) > 0 {
		s.kept[event] = kept[1:]
		return kept[0]
	}
	for s.scan.Scan() {
		kind, ok := strings.CutPrefix(s.scan.Text(), "event: ")
		if !ok {
			continue
		}
		s.scan.Scan()
		data := strings.TrimPrefix(s.scan.Text(), "data: ")
		if kind == event {
			return data
		}
		s.kept[kind] = append(s.kept[kind], data)
	}
	s.t.Fatalf("no %s: %v", event, s.scan.Err())
	return ""
}

func TestABrowserGetsWhatThereIsAndThenChanges(t *testing.T) {
	p, farms := start(t)
	farms <- Farm{Shown: map[string]string{"farm": "shop"}, Live: map[string]int{"db": 3}}
	s := p.stream(t)
	defer s.end()
	if got := s.next("farm"); got != `{"farm":{"farm":"shop"}}` {
		t.Error(got)
	}
	var entries []registry.Entry
	for last := int64(0); last != journalKept+4; last = entries[len(entries)-1].Revision {
		if err := json.Unmarshal([]byte(s.next("journal")), &entries); err != nil || len(entries) == 0 {
			t.Fatal(err)
		}
	}
	if entries[len(entries)-1].Text != "one\ntwo" {
		t.Errorf("%+v", entries[len(entries)-1])
	}
	// Lost, what was seen stays there and is said to be old.
	farms <- Farm{}
	if got := s.next("farm"); got != `{"lost":"the registry is lost","farm":{"farm":"shop"}}` {
		t.Error(got)
	}
	farms <- Farm{Shown: "back"}
	if got := s.next("farm"); got != `{"farm":"back"}` {
		t.Error(got)
	}
	// Another browser gets all of it, the journal no longer than is kept.
	other := p.stream(t)
	defer other.end()
	if got := other.next("farm"); got != `{"farm":"back"}` {
		t.Error(got)
	}
	if err := json.Unmarshal([]byte(other.next("journal")), &entries); err != nil || len(entries) != journalKept {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

func TestBrowsersAreNotWithoutNumber(t *testing.T) {
	p, farms := start(t)
	farms <- Farm{Shown: "x"}
	var open []*stream
	for range maxStreams {
		s := p.stream(t)
		s.next("farm")
		open = append(open, s)
	}
	if response, _ := p.ask(t, http.MethodGet, "/live", p.in); response.StatusCode != http.StatusTooManyRequests {
		t.Errorf("one too many: %s", response.Status)
	}
	for _, s := range open {
		s.end()
	}
}

func TestSamples(t *testing.T) {
	var s samples
	now := time.Unix(1_700_000_000, 0)
	beat := 1500 * time.Millisecond
	hear := func(node, name string, report any) {
		data, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		s.hear(registry.Reported{Node: node, Name: name, Data: data}, now)
	}
	line := func(id, name string) string {
		data, err := json.Marshal(s.since(0).Lines[id][name])
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	db := &cluster.Report{Name: "db2", Task: cluster.Follow, Answers: true, Beat: &beat, Load: map[string]float64{cluster.LoadQueries: 1234.567, cluster.LoadCPUShare: 0.5}}
	hear("db2", "mysql", db)
	s.hear(registry.Reported{Node: "db2", Name: "backup", Data: []byte(`{"name":"db2"}`)}, now)
	s.hear(registry.Reported{Node: "db3", Name: "mysql", Data: []byte(`not JSON`)}, now)
	s.take(now, map[string]int{"db": 2})
	hear("web1", cluster.NodeReportName, &cluster.NodeReport{Load: map[string]float64{cluster.LoadStatements: 200, cluster.LoadCommandTime: 0.5, cluster.LoadWaitingClients: 0}})
	db.Answers = false // its numbers are of its last answer
	hear("db2", "mysql", db)
	s.take(now.Add(2*time.Second), map[string]int{"db": 2})
	hear("web1", cluster.NodeReportName, &cluster.NodeReport{Load: map[string]float64{cluster.LoadStatements: 0, cluster.LoadCommandTime: 0}}) // no command took any time
	s.take(now.Add(4*time.Second), map[string]int{"db": 3})
	s.take(now.Add(20*time.Second), map[string]int{"db": 3}) // nobody has said anything for long
	for _, c := range []struct{ id, name, want string }{
		{"queries", "db2", "[1235,null,null,null]"},
		{"lag", "db2", "[1.5,1.5,1.5,null]"},
		{"cpu", "db2", "[0.5,null,null,null]"},
		{"latency", "web1", "[null,0.0025,null,null]"},
		{"queue", "web1", "[null,0,null,null]"},
		{"instances", "db", "[2,2,3,3]"},
		{"queries", "db3", "null"},
	} {
		if got := line(c.id, c.name); got != c.want {
			t.Errorf("%s of %s: %s, expected %s", c.id, c.name, got, c.want)
		}
	}
	// Who has some gets the rest.
	if got := s.since(3); got.Anew || len(got.Times) != 1 || len(got.Lines["instances"]["db"]) != 1 {
		t.Errorf("%+v", got)
	}
	// The ring is full, and what nobody reports any more is let go.
	for n := range sampleKept + 10 {
		s.take(now.Add(time.Duration(30+2*n)*time.Second), map[string]int{"db": 3})
	}
	if got := s.since(1); !got.Anew || len(got.Times) != sampleKept || len(got.Lines["instances"]["db"]) != sampleKept || got.Lines["queries"]["db2"] != nil {
		t.Errorf("%v, %d times, %d values", got.Anew, len(got.Times), len(got.Lines["instances"]["db"]))
	}
	// Nodes without number do not fill the memory.
	for n := range maxSeries + 50 {
		s.hear(registry.Reported{Node: fmt.Sprintf("n%d", n), Name: "web", Data: []byte(`{"load":{"cpu_share":0.5}}`)}, now)
	}
	s.take(now, nil)
	if n := len(s.lines["cpu"]); n != maxSeries {
		t.Errorf("%d lines", n)
	}
}

func TestCost(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	at := func(hours float64) time.Time { return now.Add(-time.Duration(hours * float64(time.Hour))) }
	entry := func(hours float64, action, role, name string) registry.Entry {
		return registry.Entry{Time: at(hours), Kind: registry.Decision, Fields: map[string]string{daemon.ActionField: action, "role": role, "instance": name}}
	}
	journal := []registry.Entry{
		{Time: at(100), Kind: "leader"},
		entry(90, daemon.TerminateAction, "", "web7"), // its launch is forgotten
		entry(50, daemon.LaunchAction, "db", "db1"),
		entry(40, daemon.LaunchAction, "db", "db2"), entry(39, daemon.LaunchAction, "db", "db2"), // a leader began it, the next went on
		entry(30, daemon.TerminateAction, "", "db2"),
		entry(20, daemon.LaunchAction, "db", "db3"), // it never came
		{Time: at(10), Kind: registry.Decision, Node: true, Fields: map[string]string{daemon.ActionField: daemon.TerminateAction, "instance": "db1"}},
	}
	v := &daemon.View{
		Nodes: []daemon.NodeView{{Instance: provider.Instance{Name: "db1", RoleName: "db", Launched: at(50)}}, {Instance: provider.Instance{Name: "x", RoleName: "old"}}},
		Roles: map[string]daemon.RoleView{"db": {Live: 1, Wanted: 2, Min: 1, Max: 4}, "web": {Min: 1, Max: 2}},
	}
	c := Count(journal, v, map[string]float64{"db": 0.5}, now)
	want := map[string]RoleCost{"db": {Hours: 60, Day: 48, Least: 24, Most: 96}, "web": {Hours: 10, Day: 0, Least: 24, Most: 48}}
	if len(c.Roles) != 2 || !c.Since.Equal(at(100)) {
		t.Fatalf("%+v", c)
	}
	for _, r := range c.Roles {
		w := want[r.Role]
		if math.Abs(r.Hours-w.Hours) > 1e-9 || r.Day != w.Day || r.Least != w.Least || r.Most != w.Most {
			t.Errorf("%s: %+v, expected %+v", r.Role, r, w)
		}
		if (r.Price != nil) != (r.Role == "db") {
			t.Errorf("%s has the price %v", r.Role, r.Price)
		}
	}
}
