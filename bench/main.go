// Bench compares the proxy with a direct connection and with haproxy in TCP mode,
// under sysbench, on a farm of its own on this machine:
//
//	go run ./bench [-quick] [-levels] [-seconds N] [-rounds N] [-markdown FILE]
//
// With -levels it compares the levels of consistency instead: what a session of
// 20 point selects costs at each, while others write.
//
// The three are run in turn, round after round, and reported as ratios: a
// machine that is shared gives no absolute figures worth keeping. The CPU time
// per query is the proxy's or haproxy's own (user and system).
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Where the farm and haproxy listen.
const (
	servers     = "127.0.60.1"
	proxyPort   = "3396"
	haproxyPort = "3397"
)

// load is one way of asking.
type load struct {
	name string
	args []string
	env  []string // NAME=value
}

var loads = []load{
	{"point select, prepared", []string{"--db-ps-mode=auto", "oltp_point_select"}, nil},
	{"point select, text", []string{"--db-ps-mode=disable", "oltp_point_select"}, nil},
	{"read only, prepared", []string{"--db-ps-mode=auto", "oltp_read_only"}, nil},
	{"read only, text", []string{"--db-ps-mode=disable", "oltp_read_only"}, nil},
	{"read write, prepared", []string{"--db-ps-mode=auto", "oltp_read_write"}, nil},
	{"read write, text", []string{"--db-ps-mode=disable", "oltp_read_write"}, nil},
	{"connect, query, close", []string{"--db-ps-mode=disable", "bench/connect.lua"}, nil},
}

// target is what sysbench connects to.
type target struct {
	name, host, port string
	pid              int // whose CPU time counts; 0 for none
}

// result is one run.
type result struct {
	rate, p95 float64 // queries per second, milliseconds
	cpu       float64 // microseconds per query
}

func main() {
	quick := flag.Bool("quick", false, "point selects, read-write and connects with 1 and 16 clients, one round: about 3 minutes")
	levels := flag.Bool("levels", false, "compare the levels of consistency instead")
	seconds := flag.Int("seconds", 5, "length of one run")
	rounds := flag.Int("rounds", 3, "rounds of each comparison")
	markdown := flag.String("markdown", "", "write the table to this file as well")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	clients := []int{1, 16, 64}
	chosen := loads
	if *quick {
		clients, *rounds = []int{1, 16}, 1
		chosen = []load{loads[0], loads[1], loads[5], loads[6]}
	}
	compare := func() (string, error) { return run(ctx, chosen, clients, *seconds, *rounds) }
	if *levels {
		compare = func() (string, error) { return runLevels(ctx, *seconds, *rounds) }
	}
	table, err := compare()
	if err == nil && *markdown != "" {
		err = os.WriteFile(*markdown, []byte(table), 0o644)
	}
	fmt.Print(table)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, loads []load, clients []int, seconds, rounds int) (string, error) {
	targets, stop, err := setUp(ctx)
	defer stop()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("| load | clients | queries/s direct | ÷ direct: haproxy | ÷ direct: proxy | p95 ms direct / haproxy / proxy | CPU µs/query haproxy | proxy | ratio |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, l := range loads {
		for _, n := range clients {
			results := make([][]result, len(targets))
			for round := range rounds {
				for i, t := range targets {
					fmt.Fprintf(os.Stderr, "%s, %d clients, round %d of %d: %s\n", l.name, n, round+1, rounds, t.name)
					r, err := measure(ctx, t, l, n, seconds)
					if err != nil {
						return b.String(), fmt.Errorf("%s to %s: %w", l.name, t.name, err)
					}
					results[i] = append(results[i], r)
				}
			}
			med := func(i int, of func(result) float64) float64 {
				v := make([]float64, len(results[i]))
				for j, r := range results[i] {
					v[j] = of(r)
				}
				return median(v)
			}
			rate := func(i int) float64 { return med(i, func(r result) float64 { return r.rate }) }
			p95 := func(i int) float64 { return med(i, func(r result) float64 { return r.p95 }) }
			cpu := func(i int) float64 { return med(i, func(r result) float64 { return r.cpu }) }
			fmt.Fprintf(&b, "| %s | %d | %.0f | %.2f | %.2f | %.2f / %.2f / %.2f | %.1f | %.1f | %.2f |\n", l.name, n,
				rate(0), rate(1)/rate(0), rate(2)/rate(0), p95(0), p95(1), p95(2), cpu(1), cpu(2), cpu(2)/cpu(1))
		}
	}
	return b.String(), nil
}

// median is the middle one of the values, the upper of two; there is one at
// least.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// setUp runs what is measured, with its tables, in a directory of its own. stop
// ends it, and is to be called whatever the error.
func setUp(ctx context.Context) (targets []target, stop func(), err error) {
	nothing := func() {}
	for _, program := range []string{"sysbench", "haproxy"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, nothing, fmt.Errorf("%w: install it with scripts/install-packages %s", err, program)
		}
	}
	dir, err := os.MkdirTemp("", "farmhand-bench")
	if err != nil {
		return nil, nothing, err
	}
	targets, end, err := start(ctx, dir)
	stop = func() {
		end()
		_ = os.RemoveAll(dir) // what is left of it is in the way of nothing
	}
	if err == nil {
		err = prepare(ctx, targets[0])
	}
	return targets, stop, err
}

