package monitor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"pgregory.net/rapid"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

var epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

func position(t testing.TB, text string) gtid.Position {
	t.Helper()
	p, err := gtid.Parse(farm.MariaDB, text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestHealth(t *testing.T) {
	refused := fmt.Errorf("connect: %w", syscall.ECONNREFUSED)
	slow := fmt.Errorf("connect: %w", context.DeadlineExceeded)
	full := fmt.Errorf("connect: %w", &mysql.MyError{Code: 1040, State: "08004", Message: "Too many connections"})
	type step struct {
		err     error // the probe's, one a second; nil succeeds
		report  bool  // the error is the data path's, half a second before the next probe
		status  Status
		serving bool
	}
	for name, steps := range map[string][]step{
		"found well":    {{nil, false, Up, true}},
		"found dead":    {{refused, false, Unknown, false}, {refused, false, Unknown, false}, {refused, false, Down, false}},
		"comes back":    {{refused, false, Unknown, false}, {refused, false, Unknown, false}, {refused, false, Down, false}, {nil, false, Up, true}},
		"dies":          {{nil, false, Up, true}, {refused, false, Up, false}, {refused, false, Up, false}, {refused, false, Down, false}},
		"false alarm":   {{nil, false, Up, true}, {refused, false, Up, false}, {nil, false, Up, true}},
		"reported":      {{nil, false, Up, true}, {refused, true, Up, false}, {nil, false, Up, true}},
		"slow, not out": {{nil, false, Up, true}, {slow, false, Up, true}, {slow, false, Up, true}, {nil, false, Up, true}},
		"slow for long": {{nil, false, Up, true}, {slow, false, Up, true}, {slow, false, Up, true}, {slow, false, Down, false}},
		"full, not dead": {
			{nil, false, Up, true}, {full, false, Up, true}, {full, false, Up, true}, {full, false, Up, true}, {full, false, Up, true},
		},
		"full, never seen":         {{full, false, Unknown, false}},
		"full is better than dead": {{nil, false, Up, true}, {refused, false, Up, false}, {full, false, Up, true}},
	} {
		t.Run(name, func(t *testing.T) {
			s := subject{since: at(0)}
			for i, step := range steps {
				now := at(float64(i + 1))
				if step.report {
					s = s.doubted(step.err, now)
				} else {
					p := probe{sent: now.Add(-time.Millisecond), answered: now, err: step.err}
					if step.err == nil {
						p.facts = &facts{}
					}
					s = s.after(p, 3)
				}
				if s.status != step.status || (unwell(&s) == "") != step.serving {
					t.Fatalf("step %d: %v, %q; want %v, serving %v", i, s.status, unwell(&s), step.status, step.serving)
				}
			}
		})
	}
}

func TestAProbeOlderThanAReportProvesNothing(t *testing.T) {
	s := subject{status: Up, facts: &facts{}}
	s = s.doubted(errors.New("reset"), at(2))
	s = s.after(probe{sent: at(1), answered: at(3), facts: &facts{}}, 3)
	if unwell(&s) == "" {
		t.Error("a probe that began before the report cleared it")
	}
	s = s.after(probe{sent: at(4), answered: at(5), facts: &facts{}}, 3)
	if why := unwell(&s); why != "" {
		t.Errorf("a probe that began after the report did not clear it: %s", why)
	}
}

func TestSlowStart(t *testing.T) {
	for _, c := range []struct {
		weight  int
		elapsed float64
		want    int
	}{{100, 0, 10}, {100, 15, 55}, {100, 29.9, 100}, {100, 30, 100}, {100, 1e6, 100}, {1, 0, 1}, {1000, 0, 100}, {100, -5, 10}} {
		if got := ramped(c.weight, at(0), at(c.elapsed), 30*time.Second); got != c.want {
			t.Errorf("weight %d after %v s: %d, want %d", c.weight, c.elapsed, got, c.want)
		}
	}
	if got := ramped(100, time.Time{}, at(0), 30*time.Second); got != 100 {
		t.Errorf("no slow start: %d", got)
	}

	// When one begins.
	found := subject{first: true, added: at(0)}.served(true, at(1), time.Second, 5*time.Second)
	if !found.ramp.IsZero() {
		t.Error("a server found well at the start was given a slow start")
	}
	late := subject{first: true, added: at(0)}.served(true, at(10), time.Second, 5*time.Second)
	added := subject{added: at(0)}.served(true, at(1), time.Second, 5*time.Second)
	if late.ramp != at(10) || added.ramp != at(1) {
		t.Errorf("found late: %v, added later: %v", late.ramp, added.ramp)
	}
	blink := found.served(false, at(20), time.Second, 0).served(true, at(20.5), time.Second, 0)
	if !blink.ramp.IsZero() {
		t.Error("a false alarm began a slow start")
	}
	back := found.served(false, at(20), time.Second, 0).served(true, at(22), time.Second, 0)
	if back.ramp != at(22) {
		t.Errorf("back after two seconds: %v", back.ramp)
	}
	fell := found.served(false, at(20), time.Second, 0)
	fell.fell = true
	if fell = fell.served(true, at(20.5), time.Second, 0); fell.ramp != at(20.5) || fell.fell {
		t.Errorf("back from down: %+v", fell)
	}
}

func TestHistory(t *testing.T) {
	var h history
	if _, ok := h.fresh(position(t, "0-1-5")); ok {
		t.Error("an empty history knows something")
	}
	h.add(position(t, "0-1-10"), at(10))
	h.add(position(t, "0-1-10"), at(11)) // nothing was written
	h.add(position(t, "0-1-20"), at(20))
	h.add(position(t, "0-2-30"), at(30))
	for _, c := range []struct {
		replica string
		want    time.Time
		known   bool
	}{
		{"", time.Time{}, false},
		{"0-1-9", time.Time{}, false},
		{"0-1-10", at(11), true},
		{"0-1-19", at(11), true},
		{"0-1-20", at(20), true},
		{"0-2-30", at(30), true},
		{"0-2-99", at(30), true},
		{"1-1-99", time.Time{}, false},
	} {
		if got, ok := h.fresh(position(t, c.replica)); got != c.want || ok != c.known {
			t.Errorf("a replica at %q is fresh up to %v, %v; want %v, %v", c.replica, got, ok, c.want, c.known)
		}
	}
	if h.add(position(t, "0-3-25"), at(40)) {
		t.Error("a primary that lost transactions continues the history")
	}
	if _, ok := h.fresh(position(t, "0-1-24")); ok || len(h.samples) != 1 {
		t.Errorf("the old history is still in force: %v", h.samples)
	}
	if h.add(gtid.Position{}, at(50)) || len(h.samples) != 0 {
		t.Errorf("a primary without GTIDs: %v", h.samples)
	}
	if _, ok := h.fresh(position(t, "0-1-24")); ok {
		t.Error("a replica is said to be fresh when the primary has no GTIDs")
	}
}

// TestHistoryIsBoundedAndNeverTooFresh checks the thinned history against
// everything that was recorded.
func TestHistoryIsBoundedAndNeverTooFresh(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h history
		var all []sample
		number := 1
		for i := range rapid.IntRange(1, 4*maxSamples).Draw(t, "samples") {
			number += i % 3 // every third time nothing was written
			p, err := gtid.Parse(farm.MariaDB, fmt.Sprintf("0-1-%d", number))
			if err != nil {
				t.Fatal(err)
			}
			if !h.add(p, at(float64(i))) {
				t.Fatalf("sample %d did not continue the history", i)
			}
			all = append(all, sample{p, at(float64(i))})
		}
		if len(h.samples) > maxSamples {
			t.Fatalf("%d samples", len(h.samples))
		}
		replica, err := gtid.Parse(farm.MariaDB, fmt.Sprintf("0-1-%d", rapid.IntRange(1, number+1).Draw(t, "replica")))
		if err != nil {
			t.Fatal(err)
		}
		var truth time.Time
		for _, s := range all {
			if replica.Contains(s.position) {
				truth = s.at
			}
		}
		got, ok := h.fresh(replica)
		if ok && got.After(truth) {
			t.Fatalf("fresh up to %v, in truth only up to %v", got, truth)
		}
		if newest := all[len(all)-1]; replica.Contains(newest.position) && (!ok || got != newest.at) {
			t.Fatalf("the replica has everything, but is said to be fresh up to %v, %v", got, ok)
		}
	})
}

