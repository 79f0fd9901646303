package metric

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"farmhand/internal/child"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
)

// asker asks for a metric's value once. It is not for several goroutines at once.
type asker func(ctx context.Context) (float64, error)

// askers are the metrics that are asked for, again and again.
var askers = map[farmfile.MetricKind]func(role string, m *farmfile.Metric) asker{
	farmfile.CommandMetric: askCommand,
	farmfile.QueueMetric:   askQueue,
}

// Poll asks for each metric that no node reports, a command's or a queue's, again and
// again until ctx ends, and tells what it is: a sample without a value, and why, if that
// was no number. It tells from several goroutines, one of each metric. It returns
// when they have ended.
func Poll(ctx context.Context, role string, metrics []farmfile.Metric, tell func(m *farmfile.Metric, s decide.Sample, err error)) {
	var all sync.WaitGroup
	for i := range metrics {
		if m, of := &metrics[i], askers[metrics[i].Kind]; of != nil {
			all.Go(func() { poll(ctx, m, of(role, m), tell) })
		}
	}
	all.Wait()
}

func poll(ctx context.Context, m *farmfile.Metric, ask asker, tell func(*farmfile.Metric, decide.Sample, error)) {
	ticker := time.NewTicker(every(time.Duration(m.Window)))
	defer ticker.Stop()
	for ctx.Err() == nil {
		value, err := ask(ctx)
		if ctx.Err() != nil {
			return
		}
		s := decide.Sample{At: time.Now(), Value: value}
		if err != nil {
			s.Value, s.Silent = math.NaN(), 1
		}
		tell(m, s, err)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// every is the time between two runs: some in each half of the window, so that one
// may fail.
func every(window time.Duration) time.Duration {
	return min(max(window/6, time.Second), time.Minute)
}

const (
	// maxOutput bounds what is kept of what a program prints.
	maxOutput = 4 << 10
	// lateOutput is how long somebody whom the program has left behind may keep its
	// output open.
	lateOutput = 500 * time.Millisecond
)

// askCommand asks a metric's program.
func askCommand(role string, m *farmfile.Metric) asker {
	return func(ctx context.Context) (float64, error) { return ask(ctx, role, m) }
}

// ask runs a metric's program once. It has the scaler's environment and
// FARMHAND_ROLE. What it leaves behind in its process group is killed.
func ask(ctx context.Context, role string, m *farmfile.Metric) (float64, error) {
	limit := time.Duration(m.TimeLimit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than its time limit of %s", limit))
	defer cancel()
	var out, complaints bounded
	cmd := exec.Command(m.Command[0], m.Command[1:]...)
	cmd.Env = append(cmd.Environ(), "FARMHAND_ROLE="+role)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &complaints, lateOutput
	c, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return 0, fmt.Errorf("metric %s: %w", m.Name(), err)
	}
	select {
	case <-c.Done():
	case <-ctx.Done():
	}
	c.SignalGroup(syscall.SIGKILL)
	err = c.Err()
	if ctx.Err() != nil {
		return 0, fmt.Errorf("metric %s: %w", m.Name(), context.Cause(ctx))
	}
	if err != nil {
		return 0, fmt.Errorf("metric %s: %w%s", m.Name(), err, complaints.said())
	}
	text := strings.TrimSpace(out.kept.String())
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(value) || math.IsInf(value, 0) || out.more {
		return 0, fmt.Errorf("metric %s: it printed %.100q; expected one number%s", m.Name(), text, complaints.said())
	}
	return value, nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	kept bytes.Buffer // not embedded: its ReadFrom knows no bounds
	more bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := min(len(p), maxOutput-b.kept.Len())
	b.more = b.more || room < len(p)
	_, _ = b.kept.Write(p[:room]) // which does not fail
	return len(p), nil
}

// said is what it holds, for the end of an error.
func (b *bounded) said() string {
	text := strings.TrimSpace(b.kept.String())
	if text == "" {
		return ""
	}
	return fmt.Sprintf(" (it says %.300q)", text)
}
