package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	format "farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// Into is where data is restored to.
type Into struct {
	Install dbserver.Install
	// Config is that of the server that is to get the data. It may run on its old data
	// meanwhile, or have none.
	Config dbserver.Config
	// Tell is told of every phase, and twice a second while one goes on; may be nil. It
	// must not block. It is called by one goroutine at a time.
	Tell func(Progress)
}

// Progress is how far a restore has come.
type Progress struct {
	Phase Phase
	// Done and Total count the bytes of the store, of all phases.
	Done, Total int64
	// Left is about how long the phase will last; 0 while it is not known.
	Left time.Duration
}

// Phase is what is being done.
type Phase string

// The phases, in order. Replaying is left out where there is nothing to replay.
const (
	Fetching   Phase = "fetching"   // data comes in
	Recovering Phase = "recovering" // the data is made consistent
	Replaying  Phase = "replaying"  // the archive is applied to it
	Checking   Phase = "checking"   // a server runs on it
)

// Restored is whole data that waits beside a server's own.
type Restored struct {
	Reached
	Bytes int64 // of the store that were read
	Took  time.Duration

	config dbserver.Config
}

// Reached is where data is.
type Reached struct {
	// Position is the GTID position up to which it holds transactions. The data itself
	// knows it, too (gtid_slave_pos, gtid_executed).
	Position string
	// Time is when the last transaction of it was committed that was replayed; zero if
	// none was.
	Time time.Time
	// Replayed counts the transactions that were replayed.
	Replayed int

	wrote gtid.Streams // who wrote those
}

// Restore makes data as planned, beside that of the server. An attempt before is
// forgotten. A failed one leaves nothing; what is wrong with an object of the store is a
// format.FaultError that names it, in an UnreachableError that says what can be reached.
func (p *Plan) Restore(ctx context.Context, to Into) (_ *Restored, err error) {
	began := time.Now()
	name := p.Manifest.ID
	if err := p.begin(p.Manifest); err != nil {
		return nil, fmt.Errorf("restore backup %s: %w", name, err)
	}
	how, err := p.fits(to.Install)
	if err != nil {
		return nil, fmt.Errorf("restore backup %s: %w", name, err)
	}
	in, err := dbserver.PrepareIncoming(to.Config)
	if err != nil {
		return nil, fmt.Errorf("restore backup %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("restore backup %s: %w", name, err), dbserver.DropIncoming(to.Config))
		}
	}()
	t := newTelling(to.Tell, p.Stored())
	data := p.copy
	if p.Manifest.Kind == format.Logical {
		data = p.load
	}
	if err := data(ctx, to.Install, how, in, t); err != nil {
		return nil, p.damaged(ctx, err)
	}
	reached, err := p.replay(ctx, to.Install, how, in, t)
	if err != nil {
		return nil, p.damaged(ctx, err)
	}
	if err := how.tellHistory(ctx, p.Manifest, to.Install, in, reached); err != nil {
		return nil, err
	}
	return &Restored{Reached: reached, Bytes: p.Stored(), Took: time.Since(began), config: to.Config}, nil
}

// Replay replays a plan of Onward on the data of the server, which does not run.
// After a failure the data is of no use any more.
func (p *Plan) Replay(ctx context.Context, to Into) (Reached, error) {
	how, err := flavorOf(p.of)
	if err != nil {
		return Reached{}, err
	}
	reached, err := p.replay(ctx, to.Install, how, to.Config, newTelling(to.Tell, p.Stored()))
	if err != nil {
		return Reached{}, fmt.Errorf("replay the archive from %s on: %w", p.base, err)
	}
	return reached, nil
}

// Swap puts the data in the place of the server's own, which is removed. No server
// may run on that.
func (r *Restored) Swap() error { return dbserver.ReplaceData(r.config) }

// SwapKeeping is Swap, but keeps the server's own data in the directory aside, on the
// same file system (dbserver.KeepData).
func (r *Restored) SwapKeeping(aside string) error { return dbserver.KeepData(r.config, aside) }

// Discard removes the data.
func (r *Restored) Discard() error { return dbserver.DropIncoming(r.config) }

// fits says how a server runs on the backup's data, or why it cannot: one of another
// series would have to upgrade it first, or could not read it.
func (p *Plan) fits(inst dbserver.Install) (flavor, error) {
	m := p.Manifest
	if inst.Flavor != p.of || m.Kind != format.Logical && series(m.ServerVersion) != series(inst.Version) {
		return nil, fmt.Errorf("it is of a %s %s server, and here is %v %s", m.Flavor, m.ServerVersion, inst.Flavor, inst.Version)
	}
	how, err := flavorOf(p.of)
	if err != nil {
		return nil, err
	}
	return how, how.ready(inst, m)
}

