package control

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"farmhand/internal/enrol"
	"farmhand/internal/farmtest"
	"farmhand/internal/registry"
)

// place is a member with that name at free ports.
func place(t *testing.T, name string) Member {
	t.Helper()
	for {
		first := farmtest.FreePort(t)
		m := Member{
			Name: name, Address: first.Addr().String(), ClientPort: first.Port(),
			PeerPort: farmtest.FreePort(t).Port(), JoinPort: farmtest.FreePort(t).Port(),
		}
		if m.ClientPort != m.PeerPort && m.PeerPort != m.JoinPort && m.JoinPort != m.ClientPort {
			return m // they are free at addresses of their own, so two may be the same
		}
	}
}

func scalerToken(t *testing.T, d Dir, m Member) (token enrol.ScalerToken) {
	t.Helper()
	must(t, d.With(func(c *registry.Client, config Config) (err error) {
		token, _, err = d.NewScalerToken(soonContext(t), c, &config, m, time.Hour)
		return err
	}))
	return token
}

// joined is the directory of a control node that has joined at d's farm and not
// run yet.
func joined(t *testing.T, d Dir, m Member) Dir {
	t.Helper()
	further := Dir{filepath.Join(t.TempDir(), m.Name)}
	_, err := Join(soonContext(t), scalerToken(t, d, m), further)
	must(t, err)
	return further
}

// names are the members in a directory's registry.yaml.
func names(t *testing.T, d Dir) string {
	t.Helper()
	c, err := d.Config()
	must(t, err)
	return strings.Join(c.each(func(m Member) string { return m.Name }), " ")
}

// awaitNames waits until a directory's registry.yaml lists these members.
func awaitNames(t *testing.T, d Dir, want string) {
	t.Helper()
	ctx := soonContext(t)
	for names(t, d) != want {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s lists %q, not %q", d.Path, names(t, d), want)
		}
	}
}

// writer writes to the registry all the time until the test's end or stop, which
// returns how often that was acknowledged.
func writer(t *testing.T, d Dir) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	written, done := 0, make(chan error, 1)
	go func() {
		done <- d.With(func(c *registry.Client, _ Config) error {
			following := make(chan error, 1)
			go func() { following <- c.KeepEndpoints(ctx) }()
			for ctx.Err() == nil {
				_, err := c.Append(context.WithoutCancel(ctx), registry.Entry{Kind: "test", Who: "test", Text: "write"})
				switch {
				case errors.Is(err, registry.ErrUnavailable):
					continue
				case err != nil:
					return errors.Join(err, errors.New("while writing"))
				}
				written++
			}
			if err := <-following; !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})
	}()
	return func() int {
		cancel()
		must(t, <-done)
		return written
	}
}

func count(t *testing.T, d Dir, kind string) (n int) {
	t.Helper()
	must(t, d.With(func(c *registry.Client, _ Config) error {
		entries, err := c.Entries(soonContext(t), 0)
		for _, e := range entries {
			if e.Kind == kind {
				n++
			}
		}
		return err
	}))
	return n
}

// TestOneBecomesThree while a client writes, and goes on without the first; that
// is replaced.
func TestOneBecomesThree(t *testing.T) {
	a := made(t, 1)[0]
	stopA := run(t, a)
	home := filepath.Join(t.TempDir(), "node")
	before, err := enrol.Join(soonContext(t), token(t, a, "web-1"), "web-1", home)
	must(t, err)
	text, err := os.ReadFile(a.ConfigFile())
	must(t, err)
	must(t, os.WriteFile(a.ConfigFile(), append([]byte("# the operator's own\n"), text...), 0o600))
	stop := writer(t, a)

	b := joined(t, a, place(t, "b"))
	if got := names(t, a); got != "a" {
		t.Errorf("one that has not started is listed already: %s", got)
	}
	run(t, b)
	c := joined(t, b, place(t, "c")) // at any of them
	run(t, c)
	for _, d := range []Dir{a, b, c} {
		awaitNames(t, d, "a b c")
		if s, err := d.seat(); err != nil || s != seated {
			t.Errorf("%s: seat %q, %v", d.Path, s, err)
		}
	}
	text, err = os.ReadFile(a.ConfigFile())
	must(t, err)
	if !strings.HasPrefix(string(text), "# the operator's own\n") || !strings.Contains(string(text), "election: 500ms") {
		t.Errorf("the operator's own was not kept:\n%s", text)
	}
	after, err := enrol.Renew(soonContext(t), home)
	must(t, err)
	if len(before.Endpoints) != 1 || len(after.Endpoints) != 3 || len(after.Scalers) != 3 {
		t.Errorf("the node knew %+v and knows %+v", before, after)
	}
	wrote := stop()
	if there := count(t, b, "test"); wrote == 0 || there < wrote {
		t.Errorf("%d writes were acknowledged, %d are there", wrote, there)
	}
	t.Logf("%d writes while it grew", wrote)

	// The first is gone for good. Who knew it only by the time it was alone is told
	// by its file, which was kept.
	stop = writer(t, b)
	must(t, stopA())
	must(t, os.RemoveAll(a.Path))
	if _, err := enrol.Renew(soonContext(t), home); err != nil {
		t.Errorf("the node's renewal without the first: %v", err)
	}
	must(t, b.With(func(client *registry.Client, _ Config) error { return Remove(soonContext(t), client, "a") }))
	awaitNames(t, b, "b c")
	awaitNames(t, c, "b c")
	again := joined(t, c, place(t, "a"))
	run(t, again)
	for _, d := range []Dir{again, b, c} {
		awaitNames(t, d, "a b c")
	}
	wrote += stop()
	if there := count(t, again, "test"); there < wrote {
		t.Errorf("%d writes were acknowledged, %d are there", wrote, there)
	}
	if joins := count(t, again, "control-node-joined"); joins != 3 {
		t.Errorf("%d joins are in the journal", joins)
	}
}

