package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// levels of consistency, the cheapest first: the others are measured by it.
var levels = []string{"eventual", "session", "farm", "strict"}

// writes is how many transactions a second others make meanwhile, so that
// replicas are a little behind.
var writes = []int{0, 50, 500}

// compareLevels compares the levels of consistency by sessions of 20 point
// selects through one proxy.
func (b *bench) compareLevels(ctx context.Context, o options, p *progress) (grid, error) {
	var proxy *subject
	for _, s := range b.subjects {
		if s.name == farmhandName {
			proxy = s
		}
	}
	g := grid{title: "Levels of consistency: queries/s (÷ eventual), CPU µs/query of the proxy", head: append([]string{"writes/s of others", "clients"}, levels...)}
	clients := []int{1, 16}
	p.steps = len(writes) * len(clients) * o.rounds * len(levels)
	for _, rate := range writes {
		for _, n := range clients {
			rates := make([][]float64, len(levels))
			cpu := make([][]float64, len(levels))
			for round := range o.rounds {
				for i, level := range levels {
					p.step("%d writes/s, %d clients, round %d of %d: %s", rate, n, round+1, o.rounds, level)
					s, err := b.measureLevel(ctx, proxy, level, rate, n, time.Duration(o.seconds)*time.Second)
					if err != nil {
						return g, err
					}
					rates[i], cpu[i] = append(rates[i], s.rate), append(cpu[i], s.cpu)
				}
			}
			row := []string{fmt.Sprint(rate), fmt.Sprint(n)}
			for i := range levels {
				q := spreadOf(rates[i]).median
				row = append(row, fmt.Sprintf("%.0f (%.2f), %.0f µs", q, q/spreadOf(rates[0]).median, spreadOf(cpu[i]).median))
			}
			g.rows = append(g.rows, row)
		}
	}
	return g, nil
}

// measureLevel measures sessions at a level while another client writes to the
// primary.
func (b *bench) measureLevel(ctx context.Context, proxy *subject, level string, rate, clients int, length time.Duration) (sample, error) {
	w := workload{
		name: "sessions of 20 at the level " + level, clients: clients, unit: query, path: byTCP, onlyReads: true,
		load: func(ctx context.Context, _ *bench, r run, h hooks) (work, error) {
			return loop{to: r.to, clients: r.clients, statements: pointSelects("/* farmhand: consistency=" + level + " */ "), session: 20}.run(ctx, r.length, h)
		},
	}
	if rate == 0 {
		return b.measure(ctx, w, proxy, length)
	}
	writing, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		nothing := func() error { return nil }
		updates := make([][]byte, 1000)
		for i := range updates {
			updates[i] = command(fmt.Sprintf("UPDATE sbtest1 SET k = k + 1 WHERE id = %d", 1+i*7%tableRows))
		}
		_, err := loop{to: b.primary(), clients: 1, statements: updates, rate: float64(rate)}.run(writing, time.Hour, hooks{nothing, nothing})
		ended <- err
	}()
	s, err := b.measure(ctx, w, proxy, length)
	stop()
	if wrote := <-ended; !errors.Is(wrote, context.Canceled) {
		err = errors.Join(err, fmt.Errorf("the writer: %w", wrote))
	}
	return s, errors.Join(err, b.catchUp(ctx))
}
