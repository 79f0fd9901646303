package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// spread is the median of some values with their range.
type spread struct{ median, min, max float64 }

// spreadOf is that of at least one value; the median of an even number is the
// mean of the middle two.
func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{(v[(n-1)/2] + v[n/2]) / 2, v[0], v[n-1]}
}

// of is the spread of one figure of the samples.
func (c *cell) of(figure func(sample) float64) spread {
	values := make([]float64, len(c.samples))
	for i, s := range c.samples {
		values[i] = figure(s)
	}
	return spreadOf(values)
}

// The figures of a sample.
func rateOf(s sample) float64     { return s.rate }
func p50Of(s sample) float64      { return s.p50 }
func p95Of(s sample) float64      { return s.p95 }
func p99Of(s sample) float64      { return s.p99 }
func cpuOf(s sample) float64      { return s.cpu }
func farmOf(s sample) float64     { return s.farm }
func switchesOf(s sample) float64 { return s.switches }
func peakOf(s sample) float64     { return s.peak }

// number has three significant digits, and all before the point.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case v == 0:
		return "0"
	case math.Abs(v) >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	return strconv.FormatFloat(v, 'f', min(digits, 4), 64)
}

func (s spread) String() string {
	if s.min == s.max {
		return number(s.median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.median), number(s.min), number(s.max))
}

// grid is a table to print.
type grid struct {
	title string
	head  []string
	rows  [][]string
	notes []string
}

// markdown is the grid for a document.
func (g grid) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n\n", g.title)
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(g.head)
	b.WriteString(strings.Repeat("|---", len(g.head)) + "|\n")
	for _, row := range g.rows {
		line(row)
	}
	for _, note := range g.notes {
		b.WriteString("\n" + note + "\n")
	}
	return b.String() + "\n"
}

// plain is the grid for a terminal.
func (g grid) plain() string {
	widths := make([]int, len(g.head))
	for _, row := range append([][]string{g.head}, g.rows...) {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	var b strings.Builder
	b.WriteString(g.title + "\n")
	for _, row := range append([][]string{g.head}, g.rows...) {
		line := ""
		for i, text := range row {
			line += text + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2)
		}
		b.WriteString("  " + strings.TrimRight(line, " ") + "\n")
	}
	for _, note := range g.notes {
		b.WriteString("  " + note + "\n")
	}
	return b.String() + "\n"
}

// figures is the table of everything that was measured.
func (r *results) figures(seconds, rounds int) grid {
	g := grid{
		title: fmt.Sprintf("Median (range) of %d rounds of %d s", rounds, seconds),
		head: []string{
			"workload, clients", "subject", "unit", "units/s", "p50 / p95 / p99 ms", "CPU µs/unit", "with servers",
			"switches/unit", "system calls/unit", "peak MB",
		},
	}
	for _, w := range r.workloads {
		for _, name := range r.subjects {
			c := r.cell(w, name)
			if c == nil {
				continue
			}
			row := []string{w.title(), name, string(w.unit)}
			if len(c.samples) > 0 {
				row = append(
					row, c.of(rateOf).String(),
					number(c.of(p50Of).median)+" / "+number(c.of(p95Of).median)+" / "+number(c.of(p99Of).median),
					c.of(cpuOf).String(), number(c.of(farmOf).median), number(c.of(switchesOf).median), "–", number(c.of(peakOf).median),
				)
				if name == directName {
					row[5], row[7], row[9] = "–", "–", "–"
				}
				if c.calls != nil {
					row[8] = number(c.callsAll)
				}
			} else {
				failed := "–" // the run was ended
				if c.err != nil {
					failed = "failed"
				}
				row = append(row, failed, "", "", "", "", "", "")
			}
			if c.err != nil {
				g.notes = append(g.notes, fmt.Sprintf("%s: %s: %.500v", w.title(), name, c.err))
			}
			g.rows = append(g.rows, row)
		}
	}
	if r.saturation > 0 {
		g.notes = append(g.notes, fmt.Sprintf("%.0f %% of haproxy's rate: of %.0f/s, that of %s with 16 clients that never pause.", 100*share, r.saturation, haproxyReads))
	}
	return g
}

// failed says whether anything could not be measured.
func (r *results) failed() bool {
	for _, cells := range r.cells {
		for _, c := range cells {
			if c.err != nil {
				return true
			}
		}
	}
	return r.idleErr != nil
}

// ratio is the spread of one cell's figure over another's, round by round.
func ratio(a, b *cell, figure func(sample) float64) (spread, bool) {
	if a == nil || b == nil {
		return spread{}, false
	}
	var values []float64
	for i := range min(len(a.samples), len(b.samples)) {
		values = append(values, figure(a.samples[i])/figure(b.samples[i]))
	}
	if len(values) == 0 {
		return spread{}, false
	}
	return spreadOf(values), true
}

// versus compares the second proxy with the first.
func (r *results) versus() grid {
	g := grid{title: farmhandVsName + " ÷ " + farmhandName + ", round by round", head: []string{"workload, clients", "rate", "p99", "CPU/unit", "peak"}}
	for _, w := range r.workloads {
		a, b := r.cell(w, farmhandVsName), r.cell(w, farmhandName)
		row := []string{w.title()}
		for _, figure := range []func(sample) float64{rateOf, p99Of, cpuOf, peakOf} {
			if s, ok := ratio(a, b, figure); ok {
				row = append(row, s.String())
			}
		}
		if len(row) == len(g.head) {
			g.rows = append(g.rows, row)
		}
	}
	return g
}
