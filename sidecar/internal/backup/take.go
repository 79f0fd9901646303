package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/time/rate"

	format "farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/objects"
)

// Full is a full backup that is to be taken.
type Full struct {
	Install dbserver.Install
	// Config is that of the server, which must run; best a replica.
	Config dbserver.Config
	Store  objects.Store
	// ID is the backup's name, which none had before; default a new one.
	ID string
	// Cluster, Node and Epoch are noted in the manifest.
	Cluster, Node string
	Epoch         farm.Epoch
	// Logical has it be statements instead of the server's files.
	Logical bool
	// To are the keys that the backup is encrypted to; none: it is not.
	To []format.Recipient
	// Rate is how much of the server's data is read in a second, in bytes; 0 for no
	// bound.
	Rate int64
	// Stall is how long the server may give nothing before the backup is given up;
	// default 5 minutes. A backup can wait for the server's locks.
	Stall time.Duration
	// Tell is told how much has been read of the server's data, twice a second while
	// it moves; may be nil. Where the data is copied before it is sent, each is half of
	// that. It must not block.
	Tell func(bytes int64)
}

// What limits a backup's last steps, and tells of its progress.
const (
	cleanupLimit = 30 * time.Second
	tellEvery    = 500 * time.Millisecond
	burst        = 256 << 10 // what may be read at once when there is a bound
)

// Take takes the backup. If it fails it does not count, and what there is of it is
// removed as far as the store lets it.
func Take(ctx context.Context, f Full) (_ *format.Manifest, err error) {
	how, err := flavorOf(&f)
	if err != nil {
		return nil, fmt.Errorf("take a full backup of %s: %w", f.Node, err)
	}
	if f.ID == "" {
		f.ID = format.NewID(time.Now())
	}
	if f.Stall == 0 {
		f.Stall = 5 * time.Minute
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w, err := format.Create(ctx, f.Store, f.Cluster, f.ID, f.To)
	if err != nil {
		return nil, fmt.Errorf("take a full backup of %s: %w", f.Node, err)
	}
	defer func() {
		if err != nil {
			cancel(nil)
			limited, end := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
			defer end()
			err = errors.Join(fmt.Errorf("take full backup %s of %s: %w", w.ID(), f.Node, err), w.Abort(limited))
		}
	}()
	passing := &passing{
		ctx: ctx, to: w, tell: f.Tell, stall: f.Stall,
		alarm: time.AfterFunc(f.Stall, func() { cancel(fmt.Errorf("the server gave nothing for %v", f.Stall)) }),
	}
	defer passing.alarm.Stop()
	if f.Rate > 0 {
		passing.limiter = rate.NewLimiter(rate.Limit(f.Rate), int(min(f.Rate, burst)))
	}
	give := how.files
	if f.Logical {
		give = how.statements
	}
	got, err := give(ctx, &f, passing)
	if err != nil {
		return nil, err
	}
	passing.alarm.Stop()
	return w.Commit(func(m *format.Manifest) {
		m.Flavor, m.ServerVersion, m.Tool, m.Stream = f.Install.Flavor.String(), f.Install.Version, got.tool, got.stream
		if f.Logical {
			m.Kind = format.Logical
		}
		m.Source, m.Epoch, m.Position, m.BinlogState = f.Node, f.Epoch, got.position, got.state
	})
}

// passing is what comes from the server, on its way into a backup.
type passing struct {
	ctx     context.Context
	limiter *rate.Limiter // nil: no bound
	to      io.Writer
	tell    func(int64)
	stall   time.Duration
	alarm   *time.Timer // goes off when the server gave nothing for the time of stall
	copied  int64       // before that, on this machine
	bytes   int64
	told    time.Time
}

// copying says that the server has copied so much, which does not come by here yet.
func (p *passing) copying(bytes int64) {
	p.alarm.Reset(p.stall)
	p.copied = bytes
	p.telling()
}

// telling tells how far that is, if it is time.
func (p *passing) telling() {
	now := time.Now()
	if p.tell == nil || now.Sub(p.told) < tellEvery {
		return
	}
	p.told = now
	if p.copied > 0 {
		p.tell((p.copied + p.bytes) / 2)
	} else {
		p.tell(p.bytes)
	}
}

func (p *passing) Write(b []byte) (int, error) {
	p.alarm.Stop() // the store has a patience of its own
	defer p.alarm.Reset(p.stall)
	n, err := p.to.Write(b)
	p.bytes += int64(n)
	for left := n; p.limiter != nil && left > 0; {
		some := min(left, p.limiter.Burst())
		if err := p.limiter.WaitN(p.ctx, some); err != nil {
			return n, err
		}
		left -= some
	}
	p.telling()
	return n, err
}
