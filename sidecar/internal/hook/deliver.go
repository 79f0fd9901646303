package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/sidecar/internal/command"
	"farmhand/sidecar/internal/mask"
)

// delivery is one event whose hooks run.
type delivery struct {
	r           *Runner
	finish, now context.Context
	event       farm.Event
	body        []byte
	attempt     int
	failed      atomic.Int32
	interrupted atomic.Bool
}

// deliver runs the hooks of one event. It calls free when the host's next event
// may begin.
func (r *Runner) deliver(finish, now context.Context, e entry, free func()) {
	var event farm.Event
	err := r.insist(finish, func() (err error) {
		event, err = r.spool.read(e)
		return err
	})
	switch {
	case errors.Is(err, errNoEvent):
		r.refuse(e, err)
		return
	case err != nil:
		return // told to stop, or somebody took it away
	}
	if e.attempts >= r.o.Attempts {
		r.o.Log.Error("event given up: the sidecar ended too often while its hooks ran", zap.String("event", event.ID), zap.String("kind", string(event.Kind)))
		d := delivery{r: r, event: event, attempt: e.attempts}
		d.end(GivenUp, fmt.Sprintf("the sidecar ended %d times while its hooks ran", e.attempts))
		r.removed(e)
		return
	}
	began := e
	began.attempts++
	// It would be repeated for ever if the number could not be kept.
	if err := r.insist(finish, func() error { return r.spool.become(e, began) }); err != nil {
		return
	}
	d := delivery{r: r, finish: finish, now: now, event: event, attempt: began.attempts}
	if d.body, err = json.Marshal(event); err != nil {
		r.refuse(began, err)
		return
	}
	found, err := scripts(r.o.Hooks, event.Kind)
	if err != nil {
		d.record(script{}, Record{Hook: "hooks.d", Result: Refused, Detail: err.Error()})
	}
	var waited, later []script
	for _, s := range found {
		if s.async {
			later = append(later, s)
		} else {
			waited = append(waited, s)
		}
	}
	if !began.async {
		d.inOrder(waited)
		if !d.interrupted.Load() && len(later) > 0 {
			rest := entry{seq: began.seq, attempts: began.attempts, async: true}
			if err := r.spool.become(began, rest); err != nil {
				r.o.Log.Error("what is left of an event cannot be noted", zap.Error(err), zap.String("event", event.ID))
			} else {
				began = rest
			}
			free()
		}
	}
	if !d.interrupted.Load() && len(later) > 0 {
		r.ended(event.ID, false)
	}
	if !d.interrupted.Load() {
		d.together(later)
	}
	if d.interrupted.Load() {
		// We were told to end, which does not count as an attempt.
		back := began
		back.attempts = max(0, back.attempts-1)
		if err := r.spool.become(began, back); err != nil {
			r.o.Log.Error("an interrupted event cannot be noted", zap.Error(err), zap.String("event", event.ID))
		}
		return
	}
	d.end(Delivered, "")
	r.removed(began)
}

// insistEvery is how often what the system refused is tried again.
const insistEvery = time.Second

// insist does what must succeed before the host's next event may begin, until
// it does, or finish ends, or there is no such event (any more).
func (r *Runner) insist(finish context.Context, do func() error) error {
	for {
		err := do()
		if err == nil || errors.Is(err, errNoEvent) || errors.Is(err, fs.ErrNotExist) {
			return err
		}
		r.o.Log.Error("an event waits for the system; tried again soon", zap.Error(err))
		select {
		case <-time.After(insistEvery):
		case <-finish.Done():
			return err
		}
	}
}

func (r *Runner) removed(e entry) {
	if err := r.spool.remove(e); err != nil {
		r.o.Log.Error("a delivered event cannot be removed; it will be delivered again", zap.Error(err))
	}
}

// inOrder runs hooks one after the other and then posts the event.
func (d *delivery) inOrder(found []script) {
	for _, s := range found {
		if d.stopped() {
			return
		}
		d.run(s)
	}
	if w := d.r.o.Webhook; w.URL != "" && !d.stopped() {
		o := w.post(d.now, d.r.client, d.event)
		d.outcome(script{name: "webhook"}, o)
	}
}

// together runs hooks at the same time.
func (d *delivery) together(found []script) {
	var all sync.WaitGroup
	for _, s := range found {
		select {
		case d.r.async <- struct{}{}:
		case <-d.finish.Done():
			d.interrupted.Store(true)
			all.Wait()
			return
		}
		all.Go(func() {
			defer func() { <-d.r.async }()
			d.run(s)
		})
	}
	all.Wait()
}

