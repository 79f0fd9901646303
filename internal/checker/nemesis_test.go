package checker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// fault breaks something of a world, and returns what was broken and the way
// back.
type fault func(t *testing.T, w *world, r *rand.Rand) (what string, heal func())

// faults are those that any farm must bear. A seed's sequence of them is the same in every run;
// what the clients do meanwhile is not.
var faults = []fault{
	delayReplica, delayReplica, stopApplier, killReplica, freezeReplica, cutReplication, stallReplication,
	cutProxyLink, stallProxyLink, drainReplica, killProxy, killPrimary,
}

func pick(w *world, r *rand.Rand) (int, *farmtest.Server) {
	i := r.IntN(len(w.farm.Replicas()))
	return i, w.farm.Replica(i)
}

func delayReplica(t *testing.T, w *world, r *rand.Rand) (string, func()) {
	_, s := pick(w, r)
	delay := time.Duration(1+r.IntN(3)) * time.Second
	s.SetDelay(t, delay)
	return fmt.Sprintf("%s applies %v late", s.Name(), delay), func() { s.SetDelay(t, 0) }
}

func stopApplier(t *testing.T, w *world, r *rand.Rand) (string, func()) {
	_, s := pick(w, r)
	if s.Flavor() == farm.MySQL {
		s.Exec(t, "STOP REPLICA SQL_THREAD")
	} else {
		s.Exec(t, "STOP SLAVE SQL_THREAD")
	}
	return s.Name() + " applies nothing", func() { s.StartReplication(t) }
}

func killReplica(t *testing.T, w *world, r *rand.Rand) (string, func()) {
	_, s := pick(w, r)
	s.Kill9(t)
	return s.Name() + " is killed", func() { s.Restart(t) }
}

func freezeReplica(t *testing.T, w *world, r *rand.Rand) (string, func()) {
	_, s := pick(w, r)
	s.Pause(t)
	return s.Name() + " is frozen", func() { s.Continue(t) }
}

func cutReplication(_ *testing.T, w *world, r *rand.Rand) (string, func()) {
	_, s := pick(w, r)
	w.replication[s].Cut()
	return s.Name() + " is cut off from the primary", w.replication[s].Restore
}

func stallReplication(_ *testing.T, w *world, r *rand.Rand) (string, func()) {
	_, s := pick(w, r)
	w.replication[s].Stall()
	return s.Name() + " hears nothing of the primary", w.replication[s].Restore
}

func cutProxyLink(_ *testing.T, w *world, r *rand.Rand) (string, func()) {
	p, s := r.IntN(proxies), w.farm.Servers()[r.IntN(len(w.farm.Servers()))]
	w.proxies[p].links[s].Cut()
	return fmt.Sprintf("proxy %d is cut off from %s", p, s.Name()), w.proxies[p].links[s].Restore
}

func stallProxyLink(_ *testing.T, w *world, r *rand.Rand) (string, func()) {
	p, s := r.IntN(proxies), w.farm.Servers()[r.IntN(len(w.farm.Servers()))]
	w.proxies[p].links[s].Stall()
	return fmt.Sprintf("proxy %d hears nothing of %s", p, s.Name()), func() {
		// A route that comes back finds its old connections dead or alive.
		if r.IntN(2) == 0 {
			w.proxies[p].links[s].Reset()
		}
		w.proxies[p].links[s].Restore()
	}
}

func drainReplica(t *testing.T, w *world, r *rand.Rand) (string, func()) {
	i, s := pick(w, r)
	p := r.IntN(proxies)
	removed := r.IntN(2) == 0
	w.topology(t, w.proxies[p], func(c *farm.Cluster) {
		if removed {
			c.Replicas = append(c.Replicas[:i:i], c.Replicas[i+1:]...)
		} else {
			c.Replicas[i].State = farm.Draining
		}
	})
	return fmt.Sprintf("proxy %d is told to do without %s (removed: %v)", p, s.Name(), removed), func() { w.topology(t, w.proxies[p], nil) }
}

func killProxy(t *testing.T, w *world, r *rand.Rand) (string, func()) {
	p := r.IntN(proxies)
	w.proxies[p].kill()
	return fmt.Sprintf("proxy %d is killed", p), func() {
		w.proxies[p].start(t)
		w.proxies[p].await(t)
	}
}

func killPrimary(t *testing.T, w *world, _ *rand.Rand) (string, func()) {
	w.farm.Primary().Kill9(t)
	return "the primary is killed", func() { w.farm.Primary().Restart(t) }
}

// changePrimary kills the primary, promotes a replica in its place and makes a
// replica of the old one. The proxies learn it one after the other.
func changePrimary(t *testing.T, w *world, r *rand.Rand) (string, func()) {
	// A replica that has just come back may not have received again what it, alone,
	// has acknowledged.
	w.farm.WaitCaughtUp(t)
	old := w.farm.Primary()
	old.Kill9(t)
	w.farm.Promote(t)
	what := fmt.Sprintf("%s is killed, %s takes its place", old.Name(), w.farm.Primary().Name())
	var from *farmtest.Server
	for _, s := range w.farm.Replicas() {
		if s != old {
			w.follow(t, s)
			from = s
		}
	}
	for _, p := range r.Perm(proxies) {
		w.topology(t, w.proxies[p], nil)
	}
	return what, func() {
		w.farm.Rebuild(t, old, from)
		w.follow(t, old)
	}
}

// torment breaks and heals one thing after the other until ctx ends, and says
// what it did.
func (w *world) torment(ctx context.Context, t *testing.T, r *rand.Rand, faults []fault, say func(string)) {
	for began := time.Now(); ctx.Err() == nil; {
		pause(ctx, time.Duration(r.IntN(300))*time.Millisecond)
		n := r.IntN(len(faults))
		long := time.Duration(300+r.IntN(1700)) * time.Millisecond
		if ctx.Err() != nil {
			return
		}
		what, heal := faults[n](t, w, r)
		say(fmt.Sprintf("%v: %s", time.Since(began).Round(time.Millisecond), what))
		pause(ctx, long)
		heal()
	}
}
