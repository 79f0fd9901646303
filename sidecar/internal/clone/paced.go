package clone

import (
	"context"
	"io"
	"net/http"
	"time"

	"golang.org/x/time/rate"
)

// piece is the most that is sent at once under a limit on the rate.
const piece = 64 << 10

// paced writes an answer's body no faster than a limit, and not to somebody who
// takes none of it.
type paced struct {
	ctx     context.Context
	to      http.ResponseWriter
	control *http.ResponseController
	limiter *rate.Limiter // nil: none
	stall   time.Duration
	alarm   *time.Timer // goes off when nothing was sent for the time of stall
	sent    int64
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
		if err := p.control.SetWriteDeadline(time.Now().Add(p.stall)); err != nil {
			return n, err
		}
		var m int
		m, err = p.to.Write(part)
		n += m
		p.sent += int64(m)
		p.alarm.Reset(p.stall)
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

// counted reads a donor's answer, counts it, and does not wait for ever.
type counted struct {
	from  io.Reader
	stall time.Duration
	alarm *time.Timer
	tell  func(n int)
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	if err == nil {
		c.alarm.Reset(c.stall)
	} else {
		c.alarm.Stop() // what is done with the data then may take longer
	}
	c.tell(n)
	return n, err
}
