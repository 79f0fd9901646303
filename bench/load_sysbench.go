package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// tableRows is the number of rows of sysbench's table.
const tableRows = 10000

// sysbench is a run of it.
func sysbench(ctx context.Context, to endpoint, clients int, args ...string) *exec.Cmd {
	where := []string{"--mysql-socket=" + to.address}
	if host, port, ok := strings.Cut(to.address, ":"); ok && to.network == "tcp" {
		where = []string{"--mysql-host=" + host, "--mysql-port=" + port}
	}
	return exec.CommandContext(ctx, "sysbench", append(append([]string{
		"--db-driver=mysql", "--mysql-user=" + user, "--mysql-password=" + password, "--mysql-db=" + schema,
		"--tables=1", "--table-size=" + strconv.Itoa(tableRows), "--threads=" + strconv.Itoa(clients),
		"--mysql-ignore-errors=1213,1020,1205", "--histogram=on",
	}, where...), args...)...)
}

// bySysbench is a load of sysbench. The times are its events': transactions
// where it runs those.
func bySysbench(args ...string) load {
	return func(ctx context.Context, _ *bench, r run, h hooks) (work, error) {
		length := max(time.Second, r.length.Truncate(time.Second)) // it knows whole seconds
		cmd := sysbench(ctx, r.to, r.clients, append([]string{"--time=" + strconv.Itoa(int(length.Seconds()))}, append(args, "run")...)...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			return work{}, err
		}
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		if err := cmd.Start(); err != nil {
			return work{}, err
		}
		text, begun, err := readSysbench(out, length, h)
		err = errors.Join(cmd.Wait(), err)
		switch {
		case ctx.Err() != nil:
			return work{}, context.Cause(ctx)
		case err == nil && !begun:
			err = errors.New("it never began")
		}
		if err != nil {
			return work{}, fmt.Errorf("sysbench: %w\n%s%s", err, text, complaints.String())
		}
		return parseSysbench(text, length)
	}
}

// readSysbench reads all that sysbench says. The time that counts begins when
// its threads have connected and ends length later, before they leave.
func readSysbench(out interface{ Read([]byte) (int, error) }, length time.Duration, h hooks) (text string, begun bool, err error) {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text() + "\n"
		}
	}()
	var end <-chan time.Time
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				if end != nil {
					err = errors.Join(err, h.end()) // it was faster than the timer
				}
				return text, begun, err
			}
			text += line
			if strings.HasPrefix(line, "Threads started!") {
				begun, end = true, time.After(length)
				err = errors.Join(err, h.begin())
			}
		case <-end:
			end = nil
			err = errors.Join(err, h.end())
		}
	}
}

var (
	queries   = regexp.MustCompile(`queries:\s+\d+\s+\(([\d.]+) per sec`)
	histogram = regexp.MustCompile(`(?m)^\s+([\d.]+) \|\**\s*(\d+)$`)
)

// parseSysbench reads a report with a histogram.
func parseSysbench(text string, length time.Duration) (work, error) {
	q, buckets := queries.FindStringSubmatch(text), histogram.FindAllStringSubmatch(text, -1)
	if q == nil || buckets == nil {
		return work{}, fmt.Errorf("sysbench said nothing that is understood:\n%s", text)
	}
	perSecond, err := strconv.ParseFloat(q[1], 64)
	if err != nil {
		return work{}, fmt.Errorf("sysbench: %w", err)
	}
	w := work{units: perSecond * length.Seconds(), elapsed: length, times: new(latencies)}
	for _, b := range buckets {
		ms, err := strconv.ParseFloat(b[1], 64)
		if err != nil {
			return w, fmt.Errorf("sysbench: %w", err)
		}
		n, err := strconv.ParseUint(b[2], 10, 32)
		if err != nil {
			return w, fmt.Errorf("sysbench: %w", err)
		}
		w.times.add(time.Duration(ms*1e6), uint32(n))
	}
	return w, nil
}
