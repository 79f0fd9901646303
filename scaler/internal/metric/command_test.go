package metric

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
)

func command(limit time.Duration, words ...string) *farmfile.Metric {
	m := metricOf(farmfile.CommandMetric, 10*time.Second)
	m.Command, m.TimeLimit = words, farmfile.Duration(limit)
	return &m
}

func TestAsk(t *testing.T) {
	for name, test := range map[string]struct {
		words []string
		value float64
		wrong string // what the error says
	}{
		"a number":         {words: []string{"echo", " 12.5 "}, value: 12.5},
		"of the role":      {words: []string{"sh", "-c", `test "$FARMHAND_ROLE" = db && echo 1`}, value: 1},
		"nothing":          {words: []string{"true"}, wrong: `it printed ""`},
		"a word":           {words: []string{"sh", "-c", "echo many; echo why >&2"}, wrong: `it printed "many"; expected one number (it says "why")`},
		"two numbers":      {words: []string{"echo", "1 2"}, wrong: "one number"},
		"no number":        {words: []string{"echo", "NaN"}, wrong: "one number"},
		"infinite":         {words: []string{"echo", "1e999"}, wrong: "one number"},
		"too much":         {words: []string{"sh", "-c", "echo 1; head -c 100000 /dev/zero | tr '\\0' ' '"}, wrong: "one number"},
		"failing":          {words: []string{"sh", "-c", "echo 5; echo broken >&2; exit 3"}, wrong: `exit status 3 (it says "broken")`},
		"no program":       {words: []string{"/nowhere/there"}, wrong: "no such file"},
		"output kept open": {words: []string{"sh", "-c", "sleep 600 & echo 5"}, wrong: "WaitDelay"},
	} {
		t.Run(name, func(t *testing.T) {
			value, err := ask(context.Background(), "db", command(time.Minute, test.words...))
			if test.wrong == "" && (err != nil || value != test.value) {
				t.Errorf("%v, %v", value, err)
			}
			if test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)) {
				t.Errorf("%v, %v; expected an error with %s", value, err, test.wrong)
			}
		})
	}
}

// TestAskTooLong: a program that hangs is killed, with all that it has started.
func TestAskTooLong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	began := time.Now()
	_, err := ask(context.Background(), "db", command(time.Second, "sh", "-c", "sleep 600 & echo $! >"+file+"; wait"))
	if err == nil || !strings.Contains(err.Error(), "longer than its time limit of 1s") {
		t.Errorf("the error is %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); alive(pid); {
		if time.Now().After(end) {
			t.Fatal("what it has started is still there")
		}
	}
}

// alive: a dead process that nobody has waited for yet is not.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(data), ") Z ")
}

func TestPoll(t *testing.T) {
	metrics := []farmfile.Metric{*command(time.Minute, "echo", "7"), metricOf(farmfile.CPUMetric, time.Minute), *command(time.Minute, "false")}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	type told struct {
		name   string
		sample decide.Sample
		err    error
	}
	all, ended := make(chan told), make(chan struct{})
	go func() {
		defer close(ended)
		Poll(ctx, "db", metrics, func(m *farmfile.Metric, s decide.Sample, err error) {
			select {
			case all <- told{m.Name(), s, err}:
			case <-ctx.Done():
			}
		})
	}()
	good, bad := 0, 0
	for good < 2 || bad < 1 {
		select {
		case one := <-all:
			switch {
			case one.name == "echo 7" && one.err == nil && one.sample.Value == 7 && one.sample.Silent == 0:
				good++
			case one.name == "false" && one.err != nil && math.IsNaN(one.sample.Value) && one.sample.Silent == 1:
				bad++
			default:
				t.Fatalf("%+v", one)
			}
		case <-ctx.Done():
			t.Fatal("it told too little")
		}
	}
	cancel()
	<-ended
}

func TestEvery(t *testing.T) {
	for window, want := range map[time.Duration]time.Duration{
		10 * time.Second: 10 * time.Second / 6, time.Minute: 10 * time.Second, time.Hour: time.Minute,
	} {
		if got := every(window); got != want {
			t.Errorf("of %v: %v", window, got)
		}
	}
}
