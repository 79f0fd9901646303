package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farmtest"
	"farmhand/internal/queue"
	"farmhand/internal/registry"
	"farmhand/internal/sqstest"
	"farmhand/scaler/internal/control"
	"farmhand/scaler/internal/cron"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/schedule"
)

// errEnded is why a leader of these tests ends, without a word to anybody.
var errEnded = errors.New("it is ended by the test")

// TestATickIsOneMessage: leaders that end in the middle, calls that are refused or not
// answered. What is in the queues is what docs/ROLES.md promises.
func TestATickIsOneMessage(t *testing.T) {
	const ticks = 20
	origin := time.Date(2026, 11, 28, 17, 0, 30, 0, time.UTC)
	sqstest.SetCredentials(t)
	sqs := sqstest.NewSQS(t)
	f := newRegistry(t)
	every, err := schedule.Parse("* * * * *")
	must(t, err)
	var jobs []farmfile.CronJob
	for name, unsure := range map[string]cron.Unsure{"once.fifo": cron.Skip, "repeat": cron.Repeat, "skip": cron.Skip} {
		address, err := queue.ParseAddress(sqs.Queue(name, sqstest.QueueOptions{}))
		must(t, err)
		jobs = append(jobs, farmfile.CronJob{Queue: address, Body: "tick", Group: "ticks", Job: cron.Job{
			Name: strings.TrimSuffix(name, ".fifo"), Schedule: every, CatchUp: cron.All, Limit: 1000, Unsure: unsure, FIFO: address.FIFO(),
		}})
	}
	clock := &madeUp{now: origin}
	must(t, f.lead(t.Context(), "first", func(ctx context.Context, client *registry.Client, term registry.Term) error {
		return newTestCrontab(client, term, jobs, clock).step(ctx, new(sync.WaitGroup))
	}))

	ctx, stop := context.WithCancel(t.Context())
	var leaders sync.WaitGroup
	for i := range 3 {
		chance := rand.New(rand.NewPCG(7, uint64(i)))
		leaders.Go(func() {
			for ctx.Err() == nil {
				err := f.lead(ctx, fmt.Sprintf("scaler-%d", i), func(ctx context.Context, client *registry.Client, term registry.Term) error {
					ctx, end := context.WithTimeoutCause(ctx, time.Duration(10+chance.IntN(200))*time.Millisecond, errEnded)
					defer end()
					return newTestCrontab(client, term, jobs, clock).run(ctx)
				})
				if err != nil && !errors.Is(err, errEnded) && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	faults := []sqstest.Fault{sqstest.Throttled, sqstest.LostReply, sqstest.Broken}
	chance := rand.New(rand.NewPCG(1, 2))
	for range 3 * ticks {
		if chance.IntN(3) == 0 {
			sqs.Fail("SendMessage", faults[chance.IntN(len(faults))])
		}
		sqs.Advance(20 * time.Second)
		looked := clock.advance(20 * time.Second)
		farmtest.Eventually(t, "somebody looks at the clock", func() error {
			if n := clock.looks(); n < looked+4 {
				return fmt.Errorf("%d times", n-looked)
			}
			return nil
		})
	}
	// All that was due is to be there; who leads last is not ended.
	stop()
	leaders.Wait()
	end := clock.look()
	finish, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = f.lead(finish, "last", func(ctx context.Context, client *registry.Client, term registry.Term) error {
		c := newTestCrontab(client, term, jobs, clock)
		var sends sync.WaitGroup
		for {
			if err := c.step(ctx, &sends); err != nil {
				return err
			}
			if len(c.sending) == 0 {
				due := false
				for _, j := range c.jobs {
					_, send, _ := cron.Next(j.Job, c.states[j.Name], end)
					due = due || send != nil
				}
				if !due {
					return nil
				}
				clear(c.after) // its clock stands still
				continue
			}
			select {
			case r := <-c.results:
				c.settle(r)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	must(t, err)
	for _, j := range jobs {
		name := j.Queue.URL[strings.LastIndex(j.Queue.URL, "/")+1:]
		times := map[string]int{}
		for _, m := range sqs.Histories(name) {
			times[m.Attributes[cronTickAttribute]]++
		}
		twice, never := 0, 0
		for tick := origin.Add(30 * time.Second); !tick.After(end); tick = tick.Add(time.Minute) {
			n := times[tick.Format(time.RFC3339)]
			if n > 1 {
				twice++
			} else if n == 0 {
				never++
			}
			if j.FIFO && n != 1 || j.Unsure == cron.Repeat && n < 1 || j.Unsure == cron.Skip && n > 1 {
				t.Errorf("%s: %v was sent %d times", name, tick, n)
			}
		}
		t.Logf("%s: %d ticks, %d of them sent twice, %d never", name, len(times), twice, never)
	}
}

// madeUp is a clock that a test sets, and that knows how often somebody has looked.
type madeUp struct {
	mu     sync.Mutex
	now    time.Time
	looked int
}

func (c *madeUp) look() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked++
	return c.now
}

func (c *madeUp) advance(d time.Duration) (looked int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.looked
}

func (c *madeUp) looks() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.looked
}

func newTestCrontab(client *registry.Client, term registry.Term, jobs []farmfile.CronJob, clock *madeUp) *crontab {
	c := newCrontab(client, term, jobs, zap.NewNop(), func(string, string) {}, func() {})
	c.now, c.pace = clock.look, 10*time.Millisecond
	return c
}

// registryOnly is a control node's registry without a scaler.
type registryOnly struct{ dir control.Dir }

func newRegistry(t *testing.T) registryOnly {
	first := farmtest.FreePort(t)
	c := control.Default()
	c.Farm = "shop"
	c.Members = []control.Member{{
		Name: "a", Address: first.Addr().String(), ClientPort: first.Port(),
		PeerPort: farmtest.FreePort(t).Port(), JoinPort: farmtest.FreePort(t).Port(),
	}}
	dirs, err := control.Init(control.Dir{Path: filepath.Join(t.TempDir(), "control")}, c, time.Now())
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- control.Run(ctx, dirs[0], zap.NewNop(), func(control.Running) { close(ready) }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("the registry is not ready")
	}
	return registryOnly{dirs[0]}
}

func (r registryOnly) lead(ctx context.Context, who string, lead func(context.Context, *registry.Client, registry.Term) error) error {
	return r.dir.With(func(client *registry.Client, _ control.Config) error {
		return client.Lead(ctx, who, 2*time.Second, func(ctx context.Context, term registry.Term) error { return lead(ctx, client, term) })
	})
}
