package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"

	"farmhand/internal/farm"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/hook"
)

// eventFlags are what an event is made of.
type eventFlags struct {
	role, host, address, state string
	fields                     []string
	wait                       bool
	limit                      time.Duration
}

func eventCommand(out, logs io.Writer) *cobra.Command {
	var f eventFlags
	c := &cobra.Command{
		Use: "event KIND --host NAME --role ROLE --address ADDRESS", Short: "tell the sidecar of an event, whose hooks it then runs",
		Long: `Puts an event into the spool of the sidecar on this machine, which runs the hooks
for it, in order for each host. Any program may call this. The event is safe when
the command ends, whether a sidecar runs or not.

With --wait it waits for the hooks, prints what they said (without secrets), and
ends with status 1 if one of them did not end well.

KIND is one of ` + kinds() + `.`,
		Example: "  sidecar event host-up --host web3 --role web --address 10.0.0.3 --field zone=b --wait",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := f.event(args[0])
			if err != nil {
				return err
			}
			spool, err := hook.OpenSpool(f.state)
			if err != nil {
				return err
			}
			if !f.wait {
				if err := spool.Put(e); err != nil {
					return err
				}
				_, err := fmt.Fprintln(out, e.ID)
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), f.limit)
			defer cancel()
			return putAndWait(ctx, spool, f.state, e, out, logs)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.host, "host", "", "the name of the host that it is about")
	flags.StringVar(&f.role, "role", "", "the host's role, such as primary, replica, web")
	flags.StringVar(&f.address, "address", "", "the host's address: a host, host:port or a socket's path")
	flags.StringArrayVar(&f.fields, "field", nil, "a fact beside these, as name=value; any number of them")
	flags.StringVar(&f.state, "dir", config.DefaultState, "the sidecar's state directory (state in its configuration)")
	flags.BoolVar(&f.wait, "wait", false, "wait for the hooks, print what they said and end with their result")
	flags.DurationVar(&f.limit, "timeout", 10*time.Minute, "how long to wait")
	return c
}

func kinds() string {
	var names []string
	for _, kind := range farm.EventKinds() {
		names = append(names, string(kind))
	}
	return strings.Join(names, ", ")
}

func (f eventFlags) event(kind string) (farm.Event, error) {
	e := farm.Event{
		ID: hook.NewID(), Kind: farm.EventKind(kind), Time: time.Now().UTC(),
		Host: farm.EventHost{Name: f.host, Role: f.role, Address: f.address}, Fields: map[string]string{},
	}
	for _, field := range f.fields {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return e, fmt.Errorf("--field %q: expected name=value", field)
		}
		if _, twice := e.Fields[name]; twice {
			return e, fmt.Errorf("--field %s stands twice", name)
		}
		e.Fields[name] = value
	}
	return e, e.Check()
}

// errHooks is the result of hooks that did not all end well.
var errHooks = errors.New("not all hooks ended well")

// putAndWait watches the journal from before the event is there, so that nothing
// about it is missed.
func putAndWait(ctx context.Context, spool *hook.Spool, state string, e farm.Event, out, logs io.Writer) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the journal: %w", err)
	}
	defer func() { _ = watcher.Close() }() // nothing is lost by it
	if err := watcher.Add(state); err != nil {
		return fmt.Errorf("watch the journal: %w", err)
	}
	if err := spool.Put(e); err != nil {
		return err
	}
	runs, err := hook.Runs(state)
	if err != nil {
		return err
	}
	if !runs {
		if _, err := fmt.Fprintf(logs, "event %s is in the spool, but no sidecar runs on %s; waiting for one\n", e.ID, state); err != nil {
			return err
		}
	}
	backstop := time.NewTicker(time.Second)
	defer backstop.Stop()
	printed := 0
	for {
		done, err := printNew(state, e.ID, &printed, out)
		if err != nil || done {
			return err
		}
		select {
		case <-watcher.Events:
		case <-watcher.Errors:
		case <-backstop.C:
		case <-ctx.Done():
			return fmt.Errorf("the hooks of event %s have not ended; they are run whether or not somebody waits: %w", e.ID, context.Cause(ctx))
		}
	}
}

// printNew prints what the journal says of the event's hooks beyond the first
// *printed records. done is that the event is over; the error then is its result.
func printNew(state, id string, printed *int, out io.Writer) (done bool, err error) {
	var hooks []hook.Record
	var whole *hook.Record
	if _, err := hook.ReadJournal(state, func(r hook.Record) {
		switch {
		case r.Event != id:
		case r.Hook == "":
			whole = &r
		default:
			hooks = append(hooks, r)
		}
	}); err != nil {
		return false, err
	}
	for ; *printed < len(hooks); *printed++ {
		if err := printHook(out, hooks[*printed]); err != nil {
			return false, err
		}
	}
	switch {
	case whole == nil:
		return false, nil
	case whole.Failed > 0 || whole.Result != hook.Delivered:
		return true, fmt.Errorf("event %s: %s: %w", id, strings.TrimSpace(whole.Result+" "+whole.Detail), errHooks)
	}
	return true, nil
}

func printHook(out io.Writer, r hook.Record) error {
	line := fmt.Sprintf("%s: %s", r.Hook, r.Result)
	if r.Detail != "" {
		line += " (" + r.Detail + ")"
	}
	if r.Seconds > 0 {
		line += fmt.Sprintf(" after %.2f s", r.Seconds)
	}
	if _, err := fmt.Fprintln(out, line); err != nil {
		return err
	}
	if text := strings.TrimRight(r.Output, "\n"); text != "" {
		if _, err := fmt.Fprintln(out, "  "+strings.ReplaceAll(text, "\n", "\n  ")); err != nil {
			return err
		}
	}
	if r.Dropped > 0 {
		_, err := fmt.Fprintf(out, "  … and %d bytes more\n", r.Dropped)
		return err
	}
	return nil
}
