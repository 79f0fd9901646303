package decide_test

import (
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"farmhand/scaler/internal/decide"
)

var start = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// drawPolicy draws what farmfile would let pass.
func drawPolicy(t *rapid.T) decide.Policy {
	p := decide.Policy{Primary: rapid.Bool().Draw(t, "primary"), Zone: time.UTC}
	p.Min = rapid.IntRange(1, 6).Draw(t, "min")
	p.Max = p.Min + rapid.SampledFrom([]int{0, 1, 2, 4, 8, 12}).Draw(t, "more")
	if p.Max == p.Min {
		return p
	}
	for i := range rapid.SampledFrom([]int{0, 1, 1, 2, 3}).Draw(t, "metrics") {
		m := decide.Metric{
			Name: "m" + strconv.Itoa(i), Unit: decide.Number, Spread: rapid.Bool().Draw(t, "spread"),
			Out: rapid.Float64Range(0.01, 100).Draw(t, "out"), Window: seconds(t, "window", 20, 300),
			OutCooldown: seconds(t, "out cooldown", 0, 600), InCooldown: seconds(t, "in cooldown", 0, 900),
			OutStep: rapid.IntRange(1, 5).Draw(t, "out step"), InStep: rapid.IntRange(1, 5).Draw(t, "in step"),
		}
		m.In = m.Out * oneOf(t, "in", 0.01, 0.1, 0.3, 0.5, 0.7, 0.9)
		p.Metrics = append(p.Metrics, m)
	}
	if rapid.Bool().Draw(t, "scheduled") {
		p.Schedule = []decide.Schedule{{
			From: rapid.IntRange(0, 1439).Draw(t, "from"), To: rapid.IntRange(1, 1440).Draw(t, "to"),
			AtLeast: rapid.IntRange(p.Min+1, p.Max).Draw(t, "at least"),
		}}
	}
	return p
}

func seconds(t *rapid.T, name string, low, high int) time.Duration {
	return time.Duration(rapid.IntRange(low, high).Draw(t, name)) * time.Second
}

// oneOf draws evenly; ranges of numbers are drawn from their ends above all.
func oneOf(t *rapid.T, name string, values ...float64) float64 {
	return rapid.SampledFrom(values).Draw(t, name)
}

// check tries a property often enough to meet what is rare.
func check(t *testing.T, property func(*rapid.T)) {
	for range 20 {
		rapid.Check(t, property)
	}
}

// drawPicture draws any picture at the time start: half of them calm, so that
// there is something to decide about the load, half as bad as can be.
func drawPicture(t *rapid.T, p decide.Policy) decide.Picture {
	var picture decide.Picture
	calm := rapid.Bool().Draw(t, "calm")
	ago := func(name string) time.Time { return start.Add(-seconds(t, name, 0, 3600)) }
	n := rapid.IntRange(p.Min, p.Max+2).Draw(t, "servers")
	if !calm {
		n = rapid.IntRange(0, 18).Draw(t, "servers")
		picture.LastIn = ago("last in")
	}
	for i := range n {
		s := decide.Server{Name: "s" + strconv.Itoa(i), State: decide.Ready, Primary: p.Primary && i == 0}
		s.Source = rapid.IntRange(0, 4).Draw(t, "source") == 0
		if !calm {
			s.State = decide.State(rapid.IntRange(int(decide.Launching), int(decide.Lost)).Draw(t, "state"))
		}
		if s.State != decide.Launching && s.State != decide.Warming {
			s.ReadyAt = ago("ready")
		}
		if calm {
			s.ReadyAt = s.ReadyAt.Add(-time.Hour)
		}
		picture.Servers = append(picture.Servers, s)
	}
	picture.Wanted = max(0, n-max(0, rapid.IntRange(-6, 2).Draw(t, "back")))
	if !calm {
		picture.Wanted = rapid.IntRange(0, 20).Draw(t, "wanted")
	}
	for _, m := range p.Metrics {
		var samples []decide.Sample
		if calm || rapid.IntRange(0, 5).Draw(t, "known") > 0 {
			level := m.In * oneOf(t, "level", 0, 0.3, 0.6, 0.8, 0.9, 0.99)
			if rapid.IntRange(0, 3).Draw(t, "high") == 0 {
				level = m.Out * oneOf(t, "level", 0.995, 1.01, 1.2, 2, 10)
			}
			silent := 0
			if !calm || rapid.IntRange(0, 3).Draw(t, "quiet") == 0 {
				silent = rapid.IntRange(0, 1).Draw(t, "silent")
			}
			uneven := !calm && rapid.Bool().Draw(t, "uneven")
			for at := start.Add(-m.Window); !at.After(start); at = at.Add(10 * time.Second) {
				wave := 1.0
				if uneven {
					wave = oneOf(t, "wave", 0.5, 0.9, 1, 1.1, 1.5)
				}
				samples = append(samples, decide.Sample{At: at, Value: level * wave, Silent: silent})
			}
		}
		picture.Readings = append(picture.Readings, samples)
	}
	return picture
}

