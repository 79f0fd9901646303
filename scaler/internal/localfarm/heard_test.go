package localfarm

import (
	"strings"
	"testing"

	"farmhand/internal/farm"
	"farmhand/internal/registry"
)

func TestHeard(t *testing.T) {
	up := farm.Event{Kind: farm.HostUp, Host: farm.EventHost{Name: "db1", Role: "replica", Address: "127.0.10.1:3306"}}
	for _, c := range []struct {
		what  string
		entry registry.Entry
		want  string
	}{
		{"a decision", registry.Entry{Kind: registry.Decision, Text: "db1 is new"}, "db1 is new"},
		{"one of no interest", registry.Entry{Kind: registry.Decision, Text: "db1 takes a larger share", Fields: map[string]string{registry.Minor: "true"}}, ""},
		{"what a node says", registry.Entry{Kind: string(farm.HostUp), Node: true, Text: up.Sentence()}, "db1 is up (replica at 127.0.10.1:3306)"},
		{"what a decision has said", registry.Entry{Kind: string(farm.HostUp), Text: up.Sentence()}, ""},
		{"a node that is back says that it was away", registry.Entry{Kind: string(farm.HostDown), Node: true, Text: "web1 has left (web)"}, ""},
		{"who leads", registry.Entry{Kind: "leader", Who: "scaler scaler-1", Text: "scaler scaler-1 leads in term 2938"}, "scaler-1 leads"},
		{"a join", registry.Entry{Kind: "node-joined", Text: "node db1 joined with the role mysql", Fields: map[string]string{"node": "db1"}}, "db1 has joined the farm"},
		{"a long error", registry.Entry{Kind: string(farm.ReplicationBroken), Node: true, Text: strings.Repeat("é", 300)}, strings.Repeat("é", longest) + "…"},
	} {
		if got := heard(c.entry); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}
