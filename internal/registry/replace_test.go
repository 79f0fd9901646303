package registry

import (
	"errors"
	"testing"
)

// TestReplace: of those who replace the same value, one wins.
func TestReplace(t *testing.T) {
	c := one(t).admin(t, newFarm())
	ctx := soonContext(t)
	record, err := ControlRecord("farmfile")
	must(t, err)
	must(t, c.Replace(ctx, record, nil, []byte("one")))
	if err := c.Replace(ctx, record, nil, []byte("two")); !errors.Is(err, ErrChanged) {
		t.Errorf("where there is one already: %v", err)
	}
	must(t, c.Replace(ctx, record, []byte("one"), []byte("two")))
	if err := c.Replace(ctx, record, []byte("one"), []byte("three")); !errors.Is(err, ErrChanged) {
		t.Errorf("where another has replaced it: %v", err)
	}
	if value, err := c.Read(ctx, record); err != nil || string(value) != "two" {
		t.Errorf("%q, %v", value, err)
	}
	cluster, err := ClusterRecord("db", "assignment")
	must(t, err)
	if err := c.Replace(ctx, cluster, nil, []byte("x")); err == nil {
		t.Error("what a leader decides was replaced without a term")
	}
}
