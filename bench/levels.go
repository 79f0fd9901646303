package main

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// levels of consistency, the cheapest first: the others are measured by it.
var levels = []string{"eventual", "session", "farm", "strict"}

// writes is how many transactions a second others make meanwhile, so that
// replicas are a little behind.
var writes = []int{0, 50, 500}

// runLevels compares the levels of consistency by sessions of 20 point selects.
func runLevels(ctx context.Context, seconds, rounds int) (string, error) {
	targets, stop, err := setUp(ctx)
	defer stop()
	if err != nil {
		return "", err
	}
	proxy := targets[len(targets)-1]
	var b strings.Builder
	b.WriteString("| writes/s of others | clients |")
	for _, level := range levels {
		fmt.Fprintf(&b, " %s |", level)
	}
	b.WriteString("\n|---|---|---|---|---|---|\n")
	for _, rate := range writes {
		for _, n := range []int{1, 16} {
			rates := make([][]float64, len(levels))
			cpu := make([][]float64, len(levels))
			for round := range rounds {
				for i, level := range levels {
					fmt.Fprintf(os.Stderr, "%d writes/s, %d clients, round %d of %d: %s\n", rate, n, round+1, rounds, level)
					r, err := measureLevel(ctx, targets[0], proxy, level, rate, n, seconds)
					if err != nil {
						return b.String(), err
					}
					rates[i], cpu[i] = append(rates[i], r.rate), append(cpu[i], r.cpu)
				}
			}
			fmt.Fprintf(&b, "| %d | %d |", rate, n)
			for i := range levels {
				fmt.Fprintf(&b, " %.0f queries/s (%.2f), %.0f µs CPU |", median(rates[i]), median(rates[i])/median(rates[0]), median(cpu[i]))
			}
			b.WriteString("\n")
		}
	}
	return b.String(), nil
}

// measureLevel measures sessions at a level while another sysbench writes to
// the primary.
func measureLevel(ctx context.Context, direct, proxy target, level string, rate, clients, seconds int) (result, error) {
	if rate > 0 {
		// A single-statement transaction an event. It is stopped when the readers are done.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		writer := sysbench(ctx, direct, 1, 0, "--rate="+fmt.Sprint(rate), "oltp_update_non_index", "run")
		if err := writer.Start(); err != nil {
			return result{}, err
		}
		defer func() {
			cancel()
			_ = writer.Wait() // it was killed
		}()
	}
	return measure(ctx, proxy, load{level, []string{"--db-ps-mode=disable", "bench/session.lua"}, []string{"FARMHAND_LEVEL=" + level}}, clients, seconds)
}