// TestMemberThatNeverStarts is waited for by nobody: neither one that has joined and
// is not run, nor one that was made a learner and is gone.
func TestMemberThatNeverStarts(t *testing.T) {
	d := made(t, 1)[0]
	run(t, d)
	ctx := soonContext(t)
	joined(t, d, place(t, "b"))
	ghost := place(t, "ghost")
	joined(t, d, ghost)
	must(t, d.With(func(c *registry.Client, config Config) error {
		members, err := takeSeat(ctx, c, ghost, zap.NewNop())
		must(t, err)
		if again, err := takeSeat(ctx, c, ghost, zap.NewNop()); err != nil || !slices.Equal(members, again) || len(again) != 2 {
			t.Errorf("taken again: %v, %v", again, err)
		}
		for range 10 {
			_, err := c.Append(ctx, registry.Entry{Kind: "test", Who: "test", Text: "write"})
			must(t, err)
		}
		if node, err := enrol.Join(ctx, token(t, d, "web-1"), "web-1", filepath.Join(t.TempDir(), "node")); err != nil || len(node.Endpoints) != 1 {
			t.Errorf("a node is told of %v, %v", node.Endpoints, err)
		}
		return nil
	}))
	// Nor is it in the way of another.
	other := joined(t, d, place(t, "c"))
	run(t, other)
	awaitNames(t, d, "a c")
	must(t, d.With(func(c *registry.Client, _ Config) error {
		must(t, Remove(ctx, c, "ghost"))
		must(t, Remove(ctx, c, "b"))
		if err := Remove(ctx, c, "b"); !errors.Is(err, registry.ErrUnknownScaler) {
			t.Errorf("removed again: %v", err)
		}
		seats, err := c.Seats(ctx)
		if len(seats) != 2 {
			t.Errorf("the seats are %+v", seats)
		}
		return err
	}))
}

// TestJoinIsTakenUpAgain: one that ends at any step on its way in goes on from there.
func TestJoinIsTakenUpAgain(t *testing.T) {
	d := made(t, 1)[0]
	run(t, d)
	other := joined(t, d, place(t, "b"))
	for _, step := range []string{"as a learner", "it has a vote"} {
		ctx, cancel := context.WithCancel(soonContext(t))
		reached := false
		log := zap.New(zapcore.RegisterHooks(
			zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(io.Discard), zap.InfoLevel),
			func(e zapcore.Entry) error {
				if strings.HasSuffix(e.Message, step) {
					reached = true
					cancel()
				}
				return nil
			}))
		if err := Run(ctx, other, log, func(Running) { t.Errorf("it is ready after %q", step) }); err != nil || !reached {
			t.Errorf("at %q it ended with %v, %v", step, reached, err)
		}
		cancel()
		if s, err := other.seat(); err != nil || s != joining {
			t.Errorf("after %q: seat %q, %v", step, s, err)
		}
	}
	run(t, other)
	awaitNames(t, d, "a b")
	must(t, d.With(func(c *registry.Client, _ Config) error {
		seats, err := c.Seats(soonContext(t))
		if len(seats) != 2 || seats[0].Learner || seats[1].Learner {
			t.Errorf("the seats are %+v", seats)
		}
		return err
	}))
}

// TestRemovedOneEnds, and the last one cannot be removed.
func TestRemovedOneEnds(t *testing.T) {
	d := made(t, 1)[0]
	run(t, d)
	ctx := soonContext(t)
	other := joined(t, d, place(t, "b"))
	ready, ended := make(chan Running, 1), make(chan error, 1)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ended <- Run(running, other, zap.NewNop(), func(r Running) { ready <- r }) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	must(t, d.With(func(c *registry.Client, _ Config) error { return Remove(ctx, c, "b") }))
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended as if it had been asked to")
		}
		t.Logf("it ended with: %v", err)
	case <-ctx.Done():
		t.Fatal("the removed one goes on")
	}
	if err := Run(ctx, other, zap.NewNop(), func(Running) { t.Error("it runs again") }); err == nil {
		t.Error("it was started again")
	}
	must(t, d.With(func(c *registry.Client, _ Config) error {
		if err := Remove(ctx, c, "a"); err == nil {
			t.Error("the last one was removed")
		}
		return nil
	}))
}

// TestLostDataIsNotMadeUpFor: a member must not come back without what it promised.
func TestLostDataIsNotMadeUpFor(t *testing.T) {
	d := made(t, 1)[0]
	must(t, run(t, d)())
	must(t, os.RemoveAll(d.data()))
	if err := Run(soonContext(t), d, zap.NewNop(), func(Running) { t.Error("it runs") }); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("without its data: %v", err)
	}
}
