package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/queue"
	"farmhand/internal/registry"
	"farmhand/scaler/internal/cron"
	"farmhand/scaler/internal/farmfile"
)

// OpCron puts the message of a schedule into its queue now; name: the schedule's.
const OpCron = "cron"

// cronMemory is what a leader leaves to the next about schedules.
var cronMemory = controlRecord("cron")

// What goes with a message of a schedule, for who receives it: a queue that is not a
// FIFO queue can give it twice.
const (
	cronNameAttribute = "farmhand-cron"
	cronKeyAttribute  = "farmhand-key"
	cronTickAttribute = "farmhand-tick"
)

// crontab puts the messages of the farm file's schedules into their queues, during one
// term. run's goroutine owns what has no mutex above it.
type crontab struct {
	client *registry.Client
	term   registry.Term
	jobs   []farmfile.CronJob
	log    *zap.Logger
	note   func(text string, job string)
	wake   func() // is told that a message which a person asked for was settled
	now    func() time.Time
	pace   time.Duration

	read     bool // states is as the registry has it
	states   map[string]cron.State
	kept     []byte
	sending  map[string]bool      // by job
	after    map[string]time.Time // not before
	failures map[string]int
	results  chan cronResult
	ended    map[string]cronResult   // by job: what was settled and is not written for sure
	queues   map[string]*queue.Queue // by URL

	mu    sync.Mutex
	asked map[string]string     // an operation by job, which a person wants run now
	shown map[string]cron.State // for others
}

// cronResult is how a send has ended.
type cronResult struct {
	job, key string
	err      error
}

func newCrontab(client *registry.Client, term registry.Term, jobs []farmfile.CronJob, log *zap.Logger, note func(text, job string), wake func()) *crontab {
	return &crontab{
		client: client, term: term, jobs: jobs, log: log, note: note, wake: wake, now: time.Now, pace: pace,
		ended: map[string]cronResult{}, sending: map[string]bool{}, after: map[string]time.Time{}, failures: map[string]int{},
		results: make(chan cronResult), queues: map[string]*queue.Queue{}, asked: map[string]string{}, shown: map[string]cron.State{},
	}
}

