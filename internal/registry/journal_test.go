package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func texts(entries []Entry) []string {
	all := []string{}
	for _, e := range entries {
		all = append(all, e.Text)
	}
	return all
}

// TestJournalOrder: entries of several writers come in the registry's order, and
// of a node's it is known that they are the node's.
func TestJournalOrder(t *testing.T) {
	c := one(t)
	farm := newFarm()
	ctx := soonContext(t)
	admin := c.admin(t, farm)
	name := farm + "-web"
	must(t, admin.allowNode(ctx, name))
	node := c.as(t, farm, name)
	for i, e := range []struct {
		by *Client
		e  Entry
	}{
		{admin, Entry{Kind: "host-up", Who: "scaler a", Text: "0", Fields: map[string]string{"host": "x"}}},
		{node, Entry{Kind: "host-up", Who: "scaler a", Text: "1", Time: time.Unix(1, 0)}}, // a clock far behind
		{admin, Entry{Kind: Decision, Who: "scaler a", Text: "2"}},
		{node, Entry{Kind: Decision, Who: "scaler a", Text: "3"}},
	} {
		written, err := e.by.Append(ctx, e.e)
		must(t, err)
		if written.Revision == 0 || written.Time.IsZero() {
			t.Errorf("entry %d was written as %+v", i, written)
		}
	}
	_, err := node.etcd.Put(ctx, node.keys.nodeJournal(name)+"rubbish", "{")
	must(t, err)
	entries, err := admin.Entries(ctx, 0)
	must(t, err)
	if len(entries) != 5 {
		t.Fatalf("the entries are %+v", entries)
	}
	for i, want := range []struct {
		kind, who, text string
		node            bool
	}{
		{"host-up", "scaler a", "0", false},
		{"host-up", name, "1", true},
		{Decision, "scaler a", "2", false},
		{"unreadable", name, "a node cannot decide: 3", true},
		{"unreadable", name, "unexpected end of JSON input", true},
	} {
		if e := entries[i]; e.Kind != want.kind || e.Who != want.who || e.Text != want.text || e.Node != want.node {
			t.Errorf("entry %d is %+v, not %+v", i, e, want)
		}
	}
	if entries[0].Fields["host"] != "x" || time.Since(entries[0].Time) > limit {
		t.Errorf("the first entry is %+v", entries[0])
	}
	last, err := admin.Entries(ctx, 2)
	must(t, err)
	if !slices.Equal(texts(last), texts(entries[3:])) {
		t.Errorf("the last two are %v", texts(last))
	}
	// As JSON lines and back.
	line, err := json.Marshal(entries[0])
	must(t, err)
	var back Entry
	must(t, json.Unmarshal(line, &back))
	if back.Revision != entries[0].Revision || back.Text != "0" || !back.Time.Equal(entries[0].Time) {
		t.Errorf("%s is %+v", line, back)
	}
}

// TestJournalIsBounded: the oldest entries of the same writer go.
func TestJournalIsBounded(t *testing.T) {
	admin := one(t).admin(t, newFarm())
	ctx := soonContext(t)
	appendTo := func(journal string, bound int64, text string) {
		_, err := admin.appendTo(ctx, journal, bound, Entry{Kind: "x", Who: "test", Text: text})
		must(t, err)
	}
	other := admin.keys.nodeJournal("other")
	appendTo(other, 10, "another's")
	for i := range 25 {
		appendTo(admin.keys.controlJournal(), 10, fmt.Sprint(i))
	}
	entries, err := admin.Entries(ctx, 0)
	must(t, err)
	want := []string{"another's"}
	for i := 15; i < 25; i++ {
		want = append(want, fmt.Sprint(i))
	}
	if got := texts(entries); !slices.Equal(got, want) {
		t.Errorf("the entries are %v", got)
	}
	// A bound that was lowered is reached as well.
	appendTo(admin.keys.controlJournal(), 3, "last")
	entries, err = admin.Entries(ctx, 0)
	must(t, err)
	if got := texts(entries); !slices.Equal(got, []string{"another's", "23", "24", "last"}) {
		t.Errorf("the entries are %v", got)
	}
}

func TestEntryBounds(t *testing.T) {
	fields := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprintf("f%d", i)] = "x"
		}
		return m
	}
	for what, e := range map[string]Entry{
		"no kind":           {Who: "a"},
		"a kind with a gap": {Kind: "host up", Who: "a"},
		"nobody":            {Kind: "x"},
		"a long name":       {Kind: "x", Who: strings.Repeat("x", maxField+1)},
		"many fields":       {Kind: "x", Who: "a", Fields: fields(maxFields + 1)},
		"a long field":      {Kind: "x", Who: "a", Fields: map[string]string{"f": strings.Repeat("x", maxField+1)}},
		"an odd field":      {Kind: "x", Who: "a", Fields: map[string]string{"a=b": "x"}},
	} {
		if _, err := e.checked(); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	e, err := Entry{Kind: "x", Who: "a", Text: strings.Repeat("é", maxText), Fields: fields(maxFields)}.checked()
	must(t, err)
	if !strings.HasSuffix(e.Text, fmt.Sprintf("… (%d more bytes)", maxText)) || len(e.Text) > maxText+40 || !utf8.ValidString(e.Text) {
		t.Errorf("a long text became one of %d bytes that ends with %q", len(e.Text), e.Text[len(e.Text)-30:])
	}
}

// TestFollow: each entry is told once and in order, also over a restart of the
// registry.
func TestFollow(t *testing.T) {
	c := newCluster(t, 1)
	admin := c.admin(t, "test")
	ctx := soonContext(t)
	write := func(from, to int) {
		for i := from; i < to; i++ {
			_, err := admin.Append(ctx, Entry{Kind: "x", Who: "test", Text: fmt.Sprint(i)})
			must(t, err)
		}
	}
	write(0, 10)
	follow := func(n int) (<-chan string, <-chan error) {
		told, lost := make(chan string, 100), make(chan error, 10)
		running(t, func(ctx context.Context) error {
			return admin.FollowEntries(ctx, n, func(e Entry) error { told <- e.Text; return nil }, func(err error) { lost <- err })
		})
		return told, lost
	}
	expect := func(told <-chan string, from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if got := soon(t, told, "entry"); got != fmt.Sprint(i) {
				t.Fatalf("entry %d was told as %s", i, got)
			}
		}
	}
	three, lost := follow(3)
	expect(three, 7, 10)
	write(10, 15)
	expect(three, 10, 15)
	c.stop(0)
	soon(t, lost, "news that the registry is lost")
	c.start(t, 0)
	write(15, 20)
	expect(three, 15, 20)
	write(20, 22)
	expect(three, 20, 22)
	if len(three) > 0 {
		t.Errorf("%s was told as well", <-three)
	}
}
