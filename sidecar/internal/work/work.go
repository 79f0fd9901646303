// Package work makes a worker of any program: it takes messages from a queue, runs the
// program for each with the message on its standard input, keeps the message from other
// workers meanwhile, and deletes it when the program has succeeded (docs/ROLES.md,
// worker).
//
// Invariant: the program runs only while the message is held for sure. Where the queue
// does not answer to that, the program is killed before the time is over: nobody else
// begins with the message before.
package work

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/child"
	"farmhand/internal/queue"
)

// Config is how a worker works.
type Config struct {
	Queue   *queue.Queue
	Command []string
	// Hold is how long a message is held at a time; it is held again after a third of
	// that.
	Hold time.Duration
	// Wait is how long one call waits for a message, and so how long a worker without one
	// takes to end.
	Wait time.Duration
	// Limit is how long the program may take for one message.
	Limit time.Duration
	// Retry is after how long a message is given again for which the program has failed.
	Retry time.Duration
	// Busy is the file that is locked while there is a message; see [Busy]. nil for none.
	Busy *Busy
	// Turns are taken before each message; nil where nobody can have the worker rest.
	Turns *Turns
	// Output is where the program writes.
	Output io.Writer
	Log    *zap.Logger
}

// Bounds of a [Config].
const (
	MinHold = 2 * time.Second
	// MaxLimit leaves the longest hold that SQS allows some time to spare.
	MaxLimit = 11 * time.Hour
)

// spare is how long before the end of its hold a program is killed.
func (c *Config) spare() time.Duration { return min(c.Hold/4, 5*time.Second) }

// Run works until finish ends, and then does what it has begun. The end of now cuts
// that short: the message is given back.
func Run(finish, now context.Context, c Config) error {
	var backoff child.Backoff
	for finish.Err() == nil {
		if may, err := c.Turns.begin(); err != nil {
			return err
		} else if !may {
			select {
			case <-time.After(restLook):
			case <-finish.Done():
			}
			continue
		}
		began := time.Now()
		// Not bound to finish: a message that is on its way to us would be held by nobody.
		m, err := c.Queue.Receive(now, c.Wait, c.Hold)
		if err != nil {
			if now.Err() != nil {
				break
			}
			if err := c.Turns.end(); err != nil {
				return err
			}
			wait := backoff.Next(time.Since(began))
			c.Log.Error("no message received", zap.Error(err), zap.Duration("next try after", wait))
			select {
			case <-time.After(wait):
			case <-finish.Done():
			}
			continue
		}
		backoff = child.Backoff{}
		if m == nil {
			if err := errors.Join(c.Busy.idle(time.Now()), c.Turns.end()); err != nil {
				return err
			}
			continue
		}
		if err := errors.Join(c.work(now, m), c.Turns.end()); err != nil {
			return err
		}
	}
	return nil
}

// work does one message. The error is one of this machine's: there is no use to go on.
func (c *Config) work(now context.Context, m *queue.Received) error {
	if err := c.Busy.begin(m, time.Now()); err != nil {
		return errors.Join(err, c.giveBack(m, 0))
	}
	log := c.Log.With(zap.String("message", m.ID), zap.Int("times", m.Times))
	began := time.Now()
	done, err := c.run(now, m, log)
	switch {
	case errors.Is(err, queue.ErrLost):
		log.Warn("message lost to another worker, program killed", zap.Error(err), zap.Duration("after", time.Since(began)))
	case err != nil:
		log.Error("message not done, given back", zap.Error(err), zap.Duration("after", time.Since(began)), zap.Duration("again in", c.Retry))
		if err := c.giveBack(m, c.Retry); err != nil {
			log.Warn("message is given again when its time is over", zap.Error(err))
		}
	default:
		if err := c.delete(m, done); err != nil {
			log.Error("message was done and cannot be deleted: it is done again", zap.Error(err))
		} else {
			log.Info("message done", zap.Duration("after", time.Since(began)))
		}
	}
	return c.Busy.end(err == nil)
}