func tally(p decide.Picture, d decide.Decision) (live, launched int, terminated []decide.Server) {
	for _, s := range p.Servers {
		if s.State >= decide.Launching && s.State <= decide.Unwell {
			live++
		}
		if slices.ContainsFunc(d.Actions, func(a decide.Action) bool { return a.Kind == decide.Terminate && a.Server == s.Name }) {
			terminated = append(terminated, s)
		}
	}
	for _, a := range d.Actions {
		launched += a.Count
	}
	return live, launched, terminated
}

// TestEveryDecisionIsSafe: whatever is seen, what is done is within bounds and
// harms nobody.
func TestEveryDecisionIsSafe(t *testing.T) {
	ins, outs := 0, 0
	check(t, func(t *rapid.T) {
		policy := drawPolicy(t)
		picture := drawPicture(t, policy)
		d := decide.Decide(picture, policy, start)
		live, launched, terminated := tally(picture, d)
		ins, outs = ins+len(terminated), outs+launched
		if launched > 0 && len(terminated) > 0 {
			t.Errorf("it launches %d and terminates %v at once", launched, terminated)
		}
		if launched > 0 && live+launched > policy.Max {
			t.Errorf("%d launched to %d, more than %d", launched, live, policy.Max)
		}
		if len(terminated) > 0 && live-len(terminated) < policy.Min {
			t.Errorf("%v of %d terminated, fewer than %d are left", terminated, live, policy.Min)
		}
		switch will := live + launched - len(terminated); {
		case d.Wanted > will || d.Wanted > policy.Max || d.Wanted < policy.Min:
			t.Errorf("%d wanted, but it will be %d%+d%+d", d.Wanted, live, launched, -len(terminated))
		case d.Wanted < will && live <= policy.Max && (launched > 0 || picture.Wanted == 0 || picture.Wanted >= live):
			t.Errorf("%d wanted, and it will be %d, though all that were wanted are there", d.Wanted, will)
		}
		if live+launched < policy.Min {
			t.Errorf("%d servers and %d launched are fewer than %d", live, launched, policy.Min)
		}
		left := 0 // that can serve reads
		for _, s := range picture.Servers {
			if s.State == decide.Ready && !s.Primary {
				left++
			}
		}
		for _, s := range terminated {
			if s.Primary || s.Source || s.State != decide.Ready {
				t.Errorf("it terminates %+v", s)
			}
			left--
		}
		if len(terminated) > 0 {
			if left < 1 {
				t.Errorf("it terminates the last replica")
			}
			for i, samples := range picture.Readings {
				if len(samples) == 0 || slices.ContainsFunc(samples, func(s decide.Sample) bool { return s.Silent > 0 }) {
					t.Errorf("it terminates %v with metric %d unknown", terminated, i)
				}
			}
			for i, m := range policy.Metrics {
				value := mean(picture.Readings[i])
				if value > m.Out {
					t.Errorf("it terminates %v though %s is %v, above %v", terminated, m.Name, value, m.Out)
				}
				if before, after := policyCarriers(policy, live), policyCarriers(policy, live-len(terminated)); m.Spread && value*before/after >= m.Out {
					t.Errorf("%s is %v of at most %v; after that it would be %v", m.Name, value, m.Out, value*before/after)
				}
			}
		}
		if len(d.Reasons) == 0 || d.Reasons[0].Kind != decide.Seen {
			t.Errorf("no reasons: %v", d.Reasons)
		}
		for _, a := range d.Actions {
			if a.Why == "" {
				t.Errorf("%v has no reason", a)
			}
		}
	})
	if ins == 0 || outs == 0 {
		t.Errorf("%d launched and %d terminated: nothing was tried", outs, ins)
	}
}

