package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sort"
	"time"
)

// load is one way of asking.
type load func(ctx context.Context, b *bench, r run, h hooks) (work, error)

// run says where, by how many and how long.
type run struct {
	to      endpoint
	clients int
	length  time.Duration
}

// pointSelects are some statements that each read a row; with the comment in
// front of them.
func pointSelects(comment string) [][]byte {
	random := rand.New(rand.NewPCG(3, 4))
	list := make([][]byte, 1000)
	for i := range list {
		list[i] = command(fmt.Sprintf("%sSELECT c FROM sbtest1 WHERE id=%d", comment, 1+random.IntN(tableRows)))
	}
	return list
}

// inSessions is sessions of n point selects: connect, log in, ask n times,
// leave. The times are the sessions', from the connect to the last answer.
func inSessions(n int) load {
	return func(ctx context.Context, _ *bench, r run, h hooks) (work, error) {
		return loop{to: r.to, clients: r.clients, statements: pointSelects(""), session: n}.run(ctx, r.length, h)
	}
}

// share is the part of haproxy's saturation at which latency is compared.
const share = 0.7

// atShare is point selects that arrive at 70 % of the rate at which as many
// clients saturate haproxy, the same to every subject.
func atShare(ctx context.Context, b *bench, r run, h hooks) (work, error) {
	if b.saturation == 0 {
		if err := b.saturate(ctx, r); err != nil {
			return work{}, fmt.Errorf("haproxy's saturation: %w", err)
		}
	}
	return loop{to: r.to, clients: r.clients, statements: pointSelects(""), rate: share * b.saturation}.run(ctx, r.length, h)
}

// saturate measures how much clients that never pause get through haproxy: the
// median of three runs.
func (b *bench) saturate(ctx context.Context, r run) error {
	for _, s := range b.subjects {
		if s.name != haproxyReads {
			continue
		}
		var rates []float64
		for range 3 {
			nothing := func() error { return nil }
			w, err := loop{to: s.to[byTCP], clients: r.clients, statements: pointSelects("")}.run(ctx, r.length, hooks{nothing, nothing})
			if err != nil {
				return err
			}
			rates = append(rates, w.units/w.elapsed.Seconds())
		}
		sort.Float64s(rates)
		b.saturation = rates[1]
		return nil
	}
	return fmt.Errorf("%s is not among the subjects", haproxyReads)
}