// prepare makes the tables.
func prepare(ctx context.Context, direct target) error {
	if out, err := sysbench(ctx, direct, 1, 0, "oltp_read_write", "prepare").CombinedOutput(); err != nil {
		return fmt.Errorf("sysbench prepare: %w\n%s", err, out)
	}
	return nil
}

// start runs a farm with its proxy, and haproxy in front of its primary.
func start(ctx context.Context, dir string) (targets []target, stop func(), err error) {
	var running []*exec.Cmd
	stop = func() {
		for _, c := range slices.Backward(running) {
			_ = c.Process.Signal(syscall.SIGTERM) // it may be gone
			_ = c.Wait()
		}
	}
	launch := func(c *exec.Cmd) error {
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is this program's
		if err := c.Start(); err != nil {
			return err
		}
		running = append(running, c)
		return nil
	}
	farm := exec.Command("bin/scaler", "up", "--local", filepath.Join(dir, "farm"), "--port", proxyPort, "--socket", filepath.Join(dir, "p.sock"),
		"--addresses-from", servers, "--admin", "")
	out, err := farm.StdoutPipe()
	if err != nil {
		return nil, stop, err
	}
	if err := launch(farm); err != nil {
		return nil, stop, fmt.Errorf("%w (make build makes it)", err)
	}
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "farm ready") {
				ready <- true
			}
		}
		ready <- false
	}()
	select {
	case ok := <-ready:
		if !ok {
			return nil, stop, fmt.Errorf("the farm did not start")
		}
	case <-ctx.Done():
		return nil, stop, ctx.Err()
	}
	proxy, err := pidOf("run", filepath.Join(dir, "farm", "proxy.yaml"))
	if err != nil {
		return nil, stop, err
	}
	config := filepath.Join(dir, "haproxy.cfg")
	text := "global\n  nbthread 1\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\nlisten m\n  bind 127.0.0.1:" +
		haproxyPort + "\n  server p " + servers + ":3306\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, stop, err
	}
	haproxy := exec.Command("haproxy", "-db", "-f", config)
	if err := launch(haproxy); err != nil {
		return nil, stop, err
	}
	return []target{
		{"direct", servers, "3306", 0},
		{"haproxy", "127.0.0.1", haproxyPort, haproxy.Process.Pid},
		{"proxy", "127.0.0.1", proxyPort, proxy},
	}, stop, nil
}

// pidOf finds a process by its last arguments.
func pidOf(arguments ...string) (int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	want := strings.Join(arguments, "\x00") + "\x00"
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err == nil && strings.HasSuffix(string(line), want) {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, fmt.Errorf("no process runs with %v", arguments)
}

func sysbench(ctx context.Context, t target, clients, seconds int, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "sysbench", append([]string{
		"--db-driver=mysql", "--mysql-host=" + t.host, "--mysql-port=" + t.port, "--mysql-user=app", "--mysql-password=app",
		"--mysql-db=app", "--tables=1", "--table-size=10000", "--threads=" + strconv.Itoa(clients), "--time=" + strconv.Itoa(seconds),
		"--mysql-ignore-errors=1213,1020,1205",
	}, args...)...)
}

var (
	queries = regexp.MustCompile(`queries:\s+(\d+)\s+\(([\d.]+) per sec`)
	p95     = regexp.MustCompile(`95th percentile:\s+([\d.]+)`)
)

func measure(ctx context.Context, t target, l load, clients, seconds int) (result, error) {
	before, err := cpuTime(t.pid)
	if err != nil {
		return result{}, err
	}
	cmd := sysbench(ctx, t, clients, seconds, append(slices.Clone(l.args), "run")...)
	cmd.Env = append(os.Environ(), l.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return result{}, fmt.Errorf("sysbench: %w\n%s", err, bytes.TrimSpace(out))
	}
	after, err := cpuTime(t.pid)
	if err != nil {
		return result{}, err
	}
	q, p := queries.FindSubmatch(out), p95.FindSubmatch(out)
	if q == nil || p == nil {
		return result{}, fmt.Errorf("sysbench said nothing that is understood:\n%s", out)
	}
	number := func(b []byte) float64 {
		v, _ := strconv.ParseFloat(string(b), 64) // the pattern lets numbers through only
		return v
	}
	return result{rate: number(q[2]), p95: number(p[1]), cpu: float64((after - before).Microseconds()) / number(q[1])}, nil
}

// cpuTime is the CPU time that a process has used; 0 for pid 0.
func cpuTime(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is not understood", pid)
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on Linux
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, err
}