// stopped reports whether no more hooks are to be started, and notes it.
func (d *delivery) stopped() bool {
	if d.finish.Err() != nil {
		d.interrupted.Store(true)
	}
	return d.interrupted.Load()
}

func (d *delivery) run(s script) {
	if s.refusal != nil {
		d.r.o.Log.Error("hook refused", zap.String("event", d.event.ID), zap.String("hook", s.name), zap.Error(s.refusal))
		d.record(s, Record{Result: Refused, Detail: s.refusal.Error()})
		return
	}
	// Before it runs: it may change the file whose content it prints.
	secrets, err := mask.Read(d.r.o.Secrets)
	o := command.Run(d.now, command.Command{
		Args: []string{s.path}, Env: d.environment(), Stdin: d.body,
		Limit: d.r.o.limit(d.event.Kind), Grace: d.r.o.Grace, Output: d.r.o.Output + secrets.Longest(),
	})
	switch {
	case err != nil:
		o.Dropped += int64(len(o.Output))
		o.Output = fmt.Appendf(nil, "(withheld, since it could not be searched for secrets: %v)", err)
	case o.Dropped > 0:
		o.Output = []byte(secrets.Beginning(string(o.Output)))
	default:
		o.Output = []byte(secrets.Text(string(o.Output)))
	}
	if over := len(o.Output) - d.r.o.Output; over > 0 && err == nil {
		o.Output, o.Dropped = o.Output[:d.r.o.Output], o.Dropped+int64(over)
	}
	d.outcome(s, o)
}

// environment is what a hook learns of the event beside its standard input.
func (d *delivery) environment() []string {
	e := d.event
	env := []string{
		"FARMHAND_EVENT=" + string(e.Kind),
		"FARMHAND_EVENT_ID=" + e.ID,
		"FARMHAND_TIME=" + e.Time.UTC().Format(time.RFC3339Nano),
		"FARMHAND_HOST=" + e.Host.Name,
		"FARMHAND_ROLE=" + e.Host.Role,
		"FARMHAND_ADDRESS=" + e.Host.Address,
		"FARMHAND_NODE=" + d.r.o.Node,
		"FARMHAND_ATTEMPT=" + strconv.Itoa(d.attempt),
	}
	for key, value := range e.Fields {
		env = append(env, "FARMHAND_FIELD_"+strings.ToUpper(key)+"="+value)
	}
	return env
}

func (d *delivery) outcome(s script, o command.Outcome) {
	if o.Status == command.Interrupted {
		d.interrupted.Store(true)
	}
	r := Record{Result: string(o.Status), Exit: o.Exit, Seconds: o.Took.Seconds(), Output: strings.ToValidUTF8(string(o.Output), "�"), Dropped: o.Dropped}
	if o.Err != nil {
		r.Detail = o.Err.Error()
	}
	d.record(s, r)
	level := zap.InfoLevel
	if o.Status != command.OK {
		level = zap.WarnLevel
	}
	d.r.o.Log.Log(level, "hook ended", zap.String("event", d.event.ID), zap.String("kind", string(d.event.Kind)), zap.String("host", d.event.Host.Name),
		zap.String("hook", s.name), zap.String("result", r.Result), zap.String("detail", r.Detail), zap.Duration("took", o.Took))
}

func (d *delivery) record(s script, r Record) {
	if r.Result != string(command.OK) {
		d.failed.Add(1)
	}
	r.Event, r.Kind, r.Host, r.Attempt, r.Async = d.event.ID, d.event.Kind, d.event.Host, d.attempt, s.async
	if r.Hook == "" {
		r.Hook = s.name
	}
	d.r.write(r)
}

// end journals what became of the whole event.
func (d *delivery) end(result, detail string) {
	r := Record{
		Event: d.event.ID, Kind: d.event.Kind, Host: d.event.Host, Attempt: d.attempt, Result: result, Failed: int(d.failed.Load()), Detail: detail,
	}
	secrets, err := mask.Read(d.r.o.Secrets)
	if err == nil {
		r.Fields = secrets.Fields(d.event.Fields)
	} else if len(d.event.Fields) > 0 {
		r.Detail = strings.TrimSpace(r.Detail + " (the fields are withheld, since they could not be searched for secrets)")
	}
	d.r.write(r)
	d.r.ended(d.event.ID, true)
}
