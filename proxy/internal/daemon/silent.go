package daemon

import (
	"context"

	"farmhand/proxy/internal/monitor"
)

// leaveSilent breaks the connections to servers that do not answer any more (a
// machine that is gone, a network that is cut, a process that stands still), until
// ctx ends. TCP would find out after many minutes; sessions would wait so long.
//
// The primary is spared while the topology names it: what was sent to it may still
// be done, and the answer come. Once another is the primary it will not be.
func (d *Daemon) leaveSilent(ctx context.Context) error {
	for {
		v := d.monitor.View()
		for _, s := range v.Replicas {
			if s.Status == monitor.Down && s.Silent { // which the monitor has logged
				d.pool.Break(s.Name, s.Address)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.monitor.Changed(v.Generation):
		}
	}
}
