package semantics

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// pair is one client of the server and one of the proxy, who say the same.
type pair struct {
	t       testing.TB
	w       *world
	direct  *client
	proxied *client
	last    string // server of the last step
	log     []entry
	before  []string // the steps so far
}

// pair logs in directly and at the proxy.
func (w *world) pair(t testing.TB, l login) *pair {
	t.Helper()
	p := &pair{t: t, w: w, direct: connect(t, w.direct.Addr(), l), proxied: connect(t, w.proxy.TCP, l)}
	if p.direct.caps != p.proxied.caps {
		t.Fatalf("the server takes capabilities %x, the proxy %x", uint64(p.direct.caps), uint64(p.proxied.caps))
	}
	return p
}

// app is a pair of the application's sessions.
func (w *world) app(t testing.TB) *pair {
	t.Helper()
	return w.pair(t, app)
}

// run runs a script: on each line who must serve a statement, and the
// statement. Both answers must be equal, and equal warnings must be behind them.
// Who:
//
//	primary, replica   a server of that role
//	both               a replica, whose error made the primary run it again
//	same               the server of the step before
//	other              another one than of the step before
//	any                nobody looks
//	proxy              no server sees it
//	settle             (no statement) the replicas catch up
//
// Behind it may stand ! (the answers may differ, but not in whether they are
// errors) or * (the answer must be an error). \n in a statement is a line's end.
// Lines that begin with # are for people.
func (p *pair) run(script string) {
	p.t.Helper()
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		who, sql, _ := strings.Cut(line, " ")
		p.step(who, strings.ReplaceAll(strings.TrimSpace(sql), `\n`, "\n"))
	}
}

// step is a line of a script; sql is taken as it is.
func (p *pair) step(who, sql string) *reply {
	p.t.Helper()
	if who == "settle" {
		p.w.settle(p.t)
		return nil
	}
	return p.command(who, p.direct.query(sql), sql)
}

// command runs any command on both; needle is a part of what the general log has
// of it.
func (p *pair) command(who string, payload []byte, needle string) *reply {
	p.t.Helper()
	p.before = append(p.before, short(needle))
	p.w.since(p.t)
	want := p.direct.do(slices.Clone(payload))
	got := p.proxied.do(slices.Clone(payload))
	p.compare(who, needle, want, got)
	p.served(strings.TrimRight(who, "!*"), needle)
	if want.warnings > 0 && !strings.Contains(needle, "SHOW") && got.err == nil && want.lost == nil && got.lost == nil {
		const ask = "SHOW WARNINGS"
		p.compare("any", "SHOW WARNINGS of "+needle, p.direct.sql(ask), p.proxied.sql(ask))
	}
	return got
}

func (p *pair) compare(who, what string, want, got *reply) {
	p.t.Helper()
	what = short(what)
	switch {
	case want.lost != nil && !strings.HasSuffix(who, "!"):
		p.t.Fatalf("%s: directly: %v", what, want.lost)
	case got.lost != nil && want.lost == nil:
		p.t.Fatalf("%s: through the proxy: %v", what, got.lost)
	case strings.HasSuffix(who, "*") && want.err == nil:
		p.t.Errorf("%s: directly it is no error", what)
	}
	if strings.HasSuffix(who, "!") {
		if (want.err == nil) != (got.err == nil) {
			p.t.Errorf("%s: directly %v, through the proxy %v", what, want.err, got.err)
		}
	} else if !want.same(got) {
		p.t.Errorf("%s (after %s)\n%s", what, strings.Join(p.before[max(0, len(p.before)-4):], "; "), differences(want, got))
	}
}

// differences shows what two answers have not in common.
func differences(want, got *reply) string {
	var b strings.Builder
	for i := range max(len(want.packets), len(got.packets)) {
		d, g := "nothing", "nothing"
		if i < len(want.packets) {
			d = want.packets[i]
		}
		if i < len(got.packets) {
			g = got.packets[i]
		}
		if d != g && b.Len() < 2000 {
			fmt.Fprintf(&b, "\tdirectly:          %s\n\tthrough the proxy: %s\n", d, g)
		}
	}
	if got.lost != nil || want.lost != nil {
		fmt.Fprintf(&b, "\tconnection lost: directly %v, through the proxy %v\n", want.lost, got.lost)
	}
	return b.String()
}

// cleaning is a statement of the proxy's own, on connections that nobody uses just now.
const cleaning = "DO (SELECT 1 FROM (SELECT 1) AS nothing)"

// served checks who served a step, by the general logs.
func (p *pair) served(who, needle string) {
	p.t.Helper()
	p.log = p.w.since(p.t)
	needle = strings.Trim(needle, " \t\r\n;\x00\ufeff")
	var servers []string
	for _, e := range p.log {
		if strings.Contains(e.text, needle) && strings.TrimSpace(e.text) != cleaning && e.command != "Close stmt" && !slices.Contains(servers, e.server) {
			servers = append(servers, e.server)
		}
	}
	got := strings.Join(servers, "+")
	if got == "" {
		got = "proxy"
	}
	if who == "any" {
		p.last = got
		return
	}
	ok := false
	switch who {
	case "replica":
		ok = strings.HasPrefix(got, "replica") && len(servers) == 1
	case "both":
		ok = len(servers) == 2 && servers[0] == "primary"
	case "same":
		ok = got == p.last
	case "other":
		ok = got != p.last && len(servers) == 1
	default:
		ok = got == who
	}
	if !ok {
		p.t.Errorf("%s: served by %s, want %s (after %s)%s%s", short(needle), got, who, strings.Join(p.before[max(0, len(p.before)-4):], "; "), p.said(), p.pin())
	}
	p.last = got
}

// pin is why the session is held, for people.
func (p *pair) pin() string {
	for _, row := range console(p.t, p.w.proxy, "PINS") {
		if row["Id"] == fmt.Sprint(p.proxied.greeting.ConnectionID) {
			return "\n\tpin: " + row["Pin"] + " " + row["Transaction"]
		}
	}
	return ""
}

// said is what the servers were told in the last step, for people.
func (p *pair) said() string {
	var b strings.Builder
	for _, e := range p.log {
		fmt.Fprintf(&b, "\n\t%s %s %s %s", e.server, e.thread, e.command, short(e.text))
	}
	return b.String()
}

func short(s string) string {
	if len(s) > 120 {
		s = s[:60] + "…" + s[len(s)-60:]
	}
	return s
}
