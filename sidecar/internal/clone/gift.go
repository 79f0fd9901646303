package clone

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// gift is what a donor gives to one joiner: the body of an answer, and, if the
// data does not come in that, connections to its database server.
type gift struct {
	donor   *Donor
	joiner  string
	ctx     context.Context // ends with the gift
	end     context.CancelCauseFunc
	limiter *rate.Limiter // of body and connections together
	body    *paced
	alarm   *time.Timer // goes off when no data was sent for the donor's Stall

	before, after string // the donor's streams

	finished chan struct{} // closed when the joiner says that it has all
	finish   func()

	through   atomic.Int64 // bytes that went through connections
	tunnelled atomic.Int32 // connections open now
}

// maxTunnels is more than MySQL's clone plugin opens (clone_max_concurrency, 16,
// and two).
const maxTunnels = 64

func newGift(ctx context.Context, d *Donor, joiner string, w http.ResponseWriter) *gift {
	g := &gift{donor: d, joiner: joiner, limiter: limiterOf(d.Rate), finished: make(chan struct{})}
	g.finish = sync.OnceFunc(func() { close(g.finished) })
	var cancel context.CancelCauseFunc
	g.ctx, cancel = context.WithCancelCause(ctx)
	stalled := fmt.Errorf("nothing was sent for %v", d.Stall)
	g.alarm = time.AfterFunc(d.Stall, func() { cancel(stalled) })
	g.end = func(cause error) {
		g.alarm.Stop()
		cancel(cause)
	}
	g.body = &paced{
		ctx: g.ctx, to: w, deadline: http.NewResponseController(w).SetWriteDeadline,
		limiter: g.limiter, stall: d.Stall, moved: func() {},
	}
	return g
}

// Write sends data in the answer's body.
func (g *gift) Write(b []byte) (int, error) {
	n, err := g.body.Write(b)
	g.alarm.Reset(g.donor.Stall)
	return n, err
}

// say sends something that is no data.
func (g *gift) say(b []byte) error {
	_, err := g.body.Write(b)
	if f, ok := g.body.to.(http.Flusher); ok && err == nil {
		f.Flush()
	}
	return err
}

func (g *gift) bytes() int64 { return g.body.sent.Load() + g.through.Load() }

// connect makes the connection of w one to the database server's socket, for as
// long as the gift lasts and both ends want it.
func (g *gift) connect(w http.ResponseWriter) (err error) {
	if g.tunnelled.Add(1) > maxTunnels {
		g.tunnelled.Add(-1)
		http.Error(w, "too many connections", http.StatusTooManyRequests)
		return nil
	}
	defer g.tunnelled.Add(-1)
	server, err := (&net.Dialer{Timeout: connectLimit}).DialContext(g.ctx, "unix", g.donor.Config.Socket)
	if err != nil {
		http.Error(w, short(err.Error()), http.StatusBadGateway)
		return err
	}
	joiner, ahead, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return errors.Join(err, server.Close())
	}
	err = joiner.SetDeadline(time.Time{})
	if err == nil {
		_, err = io.WriteString(joiner, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+upgrade+"\r\n\r\n")
	}
	if err != nil {
		return errors.Join(err, joiner.Close(), server.Close())
	}
	out := &paced{
		ctx: g.ctx, to: joiner, deadline: joiner.SetWriteDeadline, limiter: g.limiter, stall: g.donor.Stall,
		moved: func() { g.alarm.Reset(g.donor.Stall) },
	}
	splice(g.ctx, server, joiner, struct {
		io.Reader
		io.Writer
	}{buffered(ahead.Reader, joiner), out})
	g.through.Add(out.sent.Load())
	return nil
}

// buffered reads what was read ahead of conn, then conn.
func buffered(ahead *bufio.Reader, conn io.Reader) io.Reader {
	if ahead.Buffered() == 0 {
		return conn
	}
	return ahead
}

// splice passes what comes from a to far and the other way round until one of them
// ends or ctx does; then it closes both. far is how b is read and written.
func splice(ctx context.Context, a, b io.Closer, far io.ReadWriter) {
	near := a.(io.ReadWriter)
	closeBoth := sync.OnceFunc(func() {
		// What has broken says so again when it is closed.
		_ = a.Close()
		_ = b.Close()
	})
	stop := context.AfterFunc(ctx, closeBoth)
	var both sync.WaitGroup
	for _, way := range []struct {
		to   io.Writer
		from io.Reader
	}{{near, far}, {far, near}} {
		both.Go(func() {
			defer closeBoth()
			// How a connection ended is known to who uses it.
			_, _ = io.CopyBuffer(struct{ io.Writer }{way.to}, struct{ io.Reader }{way.from}, make([]byte, 64<<10))
		})
	}
	both.Wait()
	if !stop() {
		closeBoth() // waits until it is done
	}
}
