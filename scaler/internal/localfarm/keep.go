package localfarm

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"farmhand/internal/child"
)

// process is a child as keep sees it.
type process interface {
	PID() int
	Done() <-chan struct{}
	Ended() error
	Signal(syscall.Signal) bool
}

// part is one process of the farm that has to be there all the time.
type part struct {
	name  string
	start func() (process, error)
	// ended is told why the process is not there, and for how long it will not
	// be started again.
	ended func(err error, wait time.Duration)
}

// impatience is how long a part that was told to end at once may take.
const impatience = 10 * time.Second

// keep has the part run until finish ends and then ends it: with SIGTERM, and
// once more when now ends, then with SIGKILL. It returns when the process is
// gone. The error says that it did not end as it should.
func (p part) keep(finish, now context.Context) error {
	var backoff child.Backoff
	for finish.Err() == nil {
		began := time.Now()
		running, err := p.start()
		if err == nil {
			select {
			case <-running.Done():
				err = running.Ended()
			case <-finish.Done():
				return p.end(now, running)
			}
		}
		wait := backoff.Next(time.Since(began))
		p.ended(err, wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-finish.Done():
			timer.Stop()
		}
	}
	return nil
}

func (p part) end(now context.Context, running process) error {
	running.Signal(syscall.SIGTERM)
	select {
	case <-running.Done():
		return nil
	case <-now.Done():
	}
	running.Signal(syscall.SIGTERM) // the second one means: at once
	timer := time.NewTimer(impatience)
	defer timer.Stop()
	select {
	case <-running.Done():
		return nil
	case <-timer.C:
		running.Signal(syscall.SIGKILL)
		<-running.Done()
		return fmt.Errorf("%s (pid %d) had to be killed", p.name, running.PID())
	}
}
