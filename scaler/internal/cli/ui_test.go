package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	farmregistry "farmhand/internal/registry"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
	farmpage "farmhand/scaler/internal/page"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/safekeep"
)

var shots = flag.String("ui.shots", "", "keep screenshots of the page in this directory")

// hostile is what a server might say of itself.
const hostile = `<img src=x onerror="document.title='owned'"><script>window.owned=1</script>&amp;'"` + "\u202e\x1b[31m"

// visible is how the page shows characters that would act.
var visible = strings.NewReplacer("\u202e", `\u202e`, "\x1b", `\u001b`).Replace

// seenFarm is a farm as a leader sees it: one server goes wrong, one comes.
func seenFarm(now time.Time) *daemon.View {
	at := func(n int) string { return fmt.Sprintf("10.0.0.%d:3306", n) }
	age, beat := 0.4, 300*time.Millisecond
	nodes := []daemon.NodeView{}
	node := func(name, role string, kind farmfile.RoleKind, n int) *daemon.NodeView {
		nodes = append(nodes, daemon.NodeView{
			Instance: provider.Instance{
				Name: name, RoleName: role, Kind: kind, Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), Launched: now.Add(-9 * time.Hour), State: provider.Running, PID: 1000 + n, Log: "/var/log/farmhand/" + name + ".log",
			}, Member: true, Age: &age,
		})
		return &nodes[len(nodes)-1]
	}
	for n, task := range []cluster.Task{cluster.Lead, cluster.Follow, cluster.Follow} {
		name := fmt.Sprintf("db%d", n+1)
		r := &cluster.Report{
			Name: name, Address: at(n + 1), Flavor: farm.MariaDB, Time: now, Epoch: 3, Serial: 9, Task: task, Done: true, Process: cluster.Running, PID: 4000 + n, Answers: true,
			Executed: "0-1-48213", SemiSync: n == 0, Open: 2, Lease: true,
		}
		if n > 0 {
			r.Beat, r.Received = &beat, "0-1-48213"
			r.Replication = &cluster.Replication{Source: at(1), Receiver: "Yes", Applier: "Yes", Acknowledges: true}
		}
		node(name, "db", farmfile.MySQLKind, n+1).Database = r
	}
	broken := nodes[2].Database.Replication
	broken.Applier, broken.ApplierError = "No", "error 1062: Duplicate entry "+hostile+" for key 'PRIMARY'"
	for n := range 2 {
		node(fmt.Sprintf("web%d", n+1), "web", farmfile.WebKind, 11+n).Report = &cluster.NodeReport{Well: true, Name: fmt.Sprintf("web%d", n+1), Time: now, State: "running", PID: 5000 + n, Epoch: 3, Serial: 9}
	}
	nodes[3].Drift = []string{"consistency: session → " + hostile}
	full := safekeep.Full{ID: "20261129T020000Z-4be1", Node: "db2", Began: now.Add(-3 * time.Hour), Ended: now.Add(-174 * time.Minute), Position: "0-1-40000", Stored: 734 << 20}
	return &daemon.View{
		Time: now, Term: 7, Leader: "scaler-1", Farm: "shop", Cluster: "db", Automatic: true, Lossless: true, Nodes: nodes,
		Assignment: &cluster.Assignment{
			Epoch: 3, Term: 7, Serial: 9, Primary: "db1", SemiSync: true, NextID: 5, Durable: true, Why: "db3 follows",
			Servers: []cluster.Server{
				{Name: "db1", Address: at(1), ID: 1, Task: cluster.Lead},
				{Name: "db2", Address: at(2), ID: 2, Task: cluster.Follow, Source: "db1", State: farm.Serving, Weight: 100, Acknowledges: true},
				{Name: "db3", Address: at(3), ID: 3, Task: cluster.Follow, Source: "db1", State: farm.Serving, Weight: 40, Acknowledges: true},
			},
		},
		Reasons: []string{"db1 answers, and its replicas acknowledge", "db3 does not apply: " + hostile},
		Roles: map[string]daemon.RoleView{
			"db":  {Kind: farmfile.MySQLKind, Min: 2, Max: 6, Wanted: 3, Live: 3, Reasons: []decide.Reason{{Kind: decide.Asked, Text: "queries asks for 3: 2,310 per server over 5 min, more than 1,200 and less than 2,500"}, {Kind: decide.Cooldown, Text: "the last change was 4 min ago; the next may come in 6 min"}}},
			"web": {Kind: farmfile.WebKind, Min: 2, Max: 4, Wanted: 3, Live: 2, Held: "a replica is broken", Reasons: []decide.Reason{{Kind: decide.Asked, Text: "cpu asks for 3: 71 % over 2 min, more than 65 %"}}},
		},
		Doing: map[string]string{"web3": "launching web"},
		Backups: &daemon.BackupsView{
			Store: "s3://backups/shop",
			Meter: safekeep.Meter{
				Primary:    safekeep.Loss{Known: true, Text: "nothing: commits wait for a replica, and all before are on one"},
				Everything: safekeep.Loss{Known: true, Seconds: 2.4, Transactions: 310, Text: "the commits of the last 2.4 s: all before are in the store"},
			},
			Stock: &safekeep.Assessment{At: now, Newest: 0, Fulls: []safekeep.Full{full}, Segments: 3400, SegmentBytes: 3 << 30, From: full.Ended, Until: now.Add(-3 * time.Second)},
			Fulls: 1, ProvenBackup: full.ID, Proven: &safekeep.Proof{At: now.Add(-2 * time.Hour), Until: now.Add(-2 * time.Hour), Node: "db2"},
			Reasons: []string{"the next full backup is due in 21 h"},
		},
	}
}