// series is a version's first two numbers.
func series(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// room says whether there is room for so many bytes where dir is.
func room(dir string, bytes int64) error {
	free, err := freeIn(dir)
	if err != nil {
		return err
	}
	if free < bytes {
		return fmt.Errorf("there are %d MiB free in %s, and %d MiB are needed", free>>20, dir, bytes>>20)
	}
	return nil
}

func freeIn(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("look for room in %s: %w", dir, err)
	}
	return int64(fs.Bavail) * fs.Bsize, nil
}

// copy makes data of the files that a backup has.
func (p *Plan) copy(ctx context.Context, inst dbserver.Install, how flavor, in dbserver.Config, t *telling) error {
	if err := room(in.DataDir(), p.Manifest.Bytes); err != nil {
		return err
	}
	if err := p.fetch(ctx, t, func(r io.Reader) error { return how.extract(ctx, in, r) }); err != nil {
		return err
	}
	t.phase(Recovering, p.Manifest.Stored())
	position, err := how.recover(ctx, inst, in)
	if err != nil {
		return err
	}
	if at, err := gtid.Parse(p.of, position); err != nil || !at.Equal(p.base) {
		return fmt.Errorf("its data goes up to %s, and its manifest says %s", position, p.Manifest.Position)
	}
	return nil
}

// load makes data of the statements that a backup has: a server that is new executes
// them.
func (p *Plan) load(ctx context.Context, inst dbserver.Install, how flavor, in dbserver.Config, t *telling) error {
	empty := in
	empty.Dir = filepath.Join(in.Dir, "empty")
	empty.Socket = filepath.Join(empty.Dir, "s")
	if err := dbserver.Initialise(ctx, inst, empty); err != nil {
		return fmt.Errorf("make a server for it: %w", err)
	}
	if err := os.Remove(in.DataDir()); err != nil {
		return fmt.Errorf("make a server for it: %w", err)
	}
	if err := errors.Join(os.Rename(empty.DataDir(), in.DataDir()), os.RemoveAll(empty.Dir)); err != nil {
		return fmt.Errorf("make a server for it: %w", err)
	}
	c := in
	// What fails is made anew: nothing has to be safe before the server ends.
	c.ExtraArgs = append(append([]string{}, in.ExtraArgs...), "--innodb-flush-log-at-trx-commit=0", "--max-allowed-packet=1G", "--event-scheduler=OFF")
	return dbserver.Settle(ctx, inst, c, func(ctx context.Context, conn *mysqladmin.Conn) error {
		rows, err := conn.Query(ctx, "SELECT @@socket AS socket")
		if err != nil {
			return err
		}
		return p.fetch(ctx, t, func(r io.Reader) error { return how.load(ctx, inst, in, rows[0].String("socket"), r) })
	})
}

// fetch gives the backup's stream to a program.
func (p *Plan) fetch(ctx context.Context, t *telling, program func(io.Reader) error) (err error) {
	t.phase(Fetching, 0)
	stream, err := format.Open(ctx, p.Store, p.Manifest, p.Keys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	source := &fetched{from: stream, telling: t}
	err = program(source)
	if source.err != nil {
		return source.err // the program only says that something is missing
	}
	if err != nil {
		return err
	}
	// The program has seen the end of its input; this is the end of ours, where the rest
	// of the checks are.
	if n, err := io.Copy(io.Discard, source); err != nil || n > 0 {
		return errors.Join(fmt.Errorf("%d bytes came after the end of the data", n), err)
	}
	return nil
}

// fetched is a backup's stream on its way to a program.
type fetched struct {
	from    *format.Reader
	telling *telling
	err     error // other than the stream's end
}

func (s *fetched) Read(b []byte) (int, error) {
	n, err := s.from.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	done, total := s.from.Progress()
	s.telling.moved(done, total)
	return n, err
}

// telling tells how far a restore has come.
type telling struct {
	tell  func(Progress)
	now   Progress
	first int64 // Done when the phase began
	began time.Time
	told  time.Time
}

// tellEvery is how often Tell is told of what moves.
const tellEvery = 500 * time.Millisecond

func newTelling(tell func(Progress), total int64) *telling {
	return &telling{tell: tell, now: Progress{Total: total}}
}

// phase begins a phase, before which so many bytes were done.
func (t *telling) phase(phase Phase, done int64) {
	t.now.Phase, t.now.Done, t.now.Left = phase, done, 0
	t.first, t.began = done, time.Now()
	t.told = t.began
	if t.tell != nil {
		t.tell(t.now)
	}
}

// moved: so many bytes are done, and the phase ends at so many.
func (t *telling) moved(done, end int64) {
	now := time.Now()
	if t.tell == nil || now.Sub(t.told) < tellEvery {
		return
	}
	t.told = now
	t.now.Done = done
	if done > t.first {
		t.now.Left = time.Duration(float64(now.Sub(t.began)) * float64(end-done) / float64(done-t.first))
	}
	t.tell(t.now)
}
