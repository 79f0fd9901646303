package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/proxy/internal/monitor"
)

// leaveSilent breaks the connections to servers that do not answer any more (a
// machine that is gone, a network that is cut, a process that stands still), until
// ctx ends. TCP would find out after many minutes; sessions would wait so long.
//
// The primary is spared while the topology names it: what was sent to it may still
// be done, and the answer come. Once another is the primary it will not be. A server
// that leaves the topology is looked at for as long as sessions are on it: it may leave
// because it is silent.
func (d *Daemon) leaveSilent(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	departed := map[string]context.CancelFunc{} // by address
	defer func() {
		for _, back := range departed {
			back()
		}
	}()
	here := map[string]monitor.Server{} // by address
	for {
		v := d.monitor.View()
		for _, s := range v.Replicas {
			if s.Status == monitor.Down && s.Silent { // which the monitor has logged
				d.pool.Break(s.Name, s.Address)
			}
		}
		was := here
		here = map[string]monitor.Server{}
		for _, s := range v.Replicas {
			here[s.Address] = *s
		}
		if v.Primary != nil {
			here[v.Primary.Address] = *v.Primary
		}
		for address, s := range was {
			if _, still := here[address]; still {
				continue
			}
			if s.Silent {
				d.pool.Break(s.Name, s.Address)
			}
			one := farm.Server{Name: s.Name, Address: s.Address}
			look, stop := context.WithCancel(ctx)
			departed[address] = stop
			watching.Go(func() { d.leaveIfSilent(look, one) })
		}
		for address, back := range departed {
			if _, again := here[address]; again {
				back()
				delete(departed, address)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.monitor.Changed(v.Generation):
		}
	}
}

// silences are how often in a row a server that has left must say nothing.
const silences = 2

// leaveIfSilent looks at a server that has left the topology until no session is on
// it, or ctx ends.
func (d *Daemon) leaveIfSilent(ctx context.Context, s farm.Server) {
	health := d.config.Health
	for n := 0; ctx.Err() == nil && d.pool.Busy(s.Name, s.Address); {
		if greets(ctx, s, time.Duration(health.Timeout)) {
			n = 0
		} else if n++; n == silences {
			d.log.Warn("a server that has left the topology is silent; its sessions leave it", zap.String("server", s.Name), zap.String("address", s.Address))
			d.pool.Break(s.Name, s.Address)
			n = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(health.Interval)):
		}
	}
}

// greets reports whether anything comes from the server in time: its first packet, or the
// end of the connection, by which its other connections end, too.
func greets(ctx context.Context, s farm.Server, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, s.Network(), s.Address)
	if err == nil {
		deadline, _ := ctx.Deadline()
		err = conn.SetReadDeadline(deadline)
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		_ = conn.Close() // nothing was written
	}
	var slow net.Error
	return !(errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &slow) && slow.Timeout())
}