func seenState(now time.Time) *state {
	return &state{
		View: seenFarm(now), Leads: "scaler-1",
		Scalers: []controlShown{{"scaler-1", "10.0.0.91:2379", "leads", now.Add(-30 * time.Hour)}, {"scaler-2", "10.0.0.92:2379", "follows", now.Add(-29 * time.Hour)}, {"scaler-3", "10.0.0.93:2379", "silent", time.Time{}}},
		Operations: []farmregistry.Operation{{
			ID: "41", Kind: "scale", Args: map[string]string{"role": "web", "servers": "3"}, By: "operator " + hostile, Asked: now.Add(-20 * time.Second), State: farmregistry.OperationRunning,
			Steps: []farmregistry.OperationStep{{Time: now, Text: "web3 is launched"}},
		}},
		Decisions: []farmregistry.Entry{},
	}
}

func seenJournal(now time.Time) []farmregistry.Entry {
	entry := func(n int, ago time.Duration, kind, who, text string, fields map[string]string) farmregistry.Entry {
		return farmregistry.Entry{Revision: int64(1000 + n), Time: now.Add(-ago), Kind: kind, Who: who, Text: text, Fields: fields}
	}
	return []farmregistry.Entry{
		entry(1, 9*time.Hour, farmregistry.Decision, "scaler-1", "db1 is launched: the farm file wants at least 2", map[string]string{daemon.ActionField: daemon.LaunchAction, "role": "db", "instance": "db1"}),
		entry(2, 8*time.Hour, farmregistry.Decision, "scaler-1", "db4 is launched: queries asks for 4", map[string]string{daemon.ActionField: daemon.LaunchAction, "role": "db", "instance": "db4"}),
		entry(3, 6*time.Hour, farmregistry.Decision, "scaler-1", "db4 is terminated: 3 are enough", map[string]string{daemon.ActionField: daemon.TerminateAction, "instance": "db4"}),
		entry(4, 3*time.Hour, "backup-complete", "scaler-1", "db2 has taken the full backup 20261129T020000Z-4be1", map[string]string{"host": "db2"}),
		entry(5, 8*time.Minute, farmregistry.Decision, "scaler-1", "db3 serves 40 of 100", map[string]string{farmregistry.Minor: "true"}),
		entry(6, 90*time.Second, "replication-broken", "db3", "db3 does not replicate any more: "+hostile, map[string]string{"host": "db3", "error": hostile}),
		entry(7, 25*time.Second, "operation-asked", "operator anna@desk", "scale web 3", map[string]string{"operation": "41"}),
		entry(8, 20*time.Second, farmregistry.Decision, "scaler-1", "web3 is launched: operation 41 asks for 3", map[string]string{daemon.ActionField: daemon.LaunchAction, "role": "web", "instance": "web3"}),
	}
}

