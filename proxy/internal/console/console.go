// Package console answers SHOW FARMHAND statements: what the proxy sees of the
// servers, what its sessions do and why they are pinned, which statements it
// carried, and where it would send a text.
//
// It only reads. It decides nothing and changes nothing.
package console

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"farmhand/internal/farm"
	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/monitor"
	"farmhand/proxy/internal/session"
)

// Console answers from what the proxy's other parts know.
type Console struct {
	Version  string
	Started  time.Time
	Cluster  string
	View     func() *monitor.View
	Sessions func() []session.Info
	Counts   func() map[string]backend.Count
	Digests  *Digests
	// Totals are counters for STATUS, in the order in which they are shown.
	Totals func() []Total
}

// Total is a named number.
type Total struct {
	Name  string
	Value string
}

// help is what a wrong question is answered with.
const help = "the proxy's console knows SHOW FARMHAND with STATUS, SERVERS, SESSIONS, PINS, DIGESTS or ROUTE FOR '<statement>'"

var question = regexp.MustCompile(`(?is)^\s*(?:/\*.*?\*/\s*)*SHOW\s+FARMHAND\b\s*(.*?)[\s;]*$`)

var routeFor = regexp.MustCompile(`(?is)^ROUTE\s+FOR\s+(.+)$`)

// Query implements session.Console.
func (c *Console) Query(sql string, ask session.Ask) (*session.Table, error) {
	m := question.FindStringSubmatch(sql)
	if m == nil {
		return nil, errors.New(help)
	}
	if r := routeFor.FindStringSubmatch(m[1]); r != nil {
		text, err := unquote(r[1])
		if err != nil {
			return nil, err
		}
		return c.route(text, ask), nil
	}
	switch strings.ToUpper(strings.Join(strings.Fields(m[1]), " ")) {
	case "STATUS":
		return c.status(), nil
	case "SERVERS":
		return c.servers(), nil
	case "SESSIONS":
		return c.sessions(ask, false), nil
	case "PINS":
		return c.sessions(ask, true), nil
	case "DIGESTS":
		if !ask.All {
			return nil, errors.New("the digests are of every user's statements: SHOW FARMHAND DIGESTS is for the users in console.admins")
		}
		return c.Digests.table(), nil
	}
	return nil, fmt.Errorf("%s; it does not know %q", help, m[1])
}

// unquote decodes the string literal of ROUTE FOR.
func unquote(s string) (string, error) {
	s = strings.TrimSpace(s)
	if len(s) < 2 || s[0] != s[len(s)-1] || s[0] != '\'' && s[0] != '"' {
		return "", errors.New("write the statement as a string: SHOW FARMHAND ROUTE FOR 'SELECT 1'")
	}
	q := s[:1]
	return strings.NewReplacer(q+q, q, `\`+q, q, `\\`, `\`).Replace(s[1 : len(s)-1]), nil
}

func (c *Console) status() *session.Table {
	v := c.View()
	primary := "none"
	if v.Primary != nil {
		primary = v.Primary.Name
		if !v.Primary.Writable {
			primary += " (takes no writes: " + v.Primary.Reason + ")"
		}
	}
	fit := 0
	for _, s := range v.Replicas {
		if s.Eligible {
			fit++
		}
	}
	t := &session.Table{Columns: []string{"Name", "Value"}, Rows: [][]string{
		{"version", c.Version},
		{"uptime", time.Since(c.Started).Round(time.Second).String()},
		{"cluster", c.Cluster},
		{"epoch", strconv.FormatUint(uint64(v.Epoch), 10)},
		{"primary", primary},
		{"replicas", fmt.Sprintf("%d of %d serve reads", fit, len(v.Replicas))},
		{"sessions", strconv.Itoa(len(c.Sessions()))},
	}}
	for _, total := range c.Totals() {
		t.Rows = append(t.Rows, []string{total.Name, total.Value})
	}
	return t
}

func (c *Console) servers() *session.Table {
	t := &session.Table{Columns: []string{"Name", "Address", "Role", "State", "Status", "Serves", "Weight", "Lag", "Position", "Version", "Idle", "Active", "Since", "Reason"}}
	v, counts, now := c.View(), c.Counts(), time.Now()
	add := func(s *monitor.Server) {
		serves := "nothing"
		switch {
		case s.Role == farm.Primary && s.Writable:
			serves = "writes"
		case s.Role == farm.Replica && s.Eligible:
			serves = "reads"
		}
		lag := "unknown"
		if d, known := s.LagAt(now); known {
			lag = d.Round(time.Millisecond).String()
		}
		n := counts[s.Name]
		reason := s.Reason
		if reason == "" {
			reason = s.LastError
		}
		if reason == "" && s.Branches > 0 {
			reason = fmt.Sprintf("%d prepared XA transactions: reads that need a position later than this rather go elsewhere", s.Branches)
		}
		t.Rows = append(t.Rows, []string{
			s.Name, s.Address, string(s.Role), string(s.State), s.Status.String(), serves, strconv.Itoa(s.EffectiveWeight), lag,
			s.Position.String(), s.Greeting.Version, strconv.Itoa(n.Idle), strconv.Itoa(n.Active), ago(now, s.Since), reason,
		})
	}
	if v.Primary != nil {
		add(v.Primary)
	}
	for _, s := range v.Replicas {
		add(s)
	}
	return t
}

func ago(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return now.Sub(t).Round(time.Second).String()
}

// sessions lists the sessions that the asker may see: all for an admin, else
// the asker's own user's. pinned leaves out those that nothing holds.
func (c *Console) sessions(ask session.Ask, pinned bool) *session.Table {
	t := &session.Table{Columns: []string{"Id", "User", "Client", "Schema", "Command", "Time", "Primary", "Replica", "Transaction", "Pin", "Commands"}}
	now := time.Now()
	for _, s := range c.Sessions() {
		if !ask.All && s.User != ask.User || pinned && s.Pin == "" && s.Transaction == "" {
			continue
		}
		command := s.Command
		if command == "" {
			command = "idle"
		}
		t.Rows = append(t.Rows, []string{
			strconv.FormatUint(uint64(s.ID), 10), s.User, s.Remote, s.Schema, command, ago(now, s.Since),
			s.Primary, s.Replica, s.Transaction, s.Pin, strconv.FormatUint(s.Queries, 10),
		})
	}
	return t
}

func (c *Console) route(sql string, ask session.Ask) *session.Table {
	e := ask.Route(sql)
	return &session.Table{
		Columns: []string{"Class", "Target", "Reason", "Server", "Considered"},
		Rows:    [][]string{{e.Class, e.Target, e.Reason, e.Server, e.Considered}},
	}
}
