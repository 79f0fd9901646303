package main

import (
	"fmt"
	"slices"
	"strings"
)

// limit is one acceptance criterion and what was measured for it.
type limit struct {
	what, measured, bound string
	state                 state
	note                  string // "" or what there is to say about it
}

// state is whether a limit is kept.
type state string

const (
	kept       state = "ok"
	broken     state = "NOT OK"
	unmeasured state = "not measured"
)

// none rounds to zero: what the Go runtime does now and then is not per query.
const none = 0.005

// idleBytes is what an idle session without TLS may have resident.
const idleBytes = 8 << 10

// serverConnections is over how many connections the sessions must go.
const serverConnections = 50

// limits judges the proxy by the acceptance criteria. For loads that only read,
// haproxy is the one with one thread that spreads its sessions over the replicas:
// the servers then have the same work as behind the proxy.
func (r *results) limits(counter counter) []limit {
	var list []limit
	relative := func(what, workload string, clients int, subject string, figure func(sample) float64, atMost bool, bound float64) {
		l := limit{what: what, bound: fmt.Sprintf("≤ %.2f", bound), state: unmeasured}
		if !atMost {
			l.bound = fmt.Sprintf("≥ %.2f", bound)
		}
		if s, ok := ratio(r.find(workload, clients, farmhandName), r.find(workload, clients, subject), figure); ok {
			l.measured, l.state = s.String(), verdict(s.median, atMost, bound)
		}
		list = append(list, l)
	}
	for _, kind := range []string{selectText, selectPrepared} {
		for _, n := range []int{16, 64, 256} {
			relative(fmt.Sprintf("CPU/query ÷ haproxy: %s, %d", kind, n), kind, n, haproxyReads, cpuOf, true, 1.10)
		}
	}
	for _, kind := range []string{selectText, selectPrepared} {
		relative(fmt.Sprintf("queries/s ÷ haproxy: %s, 64", kind), kind, 64, haproxyReads, rateOf, false, 1)
	}
	for _, n := range []int{4, 16} {
		relative(fmt.Sprintf("connections/s ÷ direct, +1 ms to the servers, %d", n), connectDelay, n, directName, rateOf, false, 2)
	}
	relative("connections/s ÷ direct, localhost, +1 ms to the servers, 16", connectLocal, 16, directName, rateOf, false, 2)
	relative("connections/s ÷ direct, loopback", connectTCP, 16, directName, rateOf, false, 0.8)
	relative("CPU/connection ÷ haproxy, loopback", connectTCP, 16, haproxyReads, cpuOf, true, 0.7)
	relative("p99 ÷ haproxy at 70 % of its rate, 16 connections", selectAtShare, 16, haproxyReads, p99Of, true, 1.2)
	list = append(list, r.callLimits(counter)...)
	list = append(list, r.idleLimits()...)
	relative("CPU/byte ÷ haproxy: 16 MB results", result16Name, 1, haproxyReads, cpuOf, true, 0.8)
	relative("CPU/byte ÷ haproxy, both end TLS: 16 MB results", resultTLS, 1, haproxyReads, cpuOf, true, 1.3)
	relative("CPU/query ÷ haproxy, both end TLS: point selects, 16", selectTLS, 16, haproxyReads, cpuOf, true, 1.3)
	return list
}

func verdict(value float64, atMost bool, bound float64) state {
	if atMost && value <= bound || !atMost && value >= bound {
		return kept
	}
	return broken
}

func (r *results) find(workload string, clients int, subject string) *cell {
	for _, w := range r.workloads {
		if w.name == workload && w.clients == clients {
			return r.cell(w, subject)
		}
	}
	return nil
}

// callClients is how many clients there are where system calls are judged.
const callClients = 64

// callLimits judges the system calls at 64 connections.
func (r *results) callLimits(counter counter) []limit {
	list := []limit{
		{what: "futex calls/query, 64 connections", bound: "0 (< 0.005)"},
		{what: "nanosleep calls/query, 64 connections", bound: "0 (< 0.005)"},
		{what: "system calls/query, 64 connections", bound: "≤ 5.00"},
	}
	c := r.find(selectText, callClients, farmhandName)
	for i := range list {
		l := &list[i]
		l.state = unmeasured
		if counter.prepare == nil {
			l.measured = "neither perf (as root) nor strace is here"
			continue
		}
		if c == nil || c.calls == nil {
			continue
		}
		value, bound := 0.0, none
		switch i {
		case 0:
			value = c.calls["futex"]
		case 1:
			value = c.calls["nanosleep"] + c.calls["clock_nanosleep"]
		case 2:
			value, bound = c.callsAll, 5
		}
		l.measured, l.state = fmt.Sprintf("%.4f", value), verdict(value, true, bound)
		if i == 2 {
			l.measured = number(value) + ": " + mostCalled(c.calls)
		}
	}
	return list
}

// mostCalled names the calls that make up most.
func mostCalled(calls map[string]float64) string {
	var names []string
	for name, n := range calls {
		if n >= 0.02 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if calls[a] != calls[b] {
			return int(1e6 * (calls[b] - calls[a]))
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %.2f", name, calls[name])
	}
	return strings.Join(names, ", ")
}

// idleLimits judges the sessions that mostly do nothing.
func (r *results) idleLimits() []limit {
	memory := limit{what: "resident bytes of an idle session", bound: fmt.Sprintf("≤ %d", idleBytes), state: unmeasured}
	cap := limit{what: "sessions over few server connections", bound: fmt.Sprintf("≤ %d connections", serverConnections), state: unmeasured}
	if s := r.idle; s != nil {
		most := max(s.loggedIn, s.used)
		memory.what = fmt.Sprintf("resident bytes of an idle session, of %d", s.sessions)
		memory.measured = fmt.Sprintf("%.0f logged in, %.0f after a statement", s.loggedIn, s.used)
		memory.state = verdict(most, true, idleBytes)
		cap.what = fmt.Sprintf("%d sessions over few server connections", s.sessions)
		cap.measured = fmt.Sprintf("at most %d connections, %d statements answered, p99 %s ms", s.connections, s.asked, number(s.p99))
		if s.cap == 0 {
			cap.measured, cap.note = "skipped: no pool.max_per_server", s.refused
		} else {
			cap.state = verdict(float64(s.connections), true, serverConnections)
		}
	}
	if r.idleErr != nil {
		cap.measured, cap.state, cap.note = "failed", broken, fmt.Sprintf("%.500v", r.idleErr)
	}
	return []limit{memory, cap}
}

// limitGrid is the table of the criteria; without those that nothing is known
// of, if they are not wanted.
func limitGrid(list []limit, counter counter, all bool) grid {
	g := grid{title: "Acceptance: " + farmhandName + " at the level session against " + haproxyReads + " and " + directName, head: []string{"criterion", "measured", "limit", ""}}
	for _, l := range list {
		if l.state == unmeasured && l.measured == "" && !all {
			continue
		}
		g.rows = append(g.rows, []string{l.what, l.measured, l.bound, string(l.state)})
	}
	for _, l := range list {
		if l.note != "" {
			g.notes = append(g.notes, l.what+": "+l.note)
		}
	}
	if counter.prepare != nil {
		g.notes = append(g.notes, fmt.Sprintf("System calls: %s in runs of their own (%s).", counter.name, counter.cost))
	}
	return g
}
