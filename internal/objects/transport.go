package objects

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/time/rate"
)

// transport is a way to a store that keeps to a rate and gives up what stands
// still.
type transport struct {
	base    client
	send    *rate.Limiter // nil: no bound
	receive *rate.Limiter
	stall   time.Duration
}

// client is how the store's library has its requests made.
type client interface {
	Do(r *http.Request) (*http.Response, error)
}

// limiterOf is a bound of so many bytes per second; nil if that is 0.
func limiterOf(bytes int64) *rate.Limiter {
	if bytes <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytes), int(max(1, min(bytes/10, 64<<10))))
}

func (t *transport) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	alarm := time.AfterFunc(t.stall, func() { cancel(fmt.Errorf("nothing moved for %v", t.stall)) })
	r = r.Clone(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &moved{ctx: ctx, body: r.Body, limiter: t.send, alarm: alarm, stall: t.stall, sending: true}
	}
	answer, err := t.base.Do(r)
	alarm.Stop()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		cancel(nil)
		return nil, err
	}
	answer.Body = &moved{ctx: ctx, body: answer.Body, limiter: t.receive, alarm: alarm, stall: t.stall, end: func() { cancel(nil) }}
	return answer, nil
}

// moved is a body on its way. The alarm runs while somebody waits for the network:
// from one read of what is sent to the next, and during reads of what comes in.
type moved struct {
	ctx     context.Context
	body    io.ReadCloser
	limiter *rate.Limiter
	alarm   *time.Timer
	stall   time.Duration
	sending bool
	end     func() // may be nil
}

func (m *moved) Read(b []byte) (int, error) {
	if m.limiter != nil {
		b = b[:min(len(b), m.limiter.Burst())]
	}
	if m.sending {
		m.alarm.Stop()
	} else {
		m.alarm.Reset(m.stall)
	}
	n, err := m.body.Read(b)
	if !m.sending {
		m.alarm.Stop()
	}
	if err != nil && err != io.EOF {
		if cause := context.Cause(m.ctx); cause != nil {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
	}
	if n > 0 && m.limiter != nil {
		if werr := m.limiter.WaitN(m.ctx, n); werr != nil && err == nil {
			err = werr
		}
	}
	if m.sending {
		m.alarm.Reset(m.stall)
	}
	return n, err
}

func (m *moved) Close() error {
	if !m.sending { // else the answer is waited for
		m.alarm.Stop()
	}
	err := m.body.Close()
	if m.end != nil {
		m.end()
	}
	return err
}