// giveBack lets the next worker have the message after a while.
func (c *Config) giveBack(m *queue.Received, after time.Duration) error {
	return c.Queue.Extend(context.Background(), m, after)
}

// delete takes the message out of the queue, with several tries until the hold is over.
func (c *Config) delete(m *queue.Received, until time.Time) error {
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	for {
		err := c.Queue.Delete(ctx, m)
		if err == nil || errors.Is(err, queue.ErrLost) {
			return err
		}
		select {
		case <-time.After(deleteAgain):
		case <-ctx.Done():
			return err
		}
	}
}

const deleteAgain = 200 * time.Millisecond

// run runs the program for a message and returns until when the message is held. The
// error is why it is not done.
func (c *Config) run(now context.Context, m *queue.Received, log *zap.Logger) (until time.Time, err error) {
	// Held from a moment that we know, which is before the queue's.
	until = time.Now().Add(c.Hold)
	if err := c.Queue.Extend(now, m, c.Hold); err != nil {
		return until, err
	}
	cmd := exec.Command(c.Command[0], c.Command[1:]...)
	cmd.Env = append(os.Environ(), environment(m)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(m.Body), c.Output, c.Output
	cmd.WaitDelay = time.Second // what it leaves behind may keep its input or output
	process, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return until, err
	}
	// What it leaves behind in its process group would go on with a message of others.
	defer process.SignalGroup(syscall.SIGKILL)
	limit := time.NewTimer(c.Limit)
	defer limit.Stop()
	kill := func(why error) (time.Time, error) {
		process.SignalGroup(syscall.SIGKILL)
		<-process.Done()
		return until, why
	}
	type held struct {
		from time.Time
		err  error
	}
	extended := make(chan held, 1)
	// One at a time: the next is due when it has ended.
	extending, stop := context.WithCancel(now)
	var extends sync.WaitGroup
	defer extends.Wait()
	defer stop()
	next := time.NewTimer(c.Hold / 3)
	defer next.Stop()
	for {
		end := time.NewTimer(time.Until(until.Add(-c.spare())))
		select {
		case <-process.Done():
			end.Stop()
			return until, process.Err()
		case <-limit.C:
			end.Stop()
			return kill(fmt.Errorf("it took longer than %v", c.Limit))
		case <-now.Done():
			end.Stop()
			return kill(errors.New("the worker is ended"))
		case <-end.C:
			return kill(fmt.Errorf("%w: the queue did not answer in time", queue.ErrLost))
		case <-next.C:
			by := until
			extends.Go(func() {
				from := time.Now()
				ctx, cancel := context.WithDeadline(extending, by)
				defer cancel()
				extended <- held{from, c.Queue.Extend(ctx, m, c.Hold)}
			})
		case h := <-extended:
			switch {
			case errors.Is(h.err, queue.ErrLost):
				end.Stop()
				return kill(h.err)
			case h.err != nil:
				log.Warn("message not held longer yet, tried again", zap.Error(h.err))
				next.Reset(min(c.Hold/10, time.Second))
			default:
				until = h.from.Add(c.Hold)
				next.Reset(c.Hold / 3)
			}
		}
		end.Stop()
	}
}

// environment is what a program finds beside the message.
func environment(m *queue.Received) []string {
	attributes, err := json.Marshal(m.Attributes)
	if err != nil {
		panic(err) // of a map of texts there is none
	}
	list := []string{
		"FARMHAND_MESSAGE_ID=" + m.ID, "FARMHAND_MESSAGE_TIMES=" + strconv.Itoa(m.Times),
		"FARMHAND_MESSAGE_ATTRIBUTES=" + string(bytes.ReplaceAll(attributes, []byte{0}, nil)),
	}
	if !m.Sent.IsZero() {
		list = append(list, "FARMHAND_MESSAGE_SENT="+m.Sent.UTC().Format(time.RFC3339Nano))
	}
	return list
}
