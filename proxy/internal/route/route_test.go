package route

import (
	"strings"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/monitor"
)

func TestDecide(t *testing.T) {
	mode := classify.Mode{MariaDB: true, Version: 101119}
	for _, c := range []struct {
		sql   string
		facts Facts
		want  Target
	}{
		{"SELECT 1", Facts{}, Replica},
		{"SELECT 1", Facts{InTransaction: true}, Transaction},
		{"UPDATE t SET a=1", Facts{InTransaction: true}, Transaction},
		{"SELECT 1", Facts{NextTransaction: true}, Transaction},
		{"SELECT 1", Facts{AutocommitOff: true}, Primary},
		{"SELECT 1", Facts{Serializable: true}, Primary},
		{"SELECT 1", Facts{Pinned: "holds a lock"}, Primary},
		{"SELECT 1", Facts{NamesTemporary: true}, Primary},
		{"SELECT 1", Facts{NamesUnknown: true}, Primary},
		{"SELECT LAST_INSERT_ID()", Facts{}, Primary},
		{"SELECT FOUND_ROWS()", Facts{HasLast: true}, Last},
		{"SHOW WARNINGS", Facts{HasLast: true}, Last},
		{"SHOW WARNINGS", Facts{}, Primary},
		{"SET NAMES utf8mb4", Facts{}, Anywhere},
		{"SET NAMES utf8mb4", Facts{AutocommitOff: true}, Primary},
		{"USE app", Facts{}, Anywhere},
		{"SET TRANSACTION ISOLATION LEVEL READ COMMITTED", Facts{}, Primary},
		{"SET TRANSACTION READ ONLY", Facts{}, Primary},
		{"BEGIN", Facts{}, Primary},
		{"BEGIN", Facts{ReadOnlyDefault: true}, Replica},
		{"START TRANSACTION READ ONLY", Facts{}, Replica},
		{"START TRANSACTION READ ONLY", Facts{Pinned: "x"}, Primary},
		{"INSERT INTO t VALUES (1)", Facts{}, Primary},
		{"SELECT * FROM t FOR UPDATE", Facts{}, Primary},
		{"gibberish", Facts{}, Primary},
		{"", Facts{}, Anywhere},
		{"SHOW FARMHAND STATUS", Facts{InTransaction: true}, Console},
		{"/* farmhand: primary */ SELECT 1", Facts{HintsAllowed: true}, Primary},
		{"/* farmhand: primary */ SELECT 1", Facts{}, Replica},
		{"/* farmhand: replica */ UPDATE t SET a=1", Facts{HintsAllowed: true}, Primary},
	} {
		m := classify.Classify([]byte(c.sql), mode)
		if d := Decide(&m, &c.facts); d.Target != c.want || d.Reason == "" {
			t.Errorf("%q with %+v goes to %v (%q), want %v", c.sql, c.facts, d.Target, d.Reason, c.want)
		}
	}
}

func server(name string, role farm.Role, change func(*monitor.Server)) *monitor.Server {
	s := &monitor.Server{
		Server: farm.Server{Name: name, Address: name + ":1"}, Role: role, Status: monitor.Up, Eligible: role == farm.Replica, Writable: role == farm.Primary,
		LagKnown: true, Probed: time.Unix(100, 0), EffectiveWeight: 100,
	}
	if change != nil {
		change(s)
	}
	return s
}

// known names the servers that are known to have reached any position, and to
// have been waited for in vain.
type known struct{ reached, late string }

func (k known) Reached(s *monitor.Server, _ gtid.Position) bool { return s.Name == k.reached }
func (k known) Late(s *monitor.Server) bool                     { return s.Name == k.late }

