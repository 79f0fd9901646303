package simulate

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Bounds of a trace.
const (
	maxTraceBytes = 16 << 20
	maxColumns    = 64
	maxSpan       = 31 * 24 * time.Hour
	maxLoad       = 1e9
	maxProblems   = 20 // that are told at a time
)

// Trace is a load over time.
type Trace struct {
	Times   []time.Time
	columns map[string][]float64 // by ROLE.WHAT; NaN where nothing was measured
}

// Problem is what is wrong with a trace.
type Problem struct {
	Line, Column int // from 1
	Message      string
}

// TraceError is everything that is wrong with a trace.
type TraceError struct {
	Name     string
	Problems []Problem
}

func (e *TraceError) Error() string {
	var lines []string
	for _, p := range e.Problems {
		lines = append(lines, fmt.Sprintf("%s:%d:%d: %s", e.Name, p.Line, p.Column, p.Message))
	}
	return strings.Join(lines, "\n")
}

// ReadFile reads the trace at path. An error about what is in it is a
// [TraceError].
func ReadFile(path string) (*Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxTraceBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	if len(data) > maxTraceBytes {
		return nil, fmt.Errorf("read trace: %s is larger than %d MiB", path, maxTraceBytes>>20)
	}
	return Read(path, data)
}

// Read reads a trace; name is for errors.
func Read(name string, data []byte) (*Trace, error) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff")))) // which spreadsheets write
	r.Comment, r.TrimLeadingSpace, r.ReuseRecord = '#', true, true
	wrong := &TraceError{Name: name}
	head, err := r.Read()
	switch {
	case errors.Is(err, io.EOF):
		wrong.add(1, 1, "it is empty; expected time,ROLE.reads,ROLE.writes,…")
		return nil, wrong
	case err != nil:
		return nil, wrong.syntax(err)
	}
	names := slices.Clone(head)
	t := &Trace{columns: map[string][]float64{}}
	t.checkHead(r, names, wrong)
	if len(wrong.Problems) > 0 {
		return nil, wrong
	}
	for len(wrong.Problems) < maxProblems {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, wrong.syntax(err)
		}
		t.addRow(r, names, row, wrong)
	}
	if line, _ := r.FieldPos(0); len(wrong.Problems) == 0 && len(t.Times) < 2 {
		wrong.add(line, 1, "%d rows; expected at least two, a beginning and an end", len(t.Times))
	}
	if len(wrong.Problems) > 0 {
		return nil, wrong
	}
	return t, nil
}

func (t *Trace) checkHead(r *csv.Reader, names []string, wrong *TraceError) {
	if len(names) > maxColumns {
		wrong.add(1, 1, "%d columns; expected at most %d", len(names), maxColumns)
		return
	}
	for i, name := range names {
		line, column := r.FieldPos(i)
		switch _, what, ok := strings.Cut(name, "."); {
		case i == 0 && name != "time":
			wrong.add(line, column, "the first column is %q; expected time", name)
		case i > 0 && (!ok || !slices.Contains(whats(), what)):
			wrong.add(line, column, "there is no column %q; expected ROLE. and one of %s", name, strings.Join(whats(), ", "))
		case i > 0 && t.columns[name] != nil:
			wrong.add(line, column, "%s is there already", name)
		case i > 0:
			t.columns[name] = []float64{}
		}
	}
	if len(names) == 1 {
		wrong.add(1, 1, "it has times only; expected a column such as db.reads")
	}
}

func (t *Trace) addRow(r *csv.Reader, names, row []string, wrong *TraceError) {
	line, column := r.FieldPos(0)
	at, err := time.Parse(time.RFC3339, row[0])
	switch n := len(t.Times); {
	case err != nil:
		wrong.add(line, column, "%q is not a time; expected one such as 2026-11-26T18:00:00+01:00", row[0])
		return
	case n > 0 && !at.After(t.Times[n-1]):
		wrong.add(line, column, "%s is not after the time before it", row[0])
	case n > 0 && at.Sub(t.Times[0]) > maxSpan:
		wrong.add(line, column, "%s is more than %d days after the beginning", row[0], int(maxSpan.Hours()/24))
	}
	t.Times = append(t.Times, at)
	for i, text := range row[1:] {
		value := math.NaN()
		if text != "" {
			value, err = strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil || !(value >= 0 && value <= maxLoad) {
				line, column := r.FieldPos(i + 1)
				wrong.add(line, column, "%s is %q; expected a number from 0 to %g, or nothing if it was not measured", names[i+1], text, float64(maxLoad))
			}
		}
		t.columns[names[i+1]] = append(t.columns[names[i+1]], value)
	}
}

func (e *TraceError) add(line, column int, format string, values ...any) {
	e.Problems = append(e.Problems, Problem{line, column, fmt.Sprintf(format, values...)})
}

// syntax takes in what is no CSV.
func (e *TraceError) syntax(err error) error {
	var parse *csv.ParseError
	if !errors.As(err, &parse) {
		return fmt.Errorf("read trace: %w", err)
	}
	if errors.Is(parse.Err, csv.ErrFieldCount) {
		e.add(parse.Line, parse.Column, "it has not as many columns as the first line")
	} else {
		e.add(parse.Line, parse.Column, "%v", parse.Err)
	}
	return e
}

// has reports whether the trace has the column.
func (t *Trace) has(role, what string) bool { return t.columns[role+"."+what] != nil }

// at returns the column's value at a time, on the line between the rows around
// it; NaN if one of them has none.
func (t *Trace) at(role, what string, now time.Time) float64 {
	column := t.columns[role+"."+what]
	if column == nil {
		return 0
	}
	next := sort.Search(len(t.Times), func(i int) bool { return t.Times[i].After(now) })
	switch {
	case next == 0:
		return column[0]
	case next == len(t.Times) || t.Times[next-1].Equal(now):
		return column[next-1]
	}
	before, after := t.Times[next-1], t.Times[next]
	part := float64(now.Sub(before)) / float64(after.Sub(before))
	return column[next-1]*(1-part) + column[next]*part
}
