package registry

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farm"
)

// led runs a leader that does nothing but lead; its term comes by the channel.
func led(t *testing.T, c *Client, who string) (<-chan Term, func() error) {
	t.Helper()
	terms := make(chan Term, 1)
	return terms, running(t, func(ctx context.Context) error {
		return c.Lead(ctx, who, MinLease, func(ctx context.Context, term Term) error {
			terms <- term
			<-ctx.Done()
			return nil
		})
	})
}

func TestLeadersFollowEachOther(t *testing.T) {
	c := one(t)
	farm := newFarm()
	admin := c.admin(t, farm)
	ctx := soonContext(t)
	if term, err := admin.Leader(ctx); err != nil || term != (Term{}) {
		t.Fatalf("before any election: %+v, %v", term, err)
	}
	termsA, stopA := led(t, admin, "a")
	a := soon(t, termsA, "term of a")
	termsB, stopB := led(t, c.admin(t, farm), "b")
	if now, err := admin.Leader(ctx); err != nil || now != a || now.Leader != "a" {
		t.Errorf("%+v leads, not %+v (%v)", now, a, err)
	}
	must(t, stopA())
	b := soon(t, termsB, "term of b")
	if b.Number <= a.Number {
		t.Errorf("term %d of b is not above term %d of a", b.Number, a.Number)
	}
	must(t, stopB())
	if now, err := admin.Leader(ctx); err != nil || now != (Term{}) {
		t.Errorf("after both have left: %+v, %v", now, err)
	}
}

func TestLeadReturnsWhatItsWorkReturns(t *testing.T) {
	admin := one(t).admin(t, newFarm())
	broken := errors.New("broken")
	err := admin.Lead(soonContext(t), "a", MinLease, func(context.Context, Term) error { return broken })
	if !errors.Is(err, broken) || errors.Is(err, ErrDeposed) {
		t.Errorf("%v", err)
	}
	if term, err := admin.Leader(soonContext(t)); err != nil || term != (Term{}) {
		t.Errorf("the leadership was not given back: %+v, %v", term, err)
	}
}

// TestDeposedLeaderIsFenced: a leader that was cut off learns of it, and what it
// still tries to write is refused.
func TestDeposedLeaderIsFenced(t *testing.T) {
	c := one(t)
	name := newFarm()
	admin := c.admin(t, name)
	ctx := soonContext(t)
	link := c.link(t)
	ended := make(chan error, 1)
	terms := make(chan Term, 1)
	running(t, func(ctx context.Context) error {
		err := c.admin(t, name, link.Addr()).Lead(ctx, "a", MinLease, func(ctx context.Context, term Term) error {
			terms <- term
			<-ctx.Done()
			return context.Cause(ctx)
		})
		ended <- err
		return err
	})
	old := soon(t, terms, "term of a")
	record, err := ClusterRecord("shop", "topology")
	must(t, err)
	must(t, admin.Write(ctx, old, record, []byte("by a")))
	first, err := admin.RaiseEpoch(ctx, old, "shop", 0)
	must(t, err)
	_, err = admin.AppendInTerm(ctx, old, Entry{Kind: Decision, Who: "a", Text: "while it leads"})
	must(t, err)

	link.Stall()
	successors, _ := led(t, admin, "b")
	now := soon(t, successors, "term of b")
	if err := soon(t, ended, "end of a's term"); !errors.Is(err, ErrDeposed) {
		t.Errorf("a's term ended with %v", err)
	}
	// The link is none of the reasons: the old term is refused over a whole one.
	for _, term := range []Term{old, {}, {Number: 0, key: "nobody"}, {Number: old.Number, key: now.key}} {
		if err := admin.Write(ctx, term, record, []byte("too late")); !errors.Is(err, ErrDeposed) {
			t.Errorf("write in %+v: %v", term, err)
		}
		if _, err := admin.RaiseEpoch(ctx, term, "shop", first); !errors.Is(err, ErrDeposed) {
			t.Errorf("raise in %+v: %v", term, err)
		}
		if _, err := admin.AppendInTerm(ctx, term, Entry{Kind: Decision, Who: "a", Text: "too late"}); !errors.Is(err, ErrDeposed) {
			t.Errorf("append in %+v: %v", term, err)
		}
	}
	if value, err := admin.Read(ctx, record); err != nil || string(value) != "by a" {
		t.Errorf("the record is %q, %v", value, err)
	}
	if epoch, err := admin.Epoch(ctx, "shop"); err != nil || epoch != first {
		t.Errorf("the epoch is %d, %v", epoch, err)
	}
	entries, err := admin.Entries(ctx, 0)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("the journal is %+v", entries)
	}
	must(t, admin.Write(ctx, now, record, []byte("by b")))
	if _, err := admin.RaiseEpoch(ctx, now, "shop", first); err != nil {
		t.Errorf("the new leader: %v", err)
	}
}