func TestMeasured(t *testing.T) {
	var h history
	h.add(position(t, "0-1-10"), at(10))
	h.add(position(t, "0-1-20"), at(20))
	replica := func(at string, fresh time.Time) subject {
		return subject{fresh: fresh, facts: &facts{state: mysqladmin.State{Applied: position(t, at)}}}
	}
	if got := replica("0-1-20", at(10)).measured(&h, false, position(t, "0-1-10")); got.fresh != at(20) {
		t.Errorf("it caught up: %v", got.fresh)
	}
	if got := replica("0-1-15", at(13)).measured(&h, false, position(t, "0-1-15")); got.fresh != at(13) {
		t.Errorf("the history forgot: %v", got.fresh)
	}
	if got := replica("0-1-15", at(20)).measured(&h, false, position(t, "0-1-20")); got.fresh != at(10) {
		t.Errorf("it was rebuilt and went back: %v", got.fresh)
	}
	if got := replica("0-1-5", at(20)).measured(&h, true, position(t, "0-1-5")); !got.fresh.IsZero() {
		t.Errorf("the history broke: %v", got.fresh)
	}
	if got := (subject{}).measured(&h, true, gtid.Position{}); !got.fresh.IsZero() {
		t.Errorf("never probed: %v", got.fresh)
	}
}

