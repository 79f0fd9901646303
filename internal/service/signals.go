package service

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// SignalError is the cause of a stop that somebody asked for.
type SignalError struct{ Signal os.Signal }

func (e *SignalError) Error() string {
	switch e.Signal {
	case syscall.SIGTERM:
		return "received SIGTERM"
	case syscall.SIGINT:
		return "received SIGINT"
	}
	return "received " + e.Signal.String()
}

// Signals turns the signals to this process into what the program shall do:
// the first SIGTERM or SIGINT asks it to finish, the second to be gone, and
// SIGHUP to read its configuration again.
type Signals struct {
	finish, now         context.Context
	stopFinish, stopNow context.CancelCauseFunc
	received            chan os.Signal
	reload              chan struct{}
	quit                chan struct{}
	done                sync.WaitGroup
}

// WatchSignals begins to handle signals until Close is called. It calls reload,
// which may be nil, once for any number of SIGHUPs that came while it ran, and
// never twice at a time.
func WatchSignals(ctx context.Context, reload func()) *Signals {
	s := &Signals{
		received: make(chan os.Signal, 8),
		reload:   make(chan struct{}, 1),
		quit:     make(chan struct{}),
	}
	s.now, s.stopNow = context.WithCancelCause(ctx)
	s.finish, s.stopFinish = context.WithCancelCause(s.now)
	signal.Notify(s.received, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	s.done.Go(s.receive)
	// A reload may take its time, and a stop must not wait for it.
	s.done.Go(func() { s.reloads(reload) })
	return s
}

// Finish ends when the program shall take no new work and finish what it has;
// its cause is a [*SignalError].
func (s *Signals) Finish() context.Context { return s.finish }

// Now ends when the program shall drop what it has left.
func (s *Signals) Now() context.Context { return s.now }

// Close gives the signals their default meaning again, ends both contexts and
// waits for a reload that runs.
func (s *Signals) Close() {
	signal.Stop(s.received)
	close(s.quit)
	s.done.Wait()
	s.stopNow(context.Canceled)
}

func (s *Signals) receive() {
	for {
		select {
		case <-s.quit:
			return
		case received := <-s.received:
			switch {
			case received == syscall.SIGHUP:
				select {
				case s.reload <- struct{}{}:
				default:
				}
			case s.finish.Err() == nil:
				s.stopFinish(&SignalError{received})
			default:
				s.stopNow(&SignalError{received})
			}
		}
	}
}

func (s *Signals) reloads(reload func()) {
	for {
		select {
		case <-s.quit:
			return
		case <-s.reload:
			if reload != nil {
				reload()
			}
		}
	}
}