func TestRead(t *testing.T) {
	at := func(s string) gtid.Position {
		p, err := gtid.Parse(farm.MariaDB, s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	unfit := func(s *monitor.Server) { s.Eligible, s.Reason = false, "broken" }
	lagging := func(s *monitor.Server) { s.Lag = time.Minute }
	unknown := func(s *monitor.Server) { s.LagKnown = false }
	down := func(s *monitor.Server) { s.Status, s.Writable, s.Reason = monitor.Down, false, "is dead" }
	behind := func(s *monitor.Server) { s.Position = at("0-1-5") }
	has9 := func(s *monitor.Server) { s.Position = at("0-1-9") }
	far := func(s *monitor.Server) { s.Position, s.Lag = at("0-1-5"), 2*time.Second }
	delayed := func(s *monitor.Server) {
		s.Position, s.Replication = at("0-1-5"), &monitor.Replication{Delay: time.Minute}
	}
	for _, c := range []struct {
		name       string
		p, r1, r2  func(*monitor.Server)
		need       Need
		primary    PrimaryReads
		random     float64
		want       string // "" where none is fit
		becauseOf  Want   // the primary, for want of a replica
		wait       bool
		considered string
	}{
		{name: "the first half", random: 0, want: "r1"},
		{name: "the second half", random: 0.99, want: "r2"},
		{name: "preferred", need: Need{Prefer: "r2:1"}, want: "r2"},
		{name: "avoided", need: Need{Avoid: []string{"r1"}}, want: "r2"},
		{name: "broken ones are passed over", r1: unfit, want: "r2"},
		{name: "too far behind", r1: lagging, need: Need{MaxLag: time.Second}, want: "r2"},
		{name: "unknown lag is not small", r1: unknown, need: Need{MaxLag: time.Hour}, want: "r2"},
		{name: "position", r1: behind, r2: behind, need: Need{Position: at("0-1-9")}, want: "p", becauseOf: Freshness},
		{name: "position, one has it", r1: behind, r2: has9, need: Need{Position: at("0-1-9")}, want: "r2"},
		{name: "position, one is broken", r1: behind, r2: unfit, need: Need{Position: at("0-1-9")}, want: "p", becauseOf: Freshness},
		{name: "position, both may be waited for", r1: behind, r2: behind, need: Need{Position: at("0-1-9"), Wait: time.Second}, want: "r1", wait: true},
		{name: "position, one is too far behind to be waited for", r1: far, r2: behind, need: Need{Position: at("0-1-9"), Wait: time.Second}, want: "r2", wait: true},
		{name: "position, one is delayed for longer than the wait", r1: delayed, r2: behind, need: Need{Position: at("0-1-9"), Wait: time.Second}, want: "r2", wait: true},
		{name: "position, waited for in vain", r1: behind, r2: behind, need: Need{Position: at("0-1-9"), Wait: time.Second, Progress: known{late: "r1"}}, want: "r2", wait: true},
		{name: "position, seen since the probe", r1: behind, r2: far, need: Need{Position: at("0-1-9"), Wait: time.Second, Progress: known{reached: "r1"}}, want: "r1"},
		{name: "only one", need: Need{Only: "r2:1"}, want: "r2"},
		{name: "only one, and it is gone", r2: unfit, need: Need{Only: "r2:1"}, considered: "r1: may be behind"},
		{name: "all broken", r1: unfit, r2: unfit, want: "p", becauseOf: Fitness},
		{name: "all broken, never the primary", r1: unfit, r2: unfit, primary: Never, considered: "r1: broken"},
		{name: "sharing", primary: Share, random: 0.99, want: "p"},
		{name: "primary dead: age no longer counts", p: down, r1: lagging, r2: unfit, need: Need{MaxLag: time.Second}, want: "r1"},
		{name: "primary dead: what was seen still counts", p: down, r1: behind, r2: unfit, need: Need{Position: at("0-1-9")}, considered: "has not reached"},
		{name: "everything dead", p: down, r1: unfit, r2: unfit, considered: "p: is dead"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := &monitor.View{
				Primary:  server("p", farm.Primary, c.p),
				Replicas: []*monitor.Server{server("r1", farm.Replica, c.r1), server("r2", farm.Replica, c.r2)},
			}
			if c.primary == "" {
				c.primary = WhenNeeded
			}
			got := Read(v, &c.need, c.primary, time.Unix(100, 0), c.random)
			name := ""
			if got.Server != nil {
				name = got.Server.Name
			}
			if name != c.want || got.ForWant != c.becauseOf || got.Wait != c.wait || !strings.Contains(got.Considered.String(), c.considered) {
				t.Errorf("server %q (%+v), want %q (for want of %v, wait %v, %q)", name, got, c.want, c.becauseOf, c.wait, c.considered)
			}
		})
	}
}