// While XA transactions are prepared on a replica whose position runs ahead of
// them, what it is sure to show stays where it was.
func TestWhatIsSureToShow(t *testing.T) {
	var s subject
	for i, step := range []struct {
		applied  string
		branches int
		want     string
	}{
		{"0-1-5", 1, ""}, // it was never sure
		{"0-1-10", 0, "0-1-10"},
		{"0-1-11", 1, "0-1-10"},
		{"0-1-20", 2, "0-1-10"},
		{"0-1-21", 0, "0-1-21"},
		{"0-1-15", 1, ""}, // it was rebuilt and is older now
		{"0-1-30", 0, "0-1-30"},
	} {
		s = s.after(probe{facts: &facts{state: mysqladmin.State{Applied: position(t, step.applied), AheadOfXA: true}, branches: step.branches}}, 3)
		v := judge(&s, cluster{}, at(0), 0)
		if v.Position.String() != step.want || v.Branches != step.branches || !v.AheadOfXA {
			t.Errorf("step %d: position %q with %d branches, want %q with %d", i, v.Position, v.Branches, step.want, step.branches)
		}
		if got := s.applied().String(); got != step.applied {
			t.Errorf("step %d: what it has applied, which tells its age, is %q", i, got)
		}
	}
}

func TestJudgeReplica(t *testing.T) {
	primaryUp := &subject{Server: farm.Server{Name: "db1", Address: "10.0.0.1:3306"}, role: farm.Primary, status: Up}
	primaryDown := &subject{Server: primaryUp.Server, role: farm.Primary, status: Down}
	primaryDoubted := &subject{Server: primaryUp.Server, role: farm.Primary, status: Up, doubt: errors.New("reset")}
	primaryNew := &subject{Server: primaryUp.Server, role: farm.Primary}
	known, unknown := identity{name: "db1", id: 1}, identity{name: "db1"}

	sound := mysqladmin.Channel{Source: "10.0.0.1:3306", SourceID: 1, Receiver: "Yes", Applier: "Yes"}
	with := func(change func(*mysqladmin.Channel)) mysqladmin.Channel {
		ch := sound
		change(&ch)
		return ch
	}
	connecting := with(func(c *mysqladmin.Channel) {
		c.Receiver, c.ReceiverError = "Connecting", mysqladmin.ThreadError{Code: 2003, Text: "cannot connect"}
	})
	receiverStopped := with(func(c *mysqladmin.Channel) { c.Receiver = "No" })
	receiverGaveUp := with(func(c *mysqladmin.Channel) {
		c.Receiver, c.ReceiverError = "No", mysqladmin.ThreadError{Code: 2003, Text: "cannot connect"}
	})
	receiverBroken := with(func(c *mysqladmin.Channel) {
		c.Receiver, c.ReceiverError = "No", mysqladmin.ThreadError{Code: 1236, Text: "binlog is gone"}
	})
	applierStopped := with(func(c *mysqladmin.Channel) { c.Applier = "No" })
	applierBroken := with(func(c *mysqladmin.Channel) {
		c.Applier, c.ApplierError = "No", mysqladmin.ThreadError{Code: 1062, Text: "duplicate"}
	})
	elsewhere := with(func(c *mysqladmin.Channel) { c.Source, c.SourceID = "10.0.0.9:3306", 9 })
	otherName := with(func(c *mysqladmin.Channel) { c.Source = "db1.internal:3306" })
	neverConnected := with(func(c *mysqladmin.Channel) { c.SourceID, c.Receiver = 0, "Connecting" })
	neverConnectedElsewhere := with(func(c *mysqladmin.Channel) { c.Source, c.SourceID = "10.0.0.9:3306", 0 })
	sameAddressOtherServer := with(func(c *mysqladmin.Channel) { c.SourceID = 7 })

	for _, c := range []struct {
		name     string
		channels []mysqladmin.Channel
		primary  *subject
		last     identity
		verified string
		reason   string // part of it; empty: serves
	}{
		{"sound", []mysqladmin.Channel{sound}, primaryUp, known, "", ""},
		{"sound, primary not probed yet", []mysqladmin.Channel{sound}, primaryNew, unknown, "", ""},
		{"known by id, not by address", []mysqladmin.Channel{otherName}, primaryUp, known, "", ""},
		{"by neither while the primary was never seen", []mysqladmin.Channel{otherName}, primaryDown, unknown, "", "not the primary db1"},
		{"by address verified before", []mysqladmin.Channel{otherName}, primaryDown, unknown, "db1.internal:3306", ""},
		{"partitioned from a living primary", []mysqladmin.Channel{connecting}, primaryUp, known, "", ""},
		{"primary dead", []mysqladmin.Channel{connecting}, primaryDown, known, "", ""},
		{"primary dead, never connected", []mysqladmin.Channel{neverConnected}, primaryDown, unknown, "", ""},
		{"never connected elsewhere", []mysqladmin.Channel{neverConnectedElsewhere}, primaryDown, unknown, "", "not the primary"},
		{"primary dead, receiver stopped", []mysqladmin.Channel{receiverStopped}, primaryDown, known, "", ""},
		{"primary suspected, receiver stopped", []mysqladmin.Channel{receiverStopped}, primaryDoubted, known, "", ""},
		{"primary dead, receiver gave up", []mysqladmin.Channel{receiverGaveUp}, primaryDown, known, "", ""},
		{"receiver gave up, primary alive", []mysqladmin.Channel{receiverGaveUp}, primaryUp, known, "", "broken"},
		{"receiver stopped, primary alive", []mysqladmin.Channel{receiverStopped}, primaryUp, known, "", "stopped"},
		{"receiver stopped, primary not probed yet", []mysqladmin.Channel{receiverStopped}, primaryNew, known, "", "stopped"},
		{"receiver broken, primary alive", []mysqladmin.Channel{receiverBroken}, primaryUp, known, "", "1236"},
		{"receiver broken, primary dead", []mysqladmin.Channel{receiverBroken}, primaryDown, known, "", "1236"},
		{"applier stopped, primary alive", []mysqladmin.Channel{applierStopped}, primaryUp, known, "", "applier does not run"},
		{"applier stopped, primary dead", []mysqladmin.Channel{applierStopped}, primaryDown, known, "", ""},
		{"applier broken, primary alive", []mysqladmin.Channel{applierBroken}, primaryUp, known, "", "1062"},
		{"applier broken, primary dead", []mysqladmin.Channel{applierBroken}, primaryDown, known, "", "1062"},
		{"follows another", []mysqladmin.Channel{elsewhere}, primaryUp, known, "", "10.0.0.9:3306"},
		{"follows another, primary dead", []mysqladmin.Channel{elsewhere}, primaryDown, known, "", "10.0.0.9:3306"},
		{"another server at the primary's address", []mysqladmin.Channel{sameAddressOtherServer}, primaryUp, known, "", "server id 7"},
		{"two sources, the second counts", []mysqladmin.Channel{elsewhere, sound}, primaryUp, known, "", ""},
		{"two sources, the right one is broken", []mysqladmin.Channel{elsewhere, applierBroken}, primaryUp, known, "", "1062"},
		{"no replica", nil, primaryUp, known, "", "not a replica"},
		{"no replica, primary dead", nil, primaryDown, known, "", "not a replica"},
		{"no primary named, followed the last", []mysqladmin.Channel{connecting}, nil, known, "", ""},
		{"no primary named, follows another than the last", []mysqladmin.Channel{elsewhere}, nil, known, "", "not the primary"},
		{"no primary named, none ever seen", []mysqladmin.Channel{elsewhere}, nil, identity{}, "", ""},
		{"a new primary that was not probed yet", []mysqladmin.Channel{elsewhere}, primaryNew, identity{name: "db0", id: 9}, "", "not the primary"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &subject{
				Server: farm.Server{Name: "db2"}, role: farm.Replica, status: Up, verified: c.verified,
				facts: &facts{channels: c.channels}, probed: at(10), fresh: at(8),
			}
			got := judge(s, cluster{primary: c.primary, last: c.last}, at(10), 0)
			if got.Eligible != (c.reason == "") || !strings.Contains(got.Reason, c.reason) || got.Eligible != (got.Reason == "") {
				t.Fatalf("eligible %v: %q; want %q", got.Eligible, got.Reason, c.reason)
			}
			if got.Eligible != (got.EffectiveWeight == 100) {
				t.Errorf("weight %d", got.EffectiveWeight)
			}
			if got.Eligible && (got.Lag != 2*time.Second || !got.LagKnown) {
				t.Errorf("lag %v, %v", got.Lag, got.LagKnown)
			}
			if got.Writable {
				t.Error("a replica is writable")
			}
		})
	}
}