// TestEpochOnlyRises: of all who raise at the same time, each value has one
// winner, and the registry saw them one after the other.
func TestEpochOnlyRises(t *testing.T) {
	c := one(t)
	admin := c.admin(t, newFarm())
	ctx := soonContext(t)
	terms, _ := led(t, admin, "a")
	term := soon(t, terms, "term")
	const workers, each = 8, 15
	winners := make([][]farm.Epoch, workers)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			for from := farm.Epoch(0); len(winners[i]) < each; {
				raised, err := admin.RaiseEpoch(ctx, term, "shop", from)
				var moved *EpochMovedError
				switch {
				case err == nil:
					if raised != from+1 {
						t.Errorf("raised from %d to %d", from, raised)
					}
					winners[i] = append(winners[i], raised)
					from = raised
				case errors.As(err, &moved):
					if moved.Now <= from {
						t.Errorf("from %d it is said to have moved to %d", from, moved.Now)
						return
					}
					from = moved.Now
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	won := slices.Concat(winners...)
	for i := range winners {
		if !slices.IsSorted(winners[i]) {
			t.Errorf("worker %d won %v", i, winners[i])
		}
	}
	slices.Sort(won)
	for i, epoch := range won {
		if epoch != farm.Epoch(i+1) {
			t.Fatalf("the winners' values are %v", won)
		}
	}
	// What the registry itself remembers.
	key := admin.keys.epoch("shop")
	last := ""
	seen := 0
	watch, stop := context.WithCancel(ctx)
	defer stop()
	first, err := admin.etcd.Get(ctx, key)
	must(t, err)
	for response := range admin.etcd.Watch(watch, key, clientv3.WithRev(first.Kvs[0].CreateRevision)) {
		must(t, response.Err())
		for _, event := range response.Events {
			value := string(event.Kv.Value)
			if len(value) < len(last) || len(value) == len(last) && value <= last {
				t.Errorf("%s came after %s", value, last)
			}
			last = value
			seen++
		}
		if seen >= workers*each {
			break
		}
	}
	if seen != workers*each {
		t.Errorf("%d changes for %d raises", seen, workers*each)
	}
}

func TestEpochBounds(t *testing.T) {
	admin := one(t).admin(t, newFarm())
	ctx := soonContext(t)
	terms, _ := led(t, admin, "a")
	term := soon(t, terms, "term")
	if epoch, err := admin.Epoch(ctx, "shop"); err != nil || epoch != 0 {
		t.Errorf("an epoch that never was: %d, %v", epoch, err)
	}
	var moved *EpochMovedError
	if _, err := admin.RaiseEpoch(ctx, term, "shop", 7); !errors.As(err, &moved) || moved.Now != 0 || moved.Expected != 7 {
		t.Errorf("raise from 7 where there is none: %v", err)
	}
	if _, err := admin.RaiseEpoch(ctx, term, "shop", farm.MaxEpoch); err == nil {
		t.Error("raised beyond the last epoch")
	}
	if _, err := admin.RaiseEpoch(ctx, term, "shop/epoch", 0); err == nil {
		t.Error("a cluster's name with a slash")
	}
	if _, err := ClusterRecord("shop", "epoch"); err == nil {
		t.Error("the epoch can be written as a record")
	}
	for _, text := range []string{"", "0", "-1", "seven", "9007199254740992", "18446744073709551616"} {
		_, err := admin.etcd.Put(ctx, admin.keys.epoch("shop"), text)
		must(t, err)
		if epoch, err := admin.Epoch(ctx, "shop"); err == nil {
			t.Errorf("%q is epoch %d", text, epoch)
		}
	}
	if err := admin.Lead(ctx, "a", time.Millisecond, nil); err == nil {
		t.Error("a lease of a millisecond")
	}
}
