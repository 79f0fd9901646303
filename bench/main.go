// Bench compares the proxy with direct connections and with haproxy in TCP mode,
// on a farm of its own on this machine (docs/PERFORMANCE.md):
//
//	go run ./bench [-quick] [-only REGEX] [-rounds N] [-seconds N] [-vs BINARY] [-markdown] [-compare]
//
// With -levels it compares the levels of consistency instead: what a session of
// 20 point selects costs at each, while others write.
//
// Progress goes to the standard error, tables to the standard output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options are what the flags say.
type options struct {
	quick, levels, markdown, compare bool
	only                             *regexp.Regexp
	rounds, seconds                  int
	proxy, vs, history               string
}

// historyFile is where complete runs are kept.
const historyFile = "bench/history.jsonl"

// forwardCommand makes this program the forwarder that delays connections.
const forwardCommand = "forward"

func main() {
	if len(os.Args) > 1 && os.Args[1] == forwardCommand {
		err := forward(os.Args[2:])
		fmt.Fprintln(os.Stderr, "bench: forward:", err)
		os.Exit(1)
	}
	o, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		err = start(ctx, o)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseFlags(args []string) (options, error) {
	var o options
	var only string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "a few workloads, two rounds of 2 s: about 4 minutes")
	flags.BoolVar(&o.levels, "levels", false, "compare the levels of consistency instead")
	flags.StringVar(&only, "only", "", "run the workloads whose title, such as \"point select, text, 64\" or \"idle sessions\", matches this `regexp`")
	flags.IntVar(&o.rounds, "rounds", 0, "rounds of each comparison (default 3, with -quick 2)")
	flags.IntVar(&o.seconds, "seconds", 0, "length of one run (default 3, with -quick 2)")
	flags.StringVar(&o.proxy, "proxy", "bin/proxy", "the proxy's `binary`")
	flags.StringVar(&o.vs, "vs", "", "the `binary` of another proxy to compare it with")
	flags.StringVar(&o.history, "history", historyFile, "append the run to this `file`; \"\" for none; runs with -only are appended only to a file that is named")
	flags.BoolVar(&o.compare, "compare", false, "say what changed against the last line of the history")
	flags.BoolVar(&o.markdown, "markdown", false, "print the tables for a document")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag", flags.Arg(0))
	}
	rounds, seconds := 3, 3
	if o.quick {
		rounds, seconds = 2, 2
	}
	if o.rounds == 0 {
		o.rounds = rounds
	}
	if o.seconds == 0 {
		o.seconds = seconds
	}
	if o.rounds < 1 || o.seconds < 1 {
		return o, errors.New("a run has at least one round of one second")
	}
	var err error
	o.only, err = regexp.Compile(only)
	named := false
	flags.Visit(func(f *flag.Flag) { named = named || f.Name == "history" })
	if only != "" && !named {
		o.history = ""
	}
	return o, err
}

// chosen are the workloads that the flags select.
func chosen(o options) []workload {
	var list []workload
	for _, w := range workloads {
		if (w.quick || !o.quick) && o.only.MatchString(w.title()) {
			list = append(list, w)
		}
	}
	return list
}

// start sets everything up, compares and reports, and takes everything down.
func start(ctx context.Context, o options) (err error) {
	list, idle := chosen(o), o.only.MatchString(idleTitle)
	if len(list) == 0 && !idle && !o.levels {
		return fmt.Errorf("no workload matches %v", o.only)
	}
	fmt.Fprintln(os.Stderr, "starting a farm and what is compared")
	b, err := setUp(ctx)
	defer func() { err = errors.Join(err, b.close()) }()
	if err != nil {
		return err
	}
	if err := b.startSubjects(ctx, o); err != nil {
		return err
	}
	p := &progress{to: os.Stderr, began: time.Now()}
	if o.levels {
		g, err := b.compareLevels(ctx, o, p)
		return errors.Join(err, show(o, g))
	}
	p.steps = b.planned(list, o)
	if idle {
		p.steps++
	}
	res, err := b.compare(ctx, list, o, p)
	if err == nil && idle {
		sessions := 10000
		if o.quick {
			sessions = 1000
		}
		p.step("%d %s", sessions, idleTitle)
		if res.idle, res.idleErr = b.measureIdle(ctx, o.proxy, sessions); ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}
	return errors.Join(err, report(ctx, o, res, b.counter, err == nil))
}

// report prints what was measured and keeps a complete run.
func report(ctx context.Context, o options, res *results, counter counter, complete bool) error {
	limits := res.limits(counter)
	grids := []grid{res.figures(o.seconds, o.rounds)}
	if o.vs != "" {
		grids = append(grids, res.versus())
	}
	grids = append(grids, limitGrid(limits, counter, o.only.String() == ""))
	if !complete {
		return show(o, grids...)
	}
	rec, err := recordOf(ctx, res, limits, o)
	if err == nil && o.compare {
		path := o.history
		if path == "" {
			path = historyFile
		}
		var before *record
		if before, err = lastRecord(path); before != nil {
			grids = append(grids, change(*before, rec, res))
		}
	}
	if err == nil && res.failed() {
		err = errors.New("some runs failed; the notes below the table say why, and the history was left alone")
	} else if err == nil && o.history != "" {
		err = appendRecord(o.history, rec)
	}
	return errors.Join(err, show(o, grids...))
}

// show prints tables.
func show(o options, grids ...grid) error {
	for _, g := range grids {
		text := g.plain()
		if o.markdown {
			text = g.markdown()
		}
		if _, err := os.Stdout.WriteString(text); err != nil {
			return err
		}
	}
	return nil
}