// run goes on until ctx ends or the term is over. It returns when no send goes on any
// more.
func (c *crontab) run(ctx context.Context) error {
	var sends sync.WaitGroup
	defer sends.Wait()
	tick := time.NewTicker(c.pace)
	defer tick.Stop()
	for {
		if err := c.step(ctx, &sends); err != nil && ctx.Err() == nil {
			if errors.Is(err, registry.ErrDeposed) {
				return err
			}
			c.read = false // written or not: what stands there decides how it goes on
			c.log.Warn("schedules are not gone on with; tried again", zap.Error(err))
		}
		select {
		case r := <-c.results:
			c.settle(r)
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// step has what is due sent, once that is written.
func (c *crontab) step(ctx context.Context, sends *sync.WaitGroup) error {
	if err := c.load(ctx); err != nil {
		return err
	}
	now, send := c.now(), map[string]*cron.Claim{}
	var notes [][2]string
	for _, j := range c.jobs {
		if c.sending[j.Name] || now.Before(c.after[j.Name]) {
			continue
		}
		next, claim, said := cron.Next(j.Job, c.wanted(j.Name), now)
		c.states[j.Name] = next
		if claim != nil {
			send[j.Name] = claim
		}
		for _, text := range said {
			notes = append(notes, [2]string{text, j.Name})
		}
	}
	if err := c.keep(ctx); err != nil {
		for job, claim := range send {
			c.ended[job] = cronResult{job, claim.Key, fmt.Errorf("%w: %w", queue.ErrUnsent, err)}
		}
		return err
	}
	for _, n := range notes {
		c.note(n[0], n[1])
	}
	for i := range c.jobs {
		if j, claim := &c.jobs[i], send[c.jobs[i].Name]; claim != nil {
			c.send(ctx, sends, j, claim)
		}
	}
	return nil
}

// wanted is a job's state, with what a person wants.
func (c *crontab) wanted(job string) cron.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.states[job]
	if s.Run == "" && c.asked[job] != s.Ran {
		s.Run = c.asked[job]
	}
	delete(c.asked, job)
	return s
}

// load reads what the registry has, once and after each doubt. Of jobs that the file
// does not have any more nothing is remembered.
func (c *crontab) load(ctx context.Context) error {
	if c.read {
		return nil
	}
	states, data, err := cronStates(ctx, c.client)
	if err != nil {
		return err
	}
	c.states, c.kept, c.read = map[string]cron.State{}, data, true
	for _, j := range c.jobs {
		if s, ok := states[j.Name]; ok {
			c.states[j.Name] = s
		}
	}
	for _, r := range maps.Clone(c.ended) {
		c.settle(r)
	}
	return nil
}

// keep writes the states under the term, if they have changed.
func (c *crontab) keep(ctx context.Context) error {
	data, err := json.Marshal(c.states)
	if err != nil {
		return fmt.Errorf("remember schedules: %w", err)
	}
	if !bytes.Equal(data, c.kept) && (len(c.states) > 0 || c.kept != nil) {
		if err := c.client.Write(ctx, c.term, cronMemory, data); err != nil {
			return err
		}
		c.kept = data
	}
	clear(c.ended)
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, s := range c.states {
		changed := c.shown[name].Ran != s.Ran
		c.shown[name] = s
		if changed {
			c.wake()
		}
	}
	return nil
}

// send has a claim's message sent, beside what else goes on: a queue that does not
// answer holds up nobody else.
func (c *crontab) send(ctx context.Context, sends *sync.WaitGroup, j *farmfile.CronJob, claim *cron.Claim) {
	q, err := c.open(ctx, j.Queue)
	c.sending[j.Name] = true
	sends.Go(func() {
		if err == nil {
			_, err = q.Send(ctx, queue.Message{
				Body: j.Body, Group: j.Group, Once: claim.Key,
				Attributes: map[string]string{
					cronNameAttribute: j.Name, cronKeyAttribute: claim.Key, cronTickAttribute: claim.Tick.UTC().Format(time.RFC3339),
				},
			})
		}
		select {
		case c.results <- cronResult{j.Name, claim.Key, err}:
		case <-ctx.Done(): // the next leader finds the claim
		}
	})
}

// open is the queue's client. What fails here has sent nothing.
func (c *crontab) open(ctx context.Context, a queue.Address) (*queue.Queue, error) {
	if q, ok := c.queues[a.URL]; ok {
		return q, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	q, err := queue.Open(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", queue.ErrUnsent, err)
	}
	c.queues[a.URL] = q
	return q, nil
}

// openLimit is how long credentials may take to be found.
const openLimit = 5 * time.Second

// settle takes in how a send has ended. It is written in the next step; a leader that
// ends before that leaves the claim.
func (c *crontab) settle(r cronResult) {
	now := c.now()
	c.ended[r.job] = r
	delete(c.sending, r.job)
	s := c.states[r.job]
	if s.Claim == nil || s.Claim.Key != r.key {
		return // what was read since then knows better
	}
	if r.err == nil {
		c.failures[r.job] = 0
		c.states[r.job] = s.Settled(true, "sent", now)
		return
	}
	c.failures[r.job]++
	pause := cron.Pause(c.failures[r.job])
	c.after[r.job] = now.Add(pause)
	c.log.Warn("message of a schedule not sent", zap.String("cron", r.job), zap.Error(r.err), zap.Duration("next try after", pause))
	if c.failures[r.job] == 1 {
		c.note(fmt.Sprintf("cron %s: %v", r.job, r.err), r.job)
	}
	if errors.Is(r.err, queue.ErrUnsent) {
		c.states[r.job] = s.Failed(r.err.Error())
	}
}

// ask has a message sent now that an operation is for, and says how that is.
func (c *crontab) ask(job, operation string) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, known := c.shown[job]
	switch {
	case known && s.Ran == operation:
		return finished("%s", s.Told)
	case known && (s.Run == operation || s.Claim != nil && s.Claim.Run == operation):
		return waits("%s", s.Told)
	}
	c.asked[job] = operation
	return waits("it is the next that is sent")
}

// runCron carries out OpCron.
func (l *leader) runCron(_ *moment, o registry.Operation, _ bool) answer {
	name := o.Args["name"]
	for _, j := range l.crontab.jobs {
		if j.Name == name {
			return l.crontab.ask(name, o.ID)
		}
	}
	return refused("the farm file has no cron %q", name)
}

// cronStates is what the registry has.
func cronStates(ctx context.Context, client *registry.Client) (map[string]cron.State, []byte, error) {
	data, err := client.Read(ctx, cronMemory)
	if err != nil || data == nil {
		return nil, nil, err
	}
	states := map[string]cron.State{}
	if err := json.Unmarshal(data, &states); err != nil {
		return nil, nil, fmt.Errorf("what is remembered of schedules cannot be read: %w", err)
	}
	return states, data, nil
}

// CronStates is what the scalers remember of the farm file's schedules, by name.
func CronStates(ctx context.Context, client *registry.Client) (map[string]cron.State, error) {
	states, _, err := cronStates(ctx, client)
	return states, err
}
