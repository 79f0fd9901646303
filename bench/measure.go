package main

import (
	"context"
	"fmt"
	"time"
)

// sample is what one run gave. Units are the workload's.
type sample struct {
	rate          float64 // units a second
	p50, p95, p99 float64 // ms
	cpu           float64 // µs of the subject's processes per unit
	farm          float64 // the same with the database servers' and the delay's
	switches      float64 // of the subject's processes, per unit
	peak          float64 // MB resident at most
}

// cell is what a subject did under a workload.
type cell struct {
	samples []sample
	// calls are the subject's system calls per unit, by name and in all; nil if
	// they were not counted.
	calls    map[string]float64
	callsAll float64
	err      error // why there are no more samples
}

// results are the cells by workload and subject.
type results struct {
	workloads []workload // in the order in which they ran
	subjects  []string
	cells     map[string]map[string]*cell // by the workload's title and the subject's name
	idle      *idleSessions
	idleErr   error // why there is no idle
	// saturation is haproxy's rate of which a share was offered; 0 if it was not
	// measured.
	saturation float64
}

func (r *results) cell(w workload, subject string) *cell { return r.cells[w.title()][subject] }

// compare runs workloads on all subjects, round after round, each round beginning
// with another subject. What fails is noted and left out; only the end of ctx
// ends it.
func (b *bench) compare(ctx context.Context, list []workload, o options, p *progress) (*results, error) {
	res := &results{workloads: list, cells: map[string]map[string]*cell{}}
	for _, s := range b.subjects {
		res.subjects = append(res.subjects, s.name)
	}
	length := time.Duration(o.seconds) * time.Second
	for _, w := range list {
		var those []*subject
		cells := map[string]*cell{}
		for _, s := range b.subjects {
			if _, ok := s.at(w.path, w.onlyReads); ok {
				those, cells[s.name] = append(those, s), &cell{}
			}
		}
		res.cells[w.title()] = cells
		for round := range o.rounds {
			for i := range those {
				s := those[(i+round)%len(those)]
				p.step("%s: round %d of %d: %s", w.title(), round+1, o.rounds, s.name)
				c := cells[s.name]
				if c.err != nil {
					continue
				}
				sample, err := b.measure(ctx, w, s, length)
				if ctx.Err() != nil {
					return res, context.Cause(ctx)
				}
				if c.err = err; err == nil {
					c.samples = append(c.samples, sample)
				}
			}
		}
		for _, s := range those {
			c := cells[s.name]
			if !b.counts(w, s, o) {
				continue
			}
			p.step("%s: system calls: %s", w.title(), s.name)
			if c.err != nil {
				continue
			}
			if err := b.countCalls(ctx, w, s, c); err != nil {
				if ctx.Err() != nil {
					return res, context.Cause(ctx)
				}
				c.err = fmt.Errorf("count system calls: %w", err)
			}
		}
	}
	res.saturation = b.saturation
	return res, nil
}

// counts says whether system calls are counted.
func (b *bench) counts(w workload, s *subject, o options) bool {
	to, ok := s.at(w.path, w.onlyReads)
	return ok && len(to.pids) > 0 && b.counter.prepare != nil && (!o.quick || w.name == selectText && w.clients == callClients)
}

// planned is how many steps compare will take.
func (b *bench) planned(list []workload, o options) int {
	n := 0
	for _, w := range list {
		for _, s := range b.subjects {
			if _, ok := s.at(w.path, w.onlyReads); ok {
				n += o.rounds
			}
			if b.counts(w, s, o) {
				n++
			}
		}
	}
	return n
}

// load runs a workload once on a subject.
func (b *bench) load(ctx context.Context, w workload, s *subject, length time.Duration, h hooks) (work, error) {
	to, ok := s.at(w.path, w.onlyReads)
	if !ok {
		return work{}, fmt.Errorf("%s has no such place", s.name)
	}
	if w.before != nil {
		if err := w.before(ctx, b); err != nil {
			return work{}, fmt.Errorf("before the run: %w", err)
		}
	}
	got, err := w.load(ctx, b, run{to, w.clients, length}, h)
	if err == nil && got.units == 0 {
		err = fmt.Errorf("nothing was done in %v", length)
	}
	if err == nil && !w.onlyReads {
		err = b.catchUp(ctx)
	}
	return got, err
}

// measure runs a workload once on a subject and takes its measure.
func (b *bench) measure(ctx context.Context, w workload, s *subject, length time.Duration) (sample, error) {
	to, _ := s.at(w.path, w.onlyReads)
	if err := forgetPeak(to.pids); err != nil {
		return sample{}, err
	}
	servers := b.behindSubjects(w.path)
	var before, used, farmBefore, farmUsed usage
	look := func(own, farm *usage) (err error) {
		if *own, err = usageOf(to.pids); err == nil {
			*farm, err = usageOf(servers)
		}
		return err
	}
	got, err := b.load(ctx, w, s, length, hooks{
		begin: func() error { return look(&before, &farmBefore) },
		end:   func() error { return look(&used, &farmUsed) },
	})
	if err != nil {
		return sample{}, err
	}
	most, err := peak(to.pids)
	if err != nil {
		return sample{}, err
	}
	own, farm := used.since(before), farmUsed.since(farmBefore)
	return sample{
		rate: got.units / got.elapsed.Seconds(),
		p50:  got.times.quantile(0.5), p95: got.times.quantile(0.95), p99: got.times.quantile(0.99),
		cpu:      micro(own.cpu) / got.units,
		farm:     micro(own.cpu+farm.cpu) / got.units,
		switches: float64(own.switches) / got.units,
		peak:     float64(most) / megabyte,
	}, nil
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// countLength is the length of a run in which system calls are counted.
const countLength = time.Second

// countCalls counts a subject's system calls under a workload.
func (b *bench) countCalls(ctx context.Context, w workload, s *subject, c *cell) error {
	to, _ := s.at(w.path, w.onlyReads)
	counting, err := b.counter.prepare(to.pids, b.dir)
	if err != nil {
		return err
	}
	defer counting.close()
	var n calls
	got, err := b.load(ctx, w, s, countLength, hooks{begin: counting.begin, end: func() (err error) {
		n, err = counting.end()
		return err
	}})
	if err != nil {
		return err
	}
	c.callsAll, c.calls = n.all/got.units, map[string]float64{}
	for name, calls := range n.byName {
		c.calls[name] = calls / got.units
	}
	return nil
}
