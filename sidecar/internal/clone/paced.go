package clone

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// piece is the most that is sent at once under a limit on the rate.
const piece = 64 << 10

// paced writes no faster than a limit, and not to somebody who takes none of it.
type paced struct {
	ctx      context.Context
	to       io.Writer
	deadline func(time.Time) error
	limiter  *rate.Limiter // nil: none
	stall    time.Duration
	moved    func() // something was sent
	sent     atomic.Int64
}

func (p *paced) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		part := b[n:]
		if p.limiter != nil {
			part = part[:min(len(part), p.limiter.Burst())]
			if err := p.limiter.WaitN(p.ctx, len(part)); err != nil {
				return n, err
			}
		}
		if err := p.deadline(time.Now().Add(p.stall)); err != nil {
			return n, err
		}
		var m int
		m, err = p.to.Write(part)
		n += m
		p.sent.Add(int64(m))
		p.moved()
	}
	return n, err
}

// limiterOf is a limit of so many bytes per second; nil if that is 0.
func limiterOf(bytes int64) *rate.Limiter {
	if bytes <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytes), int(min(piece, bytes)))
}

// counted reads a donor's answer and does not wait for ever.
type counted struct {
	from  io.Reader
	stall time.Duration
	alarm *time.Timer // goes off when nothing has come in for the time of stall
	read  int64
	ended bool // in order
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	if err == nil {
		c.alarm.Reset(c.stall)
	} else {
		c.alarm.Stop() // what is done with the data then may take longer
		c.ended = errors.Is(err, io.EOF)
	}
	c.read += int64(n)
	return n, err
}