func mean(samples []decide.Sample) float64 {
	sum := 0.0
	for _, s := range samples {
		sum += s.Value
	}
	return sum / float64(len(samples))
}

func policyCarriers(p decide.Policy, n int) float64 {
	if p.Primary {
		n--
	}
	return float64(max(n, 1))
}

// TestMoreLoadNeverGivesFewer: of two pictures that differ in a metric only, the
// one with more of it never ends with fewer servers.
func TestMoreLoadNeverGivesFewer(t *testing.T) {
	differ := 0
	check(t, func(t *rapid.T) {
		policy := drawPolicy(t)
		picture := drawPicture(t, policy)
		before := decide.Decide(picture, policy, start)
		more := picture
		more.Readings = nil
		for _, samples := range picture.Readings {
			samples = slices.Clone(samples)
			factor, all := oneOf(t, "factor", 1, 1.01, 1.3, 2, 5), rapid.Bool().Draw(t, "all")
			for i := range samples {
				if all || rapid.Bool().Draw(t, "this one") {
					samples[i].Value *= factor
				}
			}
			more.Readings = append(more.Readings, samples)
		}
		after := decide.Decide(more, policy, start)
		_, launched, gone := tally(picture, before)
		_, moreLaunched, moreGone := tally(picture, after)
		if after.Wanted < before.Wanted || moreLaunched-len(moreGone) < launched-len(gone) {
			t.Errorf("%d with less, %d with more load\n%v\n%v", before.Wanted, after.Wanted, before.Reasons, after.Reasons)
		}
		if after.Wanted != before.Wanted {
			differ++
		}
	})
	if differ == 0 {
		t.Error("no load made a difference")
	}
}

// TestDecidingChangesNothing: the same question has the same answer.
func TestDecidingChangesNothing(t *testing.T) {
	check(t, func(t *rapid.T) {
		policy := drawPolicy(t)
		picture := drawPicture(t, policy)
		first := decide.Decide(picture, policy, start)
		if second := decide.Decide(picture, policy, start); !reflect.DeepEqual(first, second) {
			t.Errorf("first %+v\nthen %+v", first, second)
		}
	})
}

// TestAConstantLoadSettles: with a load that stays, the number of servers does
// so too, for ever, after it has gone at most once up and then once down, or the
// other way.
func TestAConstantLoadSettles(t *testing.T) {
	moved := 0
	rapid.Check(t, func(t *rapid.T) {
		policy := drawPolicy(t)
		policy.Schedule = nil
		w := newWorld(policy, start, rapid.IntRange(policy.Min, policy.Max).Draw(t, "servers"))
		for _, m := range policy.Metrics {
			v := value{amount: m.Out * oneOf(t, "level", 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.01, 1.5), total: m.Spread}
			if m.Spread {
				v.amount *= float64(policy.Max)
			}
			w.values[m.Name] = v
		}
		turns, last := 0, decide.ActionKind("")
		const long = 6 * 3600 / 10 // ticks; the longest cooldown is a quarter of an hour
		for i := range 2 * long {
			for _, a := range w.tick().Actions {
				moved++
				if i >= long {
					t.Fatalf("after hours of the same load: %+v", a)
				}
				if last != "" && a.Kind != last {
					turns++
				}
				last = a.Kind
			}
		}
		if turns > 1 {
			t.Errorf("it changed its mind %d times", turns)
		}
	})
	if moved == 0 {
		t.Error("no load moved anything")
	}
}
