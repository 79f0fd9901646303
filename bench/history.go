package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// record is one run in the history file, a line of JSON.
type record struct {
	Date     time.Time         `json:"date"`
	Commit   string            `json:"commit"`
	Machine  machine           `json:"machine"`
	Versions map[string]string `json:"versions"`
	Seconds  int               `json:"seconds"`
	Rounds   int               `json:"rounds"`
	// Figures are by workload and subject, in the order of columns, to three
	// digits.
	Figures map[string]map[string][]float64 `json:"figures"`
	// Limits are the acceptance rows that were measured: the figure and its state.
	Limits map[string][2]string `json:"limits"`
}

// columns are the figures of a record, in order. System calls are -1 where they
// were not counted.
var columns = []string{"rate", "rate min", "rate max", "p50", "p95", "p99", "cpu", "cpu min", "cpu max", "farm cpu", "switches", "calls", "peak"}

// machine is where a run was made.
type machine struct {
	Cores  int    `json:"cores"`
	Model  string `json:"model"`
	Kernel string `json:"kernel"`
}

func thisMachine() (machine, error) {
	m := machine{Cores: runtime.NumCPU(), Model: runtime.GOARCH}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return m, err
	}
	m.Kernel = unix.ByteSliceToString(u.Release[:])
	text, err := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.Model = strings.TrimSpace(value)
			break
		}
	}
	return m, err
}

// versions are the first lines that the programs say of themselves.
func versions(ctx context.Context) map[string]string {
	v := map[string]string{"go": runtime.Version()}
	for program, flag := range map[string]string{"mariadbd": "--version", "haproxy": "-v", "sysbench": "--version", "proxysql": "--version", "mysqlrouter": "--version"} {
		out, err := exec.CommandContext(ctx, program, flag).Output()
		if err == nil { // the rivals need not be here
			v[program], _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
		}
	}
	return v
}

// commit is what is checked out, with a + when files differ from it.
func commit(ctx context.Context) string {
	id, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown" // not a checkout
	}
	dirty, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output()
	if text := strings.TrimSpace(string(id)); err == nil && len(dirty) == 0 {
		return text
	}
	return strings.TrimSpace(string(id)) + "+"
}

// short has three significant digits.
func short(v float64) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	if err != nil {
		return v
	}
	return r
}

// recordOf is the record of a run.
func recordOf(ctx context.Context, r *results, limits []limit, o options) (record, error) {
	m, err := thisMachine()
	rec := record{
		Date: time.Now().UTC().Truncate(time.Second), Commit: commit(ctx), Machine: m, Versions: versions(ctx),
		Seconds: o.seconds, Rounds: o.rounds, Figures: map[string]map[string][]float64{}, Limits: map[string][2]string{},
	}
	for _, w := range r.workloads {
		rec.Figures[w.title()] = map[string][]float64{}
		for name, c := range r.cells[w.title()] {
			if len(c.samples) > 0 {
				rec.Figures[w.title()][name] = c.figures()
			}
		}
	}
	for _, l := range limits {
		if l.state == unmeasured {
			continue
		}
		rec.Limits[l.what] = [2]string{l.measured, string(l.state)}
	}
	return rec, err
}

// figures are a cell's in the order of columns.
func (c *cell) figures() []float64 {
	rate, cpu := c.of(rateOf), c.of(cpuOf)
	calls := -1.0
	if c.calls != nil {
		calls = c.callsAll
	}
	list := []float64{
		rate.median, rate.min, rate.max, c.of(p50Of).median, c.of(p95Of).median, c.of(p99Of).median,
		cpu.median, cpu.min, cpu.max, c.of(farmOf).median, c.of(switchesOf).median, calls, c.of(peakOf).median,
	}
	for i, v := range list {
		list[i] = short(v)
	}
	return list
}

// appendRecord adds a line to the history.
func appendRecord(path string, rec record) error {
	line, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// lastRecord is the last line of the history; nil if there is none.
func lastRecord(path string) (*record, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // was only read
	var last []byte
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if len(lines.Bytes()) > 0 {
			last = append(last[:0], lines.Bytes()...)
		}
	}
	if err := lines.Err(); err != nil || last == nil {
		return nil, err
	}
	rec := new(record)
	if err := json.Unmarshal(last, rec); err != nil {
		return nil, fmt.Errorf("%s: the last line: %w", path, err)
	}
	return rec, nil
}

// change is what a run changed against an earlier one.
func change(before, now record, r *results) grid {
	g := grid{
		title: fmt.Sprintf("Against %s of %s", before.Commit, before.Date.Format("2006-01-02 15:04")),
		head:  []string{"workload, clients", "subject", "rate", "p99", "CPU/unit", "calls/unit", "peak"},
	}
	if before.Machine != now.Machine {
		g.notes = append(g.notes, fmt.Sprintf("That was another machine: %d × %s, %s.", before.Machine.Cores, before.Machine.Model, before.Machine.Kernel))
	}
	if before.Seconds != now.Seconds || before.Rounds != now.Rounds {
		g.notes = append(g.notes, fmt.Sprintf("That was of %d rounds of %d s.", before.Rounds, before.Seconds))
	}
	at := map[string]int{}
	for i, name := range columns {
		at[name] = i
	}
	for _, w := range r.workloads {
		for _, name := range r.subjects {
			old, new := before.Figures[w.title()][name], now.Figures[w.title()][name]
			if len(old) != len(columns) || len(new) != len(columns) {
				continue
			}
			row := []string{w.title(), name}
			for _, column := range []string{"rate", "p99", "cpu", "calls", "peak"} {
				row = append(row, percent(old[at[column]], new[at[column]]))
			}
			g.rows = append(g.rows, row)
		}
	}
	return g
}

// percent is a change; – if there is nothing to compare with.
func percent(before, now float64) string {
	if before <= 0 || now <= 0 {
		return "–"
	}
	return fmt.Sprintf("%+.0f %%", 100*(now/before-1))
}
