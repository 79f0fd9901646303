package daemon

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"

	"farmhand/internal/registry"
	"farmhand/scaler/internal/farmfile"
)

// TestNobodyWaitsUntilItCanBeRead: a leader whose registry takes its time with what
// people read goes on, and takes its own last word for what stands there. All
// answers are written in the end, of views the newest, and before an answer what was
// shown before it.
func TestNobodyWaitsUntilItCanBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written []string
		busy := make(chan struct{})
		refuse := true
		n := newNotices(nil, registry.Term{}, zap.NewNop())
		n.view = func(context.Context, []byte) error { <-busy; written = append(written, "view"); return nil }
		n.operation = func(_ context.Context, o registry.Operation) error {
			if refuse {
				refuse = false
				return registry.ErrUnavailable
			}
			written = append(written, o.ID+" "+string(o.State))
			return nil
		}
		l := &leader{
			farm: &farmfile.Farm{}, prober: &prober{}, notices: n, journal: newJournal(nil, registry.Term{}, zap.NewNop()), errands: newErrands(t.Context(), func() {}),
			wake: make(chan struct{}, 1), answered: map[string]registry.Operation{}, kept: []byte("{}"),
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- n.run(ctx) }()

		asked := []registry.Operation{{ID: "1", Kind: "switchover", State: registry.OperationAsked}}
		m := &moment{operations: l.latest(asked)}
		must(t, l.show(m, true))
		synctest.Wait() // the first view is on its way
		must(t, l.answer(t.Context(), m, m.operations[0], waits("new writes wait")))
		must(t, l.show(m, true))
		m.operations = l.latest(asked)
		if o := m.operations[0]; o.State != registry.OperationRunning || len(o.Steps) != 1 {
			t.Errorf("the leader has forgotten what it answered: %+v", o)
		}
		must(t, l.answer(t.Context(), m, m.operations[0], waits("new writes wait")))
		must(t, l.answer(t.Context(), m, m.operations[0], finished("db2 is the primary")))
		if _, waits := (&moment{operations: l.latest(asked)}).operation(func(registry.Operation) bool { return true }); waits {
			t.Error("what was done would be done again")
		}
		if len(written) > 0 {
			t.Errorf("%q were written before the registry had the time", written)
		}
		close(busy)
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if want := []string{"view", "view", "1 running", "1 done"}; !slices.Equal(written, want) {
			t.Errorf("written were %q, want %q", written, want)
		}
		if l.latest([]registry.Operation{{ID: "1", State: registry.OperationCancelled}}); len(l.answered) > 0 {
			t.Errorf("%v is kept of an operation that has ended", l.answered)
		}
	})
}
