package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	format "farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/mariabackup"
	"farmhand/internal/objects"
)

// From is a restore of a full backup.
type From struct {
	Install dbserver.Install
	// Config is that of the server that is to get the data. It may run on its old data
	// meanwhile, or have none.
	Config   dbserver.Config
	Store    objects.Store
	Manifest *format.Manifest
	// Keys are those that an encrypted backup may be read with.
	Keys []format.Identity
	// Tell is told of every phase, and twice a second while data comes in; may be nil.
	// It must not block.
	Tell func(Progress)
}

// Progress is how far a restore has come.
type Progress struct {
	Phase Phase
	// Done and Total count the bytes of the store.
	Done, Total int64
	// Left is about how long the phase Fetching will last; 0 while it is not known.
	Left time.Duration
}

// Phase is what is being done.
type Phase string

// The phases, in order.
const (
	Fetching   Phase = "fetching"   // data comes in
	Recovering Phase = "recovering" // the data is made consistent
	Checking   Phase = "checking"   // a server runs on it
)

// Restored is whole data that waits beside a server's own.
type Restored struct {
	// Position is the GTID position up to which it holds transactions. The data itself
	// knows it, too (gtid_slave_pos).
	Position string
	Took     time.Duration

	config dbserver.Config
}

// Full makes data of a full backup, beside that of the server. An attempt before is
// forgotten. A failed one leaves nothing; what is wrong with the backup is a
// format.FaultError that names the object.
func Full(ctx context.Context, f From) (_ *Restored, err error) {
	began := time.Now()
	name := f.Manifest.ID
	if err := f.fits(); err != nil {
		return nil, fmt.Errorf("restore backup %s: %w", name, err)
	}
	in, err := dbserver.PrepareIncoming(f.Config)
	if err != nil {
		return nil, fmt.Errorf("restore backup %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("restore backup %s: %w", name, err), dbserver.DropIncoming(f.Config))
		}
	}()
	if err := f.fetch(ctx, in); err != nil {
		return nil, err
	}
	f.tell(Progress{Phase: Recovering, Done: f.Manifest.Stored(), Total: f.Manifest.Stored()})
	position, err := mariabackup.Prepare(ctx, in)
	if err != nil {
		return nil, err
	}
	if position != f.Manifest.Position {
		return nil, fmt.Errorf("its data goes up to %s, and its manifest says %s", position, f.Manifest.Position)
	}
	f.tell(Progress{Phase: Checking, Done: f.Manifest.Stored(), Total: f.Manifest.Stored()})
	if err := mariabackup.Settle(ctx, f.Install, in, position); err != nil {
		return nil, err
	}
	return &Restored{Position: position, Took: time.Since(began), config: f.Config}, nil
}

// Swap puts the data in the place of the server's own, which is removed. No server
// may run on that.
func (r *Restored) Swap() error { return dbserver.ReplaceData(r.config) }

// Discard removes the data.
func (r *Restored) Discard() error { return dbserver.DropIncoming(r.config) }

// fits says why a server cannot run on the backup's data: one of another series
// would have to upgrade it first, or could not read it.
func (f *From) fits() error {
	if f.Install.Flavor != farm.MariaDB {
		return fmt.Errorf("no way is known to restore a %v server as a whole", f.Install.Flavor)
	}
	if err := mariabackup.Ready(); err != nil {
		return err
	}
	if m := f.Manifest; m.Flavor != f.Install.Flavor.String() || series(m.ServerVersion) != series(f.Install.Version) {
		return fmt.Errorf("it is of a %s %s server, and here is %v %s", m.Flavor, m.ServerVersion, f.Install.Flavor, f.Install.Version)
	}
	return nil
}

// series is a version's first two numbers.
func series(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// fetch makes files of the backup's stream.
func (f *From) fetch(ctx context.Context, in dbserver.Config) (err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(in.DataDir(), &fs); err != nil {
		return fmt.Errorf("look for room in %s: %w", in.DataDir(), err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < f.Manifest.Bytes {
		return fmt.Errorf("there are %d MiB free in %s, and the data has %d MiB", free>>20, in.DataDir(), f.Manifest.Bytes>>20)
	}
	f.tell(Progress{Phase: Fetching, Total: f.Manifest.Stored()})
	stream, err := format.Open(ctx, f.Store, f.Manifest, f.Keys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	source := &fetched{from: stream, tell: f.tell, began: time.Now()}
	err = mariabackup.Extract(ctx, in, source)
	if source.err != nil {
		return source.err // mbstream only says that something is missing
	}
	if err != nil {
		return err
	}
	// mbstream has seen the end of its input; this is the end of ours, where the rest
	// of the checks are.
	if n, err := io.Copy(io.Discard, source); err != nil || n > 0 {
		return errors.Join(fmt.Errorf("%d bytes came after the end of the data", n), err)
	}
	return nil
}

func (f *From) tell(p Progress) {
	if f.Tell != nil {
		f.Tell(p)
	}
}

// tellEvery is how often Tell is told of data that comes in.
const tellEvery = 500 * time.Millisecond

// fetched is a backup's stream on its way to a program.
type fetched struct {
	from  *format.Reader
	tell  func(Progress)
	began time.Time
	told  time.Time
	err   error // other than the stream's end
}

func (s *fetched) Read(b []byte) (int, error) {
	n, err := s.from.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	if now := time.Now(); now.Sub(s.told) >= tellEvery {
		s.told = now
		p := Progress{Phase: Fetching}
		p.Done, p.Total = s.from.Progress()
		if p.Done > 0 {
			p.Left = time.Duration(float64(now.Sub(s.began)) * float64(p.Total-p.Done) / float64(p.Done))
		}
		s.tell(p)
	}
	return n, err
}