// told is a source whose farm a test says.
type told struct {
	farms chan func(func(farmpage.Farm, error) error) error
}

func (s told) source(now time.Time, journal []farmregistry.Entry) farmpage.Source {
	return farmpage.Source{
		Farm: func(ctx context.Context, tell func(farmpage.Farm, error) error) error {
			for {
				select {
				case do := <-s.farms:
					if err := do(tell); err != nil {
						return err
					}
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		},
		Journal: func(ctx context.Context, last int, tell func(farmregistry.Entry) error, _ func(error)) error {
			for _, e := range journal {
				if err := tell(e); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return context.Cause(ctx)
		},
		Reports: func(ctx context.Context, tell func(farmregistry.ReportsView) error) error {
			for n := 0; ; n++ {
				v := farmregistry.ReportsView{}
				say := func(node, name string, data any) {
					text, err := json.Marshal(data)
					if err != nil {
						panic(err)
					}
					v.Changed = append(v.Changed, farmregistry.Reported{Node: node, Name: name, Data: text})
				}
				beat := time.Duration(200+100*math.Sin(float64(n)/9)) * time.Millisecond
				for i := range 3 {
					r := &cluster.Report{Name: fmt.Sprintf("db%d", i+1), Task: cluster.Follow, Answers: true, Beat: &beat, Load: map[string]float64{
						cluster.LoadQueries: 900 + 300*float64(i) + 200*math.Sin(float64(n+10*i)/7), cluster.LoadCPUShare: .4 + .2*math.Sin(float64(n+9*i)/11),
					}}
					if i == 0 {
						r.Task = cluster.Lead
					}
					say(r.Name, cluster.ReportName, r)
				}
				for i := range 2 {
					say(fmt.Sprintf("web%d", i+1), cluster.NodeReportName, &cluster.NodeReport{Load: map[string]float64{
						cluster.LoadStatements: 1200, cluster.LoadCommandTime: 2.4 + math.Sin(float64(n+7*i)/8), cluster.LoadWaitingClients: float64(n % 3), cluster.LoadCPUShare: .7,
					}})
				}
				if err := tell(v); err != nil {
					return err
				}
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		},
	}
}

// shownPage is the page of a farm in a browser.
type shownPage struct {
	ctx    context.Context
	told   told
	mu     sync.Mutex
	errors []string // that the browser's console had
}

func openPage(t *testing.T, now time.Time, journal []farmregistry.Entry) *shownPage {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is missing: apt-get install chromium")
	}
	s := &shownPage{told: told{make(chan func(func(farmpage.Farm, error) error) error)}}
	ctx, stop := context.WithCancel(context.Background())
	p, err := farmpage.New(ctx, "127.0.0.1:0", s.told.source(now, journal), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	browser, end := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-component-update", true), chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))...)
	tab, endTab := chromedp.NewContext(browser)
	limited, endTime := context.WithTimeout(tab, 2*time.Minute)
	t.Cleanup(func() {
		_ = chromedp.Cancel(tab) // waits for the browser's end
		endTime()
		endTab()
		end()
	})
	s.ctx = limited
	chromedp.ListenTarget(limited, func(ev any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			s.errors = append(s.errors, e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError {
				s.errors = append(s.errors, fmt.Sprint(e.Args))
			}
		case *page.EventJavascriptDialogOpening:
			s.errors = append(s.errors, "a dialog: "+e.Message)
		}
	})
	s.run(t, chromedp.Navigate(p.URL()), chromedp.WaitReady("#name"))
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, text := range s.errors {
			t.Errorf("the browser complains: %s", text)
		}
	})
	return s
}

func (s *shownPage) run(t *testing.T, actions ...chromedp.Action) {
	t.Helper()
	if err := chromedp.Run(s.ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// tell has the source tell how the farm is.
func (s *shownPage) tell(f any, live map[string]int, lost error) {
	s.told.farms <- func(tell func(farmpage.Farm, error) error) error {
		return tell(farmpage.Farm{Shown: f, Live: live}, lost)
	}
}

// is waits until an expression of JavaScript is true.
func (s *shownPage) is(t *testing.T, expression string) {
	t.Helper()
	if err := chromedp.Run(s.ctx, chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(20*time.Second))); err != nil {
		var text string
		_ = chromedp.Run(s.ctx, chromedp.Text("body", &text))
		t.Fatalf("%s: %v; the page says:\n%s", expression, err, text)
	}
}

func (s *shownPage) get(t *testing.T, expression string, into any) {
	t.Helper()
	s.run(t, chromedp.Evaluate(expression, into))
}

// screen sets how wide the page is and whether it is dark.
func screen(width int64, dark bool) chromedp.Action {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	return chromedp.Tasks{
		chromedp.EmulateViewport(width, 900),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}),
	}
}

func (s *shownPage) shoot(t *testing.T, name string) {
	t.Helper()
	if *shots == "" {
		return
	}
	var png []byte
	s.run(t, chromedp.Evaluate(`scrollTo(0, 0)`, nil), chromedp.FullScreenshot(&png, 100))
	if err := os.WriteFile(filepath.Join(*shots, name+".png"), png, 0o644); err != nil {
		t.Error(err)
	}
}

func TestThePageShowsWhatStatusSays(t *testing.T) {
	now := time.Now()
	s := openPage(t, now, seenJournal(now))
	seen := seenState(now)
	f := shown(seen, seenJournal(now), "--control /var/lib/farmhand/control", map[string]float64{"db": 0.4, "web": 0.11}, now)
	s.tell(f, map[string]int{"db": 3, "web": 2}, nil)
	s.is(t, `document.querySelectorAll(".server").length === 6 && document.querySelectorAll("#entries > li").length === 8 && document.querySelectorAll("#plots .legend li").length > 5`)

	var text string
	s.get(t, `document.body.textContent`, &text)
	for _, row := range f.Rows {
		for _, want := range []string{row.Name, row.Address, row.Wrong, row.Detail} {
			if !strings.Contains(text, visible(want)) {
				t.Errorf("%s: the page lacks %q", row.Name, want)
			}
		}
	}
	wants := []string{f.Commits, "web3", "launching", "operator " + hostile, "web3 is launched", "0-1-48213", "all before are in the store", "queries asks for 3", "scaler-3", "restore proven"}
	for _, p := range f.Problems {
		wants = append(wants, p.Wrong, p.Cure)
	}
	for _, e := range seenJournal(now) {
		wants = append(wants, e.Text)
	}
	for _, want := range wants {
		if !strings.Contains(text, visible(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
	// 9 h of three, 2 h of the one that is gone.
	if !strings.Contains(text, "11.60") {
		t.Errorf("the cost of db is not 29 h at 0.40: %s", text)
	}
	// What servers say is text.
	if strings.ContainsAny(text, "\u202e\x1b") {
		t.Error("characters act that a server has said")
	}
	s.is(t, `window.owned === undefined && !document.title.includes("owned") && document.querySelectorAll("main img, main script").length === 0`)

	// The focus goes from top to bottom, the way to the content first.
	var order []string
	for range 14 {
		var at string
		s.run(t, chromedp.KeyEvent("\t"), chromedp.Evaluate(`(() => { const a = document.activeElement; return a.className || a.getAttribute("href") || a.id; })()`, &at))
		order = append(order, at)
	}
	if got := strings.Join(order, " "); !strings.HasPrefix(got, "skip #servers #cluster #load #journal #reasons #operations #backups #cost card plot") {
		t.Errorf("the order of the focus is %s", got)
	}

	// An entry unfolds to what is around it, and the filter leaves what it should.
	s.run(t, chromedp.Focus("#entries > li:first-child summary"), chromedp.KeyEvent("\r"))
	s.is(t, `document.querySelector("#entries .more")?.textContent.includes("operation 41 asks") || document.querySelector("#entries .more")?.textContent.includes("scale web 3")`)
	s.run(t, chromedp.SetValue("#kinds", "decision"), chromedp.Evaluate(`document.getElementById("kinds").dispatchEvent(new Event("input"))`, nil))
	s.is(t, `[...document.querySelectorAll("#entries > li")].filter((l) => !l.hidden).length === 4 && document.getElementById("count").textContent === "4 of 8 entries"`)
	s.run(t, chromedp.SendKeys("#search", "db4"))
	s.is(t, `[...document.querySelectorAll("#entries > li")].filter((l) => !l.hidden).length === 2`)
	// It is still unfolded and focused after the farm was told again.
	s.tell(f, nil, nil)
	s.is(t, `document.querySelector("#entries details[open]") !== null && document.activeElement.id === "search"`)

	if *shots != "" {
		s.run(t, chromedp.Evaluate(`document.getElementById("search").value = ""; document.getElementById("kinds").value = "all"; document.getElementById("kinds").dispatchEvent(new Event("input")); document.activeElement.blur()`, nil))
	}
	for _, width := range []int64{360, 768, 1280} {
		for _, dark := range []bool{false, true} {
			s.run(t, screen(width, dark))
			name := fmt.Sprintf("%d-%v", width, map[bool]string{true: "dark", false: "light"}[dark])
			var wide float64
			s.get(t, `document.documentElement.scrollWidth - document.documentElement.clientWidth`, &wide)
			if wide > 0 {
				t.Errorf("%s: the page is %v pixels too wide", name, wide)
			}
			var faults []string
			s.get(t, contrastFaults, &faults)
			for _, fault := range faults {
				t.Errorf("%s: %s", name, fault)
			}
			s.shoot(t, name)
		}
	}
	var faults []string
	s.get(t, roleFaults, &faults)
	for _, fault := range faults {
		t.Error(fault)
	}
}

// contrastFaults finds text that does not stand out from its ground, by WCAG's formula:
// 4.5 for text, 3 for marks.
const contrastFaults = `(() => {
	const rgb = (c) => { const m = c.match(/[\d.]+/g).map(Number); return { c: m.slice(0, 3), a: m[3] ?? 1 }; };
	const lum = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const ground = (e) => { for (; e; e = e.parentElement) { const g = rgb(getComputedStyle(e).backgroundColor); if (g.a === 1) return g.c; } return [255, 255, 255]; };
	const faults = new Set();
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || e.closest("noscript, script, [hidden]") || !e.getClientRects().length) continue;
		const style = getComputedStyle(e), color = rgb(e instanceof SVGElement ? style.fill : style.color).c;
		const [a, b] = [lum(color), lum(ground(e))].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
		if (ratio < 4.5) faults.add("contrast " + ratio.toFixed(2) + " of ." + e.getAttribute("class") + " " + walk.currentNode.data.trim().slice(0, 30));
	}
	for (const line of document.querySelectorAll(".plot .line, .key, .server")) {
		const style = getComputedStyle(line), [a, b] = [lum(rgb(line.matches(".line") ? style.stroke : line.matches(".key") ? style.borderTopColor : style.borderLeftColor).c), lum(ground(line.parentElement))].sort((x, y) => y - x);
		if ((a + 0.05) / (b + 0.05) < 3) faults.add("contrast " + ((a + 0.05) / (b + 0.05)).toFixed(2) + " of " + line.getAttribute("class"));
	}
	return [...faults];
})()`

// roleFaults finds what a screen reader could not name.
const roleFaults = `(() => {
	const faults = [];
	const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
	if (new Set(ids).size !== ids.length) faults.push("an id is there twice");
	for (const e of document.querySelectorAll("[aria-labelledby]")) if (!document.getElementById(e.getAttribute("aria-labelledby"))) faults.push("no label " + e.getAttribute("aria-labelledby"));
	for (const e of document.querySelectorAll("input, select")) if (!e.labels?.length) faults.push("no label of " + e.id);
	for (const e of document.querySelectorAll("svg:not([aria-hidden]), progress, [tabindex='0'], nav, section")) if (!e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby")) faults.push("no name of " + e.nodeName + " " + e.getAttribute("class"));
	for (const e of document.querySelectorAll("th")) if (!e.scope) faults.push("a head of nothing: " + e.textContent);
	for (const e of document.querySelectorAll("img")) if (e.alt === null) faults.push("an image without a text");
	if (document.querySelectorAll("h1").length !== 1 || !document.documentElement.lang) faults.push("no heading or language");
	let level = 1;
	for (const e of document.querySelectorAll("h1, h2, h3")) { const n = Number(e.nodeName[1]); if (n > level + 1 && !e.closest("#overview")) faults.push("a heading is left out before " + e.textContent); level = n; }
	for (const a of document.querySelectorAll("nav a, .skip")) if (!document.querySelector(a.getAttribute("href"))) faults.push("nowhere: " + a.getAttribute("href"));
	return faults;
})()`

func TestThePageOfAFarmOfWhichNothingIsKnown(t *testing.T) {
	now := time.Now()
	s := openPage(t, now, nil)
	s.run(t, screen(768, false))
	_, err := gather(t.Context(), nil, nil)
	s.tell(nil, nil, err)
	s.is(t, `document.getElementById("alerts").textContent.includes("no scaler has ever led this farm") && document.getElementById("live-text").textContent === "lost"`)
	s.shoot(t, "never-led")

	// A farm without anything.
	empty := &state{View: &daemon.View{Time: now, Farm: "new", Nodes: []daemon.NodeView{}, Roles: map[string]daemon.RoleView{}}, Scalers: []controlShown{}, Operations: []farmregistry.Operation{}}
	s.tell(shown(empty, nil, "--local farm", nil, now), nil, nil)
	s.is(t, `document.getElementById("name").textContent === "new" && document.getElementById("leader") === null && document.getElementById("overview").textContent.includes("nobody") && document.getElementById("alerts").textContent === ""`)
	s.shoot(t, "empty")

	// The registry is lost, with what was seen before left there, marked as old.
	seen := seenState(now)
	seen.Paused = "maintenance " + hostile
	s.tell(shown(seen, nil, "--local farm", nil, now), nil, nil)
	s.is(t, `document.querySelectorAll(".server").length === 6 && document.getElementById("alerts").textContent.includes("paused: maintenance")`)
	s.tell(nil, nil, fmt.Errorf("%w: no control node answers %s", farmregistry.ErrUnavailable, hostile))
	s.is(t, `document.getElementById("alerts").textContent.includes("How the farm is now is not known") && document.body.classList.contains("stale") && document.querySelectorAll(".server").length === 6`)
	s.shoot(t, "lost")

	// Nobody leads: what was seen is old, and no server counts as well.
	seen.Old, seen.Leads = 42, ""
	s.tell(shown(seen, nil, "--local farm", nil, now), nil, nil)
	s.is(t, `document.getElementById("alerts").textContent.includes("seen 42 s ago") && document.querySelectorAll(".server.good").length === 0 && document.getElementById("health").textContent.includes("nobody knows")`)
	s.is(t, `window.owned === undefined && document.querySelectorAll("main img").length === 0`)
}
