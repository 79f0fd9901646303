package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func ask(t *testing.T, c *Client, kind string) Operation {
	t.Helper()
	o, err := c.Ask(soonContext(t), Operation{Kind: kind, Args: map[string]string{"to": "db2"}, By: "operator"})
	must(t, err)
	return o
}

// TestOperation from its beginning to its end, as who asked and who watches all
// see it.
func TestOperation(t *testing.T) {
	c := newCluster(t, 1)
	ctx := soonContext(t)
	admin := c.admin(t, "test")
	terms, stop := led(t, admin, "a")
	term := soon(t, terms, "term")
	views := make(chan OperationsView, 100)
	running(t, func(ctx context.Context) error {
		return admin.WatchOperations(ctx, func(v OperationsView) error { views <- v; return nil })
	})
	if v := soon(t, views, "first view"); len(v.Operations) > 0 || v.Lost != nil {
		t.Fatalf("%+v", v)
	}
	o := ask(t, admin, "switchover")
	if o.ID != "1" || o.State != OperationAsked || o.Asked.IsZero() || o.Args["to"] != "db2" || o.By != "operator" {
		t.Errorf("%+v", o)
	}
	soon(t, views, "view with it")
	steps, lost := make(chan Operation, 100), make(chan error, 10)
	ended := make(chan Operation, 1)
	running(t, func(ctx context.Context) error {
		last, err := admin.FollowOperation(ctx, o.ID, func(o Operation) error { steps <- o; return nil }, func(err error) { lost <- err })
		ended <- last
		return err
	})
	if got := soon(t, steps, "what was asked"); got.State != OperationAsked {
		t.Errorf("%+v", got)
	}
	o.State, o.Steps = OperationRunning, []OperationStep{{Text: "one"}}
	o.Kind, o.By = "something else", "nobody" // not the leader's
	must(t, admin.UpdateOperation(ctx, term, o))
	if got := soon(t, steps, "step"); got.State != OperationRunning || len(got.Steps) != 1 || got.Kind != "switchover" || got.By != "operator" {
		t.Errorf("%+v", got)
	}
	if err := admin.CancelOperation(ctx, o.ID, "operator anna"); !errors.Is(err, ErrOperationBegun) {
		t.Errorf("cancelled while it runs: %v", err)
	}
	// The registry restarts.
	c.stop(0)
	soon(t, lost, "news that the registry is lost")
	c.start(t, 0)
	if err := stop(); err != nil && !errors.Is(err, ErrDeposed) { // its lease may have outlived the restart
		t.Error(err)
	}
	old := term
	terms, _ = led(t, admin, "b")
	term = soon(t, terms, "term")
	if err := admin.UpdateOperation(ctx, old, o); !errors.Is(err, ErrDeposed) {
		t.Errorf("in a term that is over: %v", err)
	}
	o.State, o.Result = OperationDone, "db2 leads"
	must(t, admin.UpdateOperation(ctx, term, o))
	if got := soon(t, ended, "end"); got.State != OperationDone || got.Result != "db2 leads" || got.Ended.IsZero() {
		t.Errorf("%+v", got)
	}
	for {
		if v := soon(t, views, "view of the end"); v.Lost == nil && v.Operations[0].State == OperationDone {
			break
		}
	}
	// An end is an end.
	o.State = OperationRunning
	for _, err := range []error{admin.UpdateOperation(ctx, term, o), admin.CancelOperation(ctx, o.ID, "operator anna")} {
		if !errors.Is(err, ErrOperationEnded) {
			t.Errorf("after its end: %v", err)
		}
	}
	// Who follows one that has ended is told that.
	if got, err := admin.FollowOperation(ctx, o.ID, func(Operation) error { return nil }, nil); err != nil || got.State != OperationDone {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOperationIsCancelled(t *testing.T) {
	ctx := soonContext(t)
	admin, term := inTerm(t, one(t))
	o := ask(t, admin, "scale")
	must(t, admin.CancelOperation(ctx, o.ID, "operator anna"))
	o.State = OperationRunning
	if err := admin.UpdateOperation(ctx, term, o); !errors.Is(err, ErrOperationEnded) {
		t.Errorf("the leader begins one that was cancelled: %v", err)
	}
	if o, err := admin.Operation(ctx, o.ID); err != nil || o.State != OperationCancelled || o.Ended.IsZero() {
		t.Errorf("%+v, %v", o, err)
	}
	// The journal knows who asked and who took it back.
	entries, err := admin.Entries(ctx, 0)
	must(t, err)
	var said []string
	for _, e := range entries {
		if e.Fields["operation"] == o.ID {
			said = append(said, e.Kind+" by "+e.Who+" to "+e.Fields["to"])
		}
	}
	if got := strings.Join(said, ", "); got != "operation-asked by operator to db2, operation-cancelled by operator anna to db2" {
		t.Errorf("the journal says %s", got)
	}
	for _, id := range []string{"2", "01", "x", "", "-1", "0"} {
		if _, err := admin.Operation(ctx, id); !errors.Is(err, ErrUnknownOperation) {
			t.Errorf("%q: %v", id, err)
		}
		if _, err := admin.FollowOperation(ctx, id, func(Operation) error { return nil }, nil); !errors.Is(err, ErrUnknownOperation) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// TestOperationsAreNumbered also when many ask at a time.
func TestOperationsAreNumbered(t *testing.T) {
	ctx := soonContext(t)
	admin := one(t).admin(t, newFarm())
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			if _, err := admin.Ask(ctx, Operation{Kind: "x"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	operations, err := admin.Operations(ctx)
	must(t, err)
	for i, o := range operations {
		if o.ID != fmt.Sprint(i+1) {
			t.Errorf("operation %d has the ID %s", i, o.ID)
		}
	}
	if len(operations) != 12 {
		t.Errorf("%d operations", len(operations))
	}
}

// TestOperationsThatAreKept: of those that have ended the last ones, of the others
// all; and numbers are not given again.
func TestOperationsThatAreKept(t *testing.T) {
	ctx := soonContext(t)
	admin, term := inTerm(t, one(t))
	first := ask(t, admin, "x")
	for range KeptOperations + 5 {
		o := ask(t, admin, "x")
		o.State = OperationFailed
		must(t, admin.UpdateOperation(ctx, term, o))
	}
	last := ask(t, admin, "x")
	if want := fmt.Sprint(KeptOperations + 7); last.ID != want {
		t.Errorf("the last has the ID %s, not %s", last.ID, want)
	}
	all, err := admin.Operations(ctx)
	must(t, err)
	if len(all) != KeptOperations+2 || all[0].ID != first.ID || all[1].ID != "7" {
		t.Errorf("%d operations, from %s and %s", len(all), all[0].ID, all[1].ID)
	}
}

func TestOperationBounds(t *testing.T) {
	ctx := soonContext(t)
	admin, term := inTerm(t, one(t))
	for what, o := range map[string]Operation{
		"no kind":         {},
		"a long argument": {Kind: "x", Args: map[string]string{"a": strings.Repeat("x", maxField+1)}},
		"an odd argument": {Kind: "x", Args: map[string]string{"a b": ""}},
	} {
		if _, err := admin.Ask(ctx, o); err == nil {
			t.Errorf("%s: asked", what)
		}
	}
	o := ask(t, admin, "x")
	o.State, o.Error = OperationFailed, strings.Repeat("\x80", 2*maxText) // no start of a character
	for i := range 2 * maxSteps {
		o.Steps = append(o.Steps, OperationStep{Text: fmt.Sprint(i, strings.Repeat("é", maxField))})
	}
	must(t, admin.UpdateOperation(ctx, term, o))
	got, err := admin.Operation(ctx, o.ID)
	must(t, err)
	if len(got.Steps) != maxSteps || !strings.HasPrefix(got.Steps[0].Text, fmt.Sprint(maxSteps)) || len(got.Steps[0].Text) > maxField+40 || len(got.Error) > 3*maxText+40 {
		t.Errorf("%d steps, the first %.30s", len(got.Steps), got.Steps[0].Text)
	}
	for _, state := range []OperationState{OperationAsked, OperationCancelled, "", "odd"} {
		if o.State = state; admin.UpdateOperation(ctx, term, o) == nil {
			t.Errorf("the leader makes it %q", state)
		}
	}
}