func TestLagNeverLooksSmallerThanItIs(t *testing.T) {
	s := &Server{Role: farm.Replica, Lag: 2 * time.Second, LagKnown: true, Probed: at(10)}
	if lag, ok := s.LagAt(at(15)); lag != 7*time.Second || !ok {
		t.Errorf("five seconds later: %v, %v", lag, ok)
	}
	if lag, _ := s.LagAt(at(9)); lag != 2*time.Second {
		t.Errorf("by a clock that runs behind: %v", lag)
	}
	s.LagKnown = false
	if _, ok := s.LagAt(at(15)); ok {
		t.Error("unknown became known")
	}
}

func TestPrivOfMariaDB(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	for _, c := range []struct {
		text string
		days int64
		want string
	}{
		{`{"access":0}`, 0, "[mysql_native_password:]"},
		{`{"plugin":"","authentication_string":""}`, 0, "[mysql_native_password:]"},
		{`{"plugin":"ed25519","authentication_string":"abc"}`, 0, "[ed25519:abc]"},
		{`{"plugin":"p","authentication_string":"a","auth_or":[{},{"plugin":"unix_socket"}]}`, 0, "[p:a unix_socket:]"},
		{`{"plugin":"p","authentication_string":"a","auth_or":[{"plugin":"q","authentication_string":"b"},{}]}`, 0, "[q:b p:a]"},
		{`{"plugin":"p","account_locked":true}`, 0, "[p: locked]"},
		{`{"plugin":"p","password_last_changed":0}`, 0, "[p: expired]"},
		{`{"plugin":"p","password_last_changed":1}`, 0, "[p:]"},
		{`{"plugin":"p","password_last_changed":1}`, 90, "[p: expired]"},
		{`{"plugin":"p","password_last_changed":1,"password_lifetime":0}`, 90, "[p:]"},
		{`{"plugin":"p","password_last_changed":1,"password_lifetime":-1}`, 90, "[p: expired]"},
		{`{"plugin":"p","password_last_changed":999999999,"password_lifetime":1}`, 0, "[p:]"},
		{`{"is_role":true}`, 0, "[]"},
	} {
		accounts, err := parsePriv("u", "h", c.text, c.days, now)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
		words := make([]string, 0, len(accounts))
		for _, a := range accounts {
			word := a.Plugin + ":" + string(a.AuthString)
			if a.Locked {
				word += " locked"
			}
			if a.PasswordExpired {
				word += " expired"
			}
			words = append(words, word)
		}
		if got := fmt.Sprint(words); got != c.want {
			t.Errorf("%s: %s, want %s", c.text, got, c.want)
		}
	}
	if _, err := parsePriv("u", "h", "{", 0, now); err == nil {
		t.Error("half a JSON text was read")
	}
}
