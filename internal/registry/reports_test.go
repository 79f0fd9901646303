package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func (v ReportsView) String() string {
	var all []string
	for _, r := range v.Reports {
		all = append(all, fmt.Sprintf("%s/%s=%s", r.Node[strings.LastIndexByte(r.Node, '-')+1:], r.Name, r.Data))
	}
	return strings.Join(all, " ")
}

// reports collects the views of a watch.
func reports(t *testing.T, c *Client) <-chan ReportsView {
	t.Helper()
	views := make(chan ReportsView, 1000)
	running(t, func(ctx context.Context) error {
		return c.WatchReports(ctx, func(v ReportsView) error { views <- v; return nil })
	})
	return views
}

func TestReports(t *testing.T) {
	c := one(t)
	farm := newFarm()
	ctx := soonContext(t)
	admin := c.admin(t, farm)
	node := func(name string) *Client {
		name = farm + "-" + name
		id, secret, a, err := admin.AddToken(ctx, "web", name, MaxToken)
		must(t, err)
		_, err = admin.SpendToken(ctx, id, secret, name, a.Expires.Add(-MaxToken/2))
		must(t, err)
		return c.as(t, farm, name)
	}
	a, b := node("a"), node("b")
	link := c.link(t)
	views := reports(t, c.admin(t, farm, link.Addr()))
	expect := func(want string, changed ...string) ReportsView {
		t.Helper()
		v := soon(t, views, "view "+want)
		if v.String() != want || v.Lost != nil || len(v.Changed) != len(changed) {
			t.Fatalf("the view is %+v, not %s", v, want)
		}
		for i, r := range v.Changed {
			if got := fmt.Sprintf("%s %v", r.Data, r.Gone); got != changed[i] {
				t.Errorf("changed: %+v, not %s", r, changed[i])
			}
		}
		return v
	}
	expect("")
	must(t, b.Report(ctx, "web", []byte("1")))
	first := expect("b/web=1", "1 false")
	must(t, a.Report(ctx, "mysql", []byte("2")))
	expect("a/mysql=2 b/web=1", "2 false")
	// The same again is a sign of life.
	must(t, b.Report(ctx, "web", []byte("1")))
	if again := expect("a/mysql=2 b/web=1", "1 false"); again.Changed[0].Revision <= first.Changed[0].Revision {
		t.Errorf("%+v after %+v", again, first)
	}
	// What a node writes beside is no report, and one that is too long none either.
	for _, key := range []string{"", "web/x", "odd name"} {
		_, err := b.etcd.Put(ctx, b.keys.healthTree(b.name)+key, "x")
		must(t, err)
	}
	_, err := b.etcd.Put(ctx, b.keys.report(b.name, "web"), strings.Repeat("x", MaxReport+1))
	must(t, err)
	expect("a/mysql=2", " true")

	link.Cut()
	if v := soon(t, views, "view of a lost registry"); v.Lost == nil || v.String() != "a/mysql=2" || len(v.Changed) > 0 {
		t.Errorf("%+v", v)
	}
	must(t, b.Report(ctx, "web", []byte("3")))
	must(t, admin.Expel(ctx, a.name, time.Minute))
	link.Restore()
	expect("b/web=3", "3 false", " true")
	if all, err := admin.Reports(ctx); err != nil || len(all) != 1 || string(all[0].Data) != "3" || all[0].Node != b.name || all[0].Name != "web" {
		t.Errorf("%+v, %v", all, err)
	}
	if err := a.Report(ctx, "mysql", []byte("expelled")); !errors.Is(err, ErrDenied) {
		t.Errorf("expelled: %v", err)
	}
	for what, err := range map[string]error{
		"too long":         b.Report(ctx, "web", make([]byte, MaxReport+1)),
		"empty":            b.Report(ctx, "web", nil),
		"a slash":          b.Report(ctx, "web/x", []byte("x")),
		"no node's report": admin.Report(ctx, "web", []byte("x")),
	} {
		if err == nil {
			t.Errorf("%s: reported", what)
		}
	}
}
