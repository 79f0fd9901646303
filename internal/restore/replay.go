package restore

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	format "farmhand/internal/backup"
	"farmhand/internal/binlog"
	"farmhand/internal/dbserver"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

const (
	// ahead is how many segments are fetched at once.
	ahead = 4
	// batchSize is how many bytes of binlog are replayed in one run of the server. There
	// are at most three times as many on the disk, and a segment of four.
	batchSize = 512 << 20
	// keepFree is how little room on the disk is none: a server waits for some then, and
	// says nothing.
	keepFree = 8 << 20
	// scarce is how little may be why a server fails.
	scarce = 64 << 20
)

// batch is binlog files for one run of the server.
type batch struct {
	files    []string
	bytes    int64
	position string // after them
	segments int    // of the plan have been used
}

// replay applies the plan's segments to the data of c, which is at p.base, up to
// precisely the target, and lets the data know its position.
//
// A server without a network does it, as a replica that has them as its relay logs:
// nothing that comes after the target is in them. What mariadb-binlog makes of a binlog
// is no way: it fails at a CREATE TABLE … SELECT (error 1950).
func (p *Plan) replay(ctx context.Context, inst dbserver.Install, how flavor, c dbserver.Config, t *telling) (_ Reached, err error) {
	cut := &cutter{until: p.Target.Time}
	if cut.format, err = binlog.Of(p.of); err != nil {
		return Reached{}, err
	}
	var to gtid.Position
	if p.Target.Position != "" {
		if to, err = p.Target.position(); err != nil {
			return Reached{}, err
		}
		cut.aimed = true
	}
	server := unused(p.Segments)
	if cut.has, err = how.history(p.base, to, server); err != nil {
		return Reached{}, err
	}
	cut.done = cut.aimed && cut.has.reached()
	stage := filepath.Join(c.Dir, "replay")
	if err := os.RemoveAll(stage); err != nil {
		return Reached{}, fmt.Errorf("remove what an earlier replay has left: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage)) }()
	if err := os.Mkdir(stage, 0o700); err != nil {
		return Reached{}, fmt.Errorf("make a directory for the archive: %w", err)
	}

	a := &applier{plan: p, how: how, inst: inst, config: c, server: server, telling: t, at: p.base.String()}
	batches := make(chan batch)
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(batches)
		return p.relayLogs(gctx, stage, cut, batches)
	})
	group.Go(func() error {
		for b := range batches {
			if err := a.apply(gctx, b); err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return Reached{}, err
	}
	t.phase(Checking, p.Stored())
	if err := cut.ended(); err != nil {
		return Reached{}, err
	}
	if err := a.settle(ctx); err != nil {
		return Reached{}, err
	}
	return Reached{Position: a.at, Time: cut.last, Replayed: cut.taken, wrote: cut.has.wrote()}, nil
}

// unused is a server id that wrote none of the transactions: a server passes over what
// has its own.
func unused(segments []format.Segment) uint32 {
	used := map[uint32]bool{}
	for _, s := range segments {
		for _, l := range s.Lines {
			used[l.Server] = true
		}
	}
	id := uint32(math.MaxUint32)
	for used[id] {
		id--
	}
	return id
}

// relayLogs fetches the segments, several at once, checks them, and makes files of
// what is wanted of them, in order.
func (p *Plan) relayLogs(ctx context.Context, stage string, cut *cutter, batches chan<- batch) error {
	ctx, cancel := context.WithCancel(ctx)
	var fetches errgroup.Group
	defer func() {
		cancel()
		_ = fetches.Wait() // what they did wrong was told to who waited for it
	}()
	type fetch struct {
		path string
		err  error
	}
	answers := make([]chan fetch, len(p.Segments))
	next := 0
	start := func() {
		if next == len(p.Segments) {
			return
		}
		answer, s := make(chan fetch, 1), &p.Segments[next]
		path := filepath.Join(stage, fmt.Sprintf("segment-%08d", next))
		answers[next] = answer
		next++
		fetches.Go(func() error {
			answer <- fetch{path, p.save(ctx, s, path)}
			return nil
		})
	}
	for range ahead {
		start()
	}
	var b batch
	flush := func() error {
		if len(b.files) == 0 {
			return nil
		}
		b.position = cut.has.position()
		select {
		case batches <- b:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		b = batch{segments: b.segments}
		return nil
	}
	for i := range p.Segments {
		if cut.done {
			break
		}
		got := <-answers[i] // ends with ctx
		answers[i] = nil
		if got.err != nil {
			return got.err
		}
		path := filepath.Join(stage, fmt.Sprintf("relay-%08d", i))
		bytes, err := relayLog(got.path, path, &p.Segments[i], cut)
		if err != nil {
			return err
		}
		if bytes > 0 {
			b.files = append(b.files, path)
			b.bytes += bytes
		}
		b.segments = i + 1
		start()
		if b.bytes >= cmp.Or(p.batch, batchSize) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// save writes a segment's binlog file to path.
func (p *Plan) save(ctx context.Context, s *format.Segment, path string) (err error) {
	if err := room(filepath.Dir(path), s.Bytes+keepFree); err != nil {
		return fmt.Errorf("fetch %s: %w", s.Key, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", s.Key, err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("fetch %s: %w", s.Key, err)
		}
	}()
	w := bufio.NewWriterSize(f, 256<<10)
	if err := s.Save(ctx, p.Store, p.Keys, w); err != nil {
		return err
	}
	return w.Flush()
}

// relayLog makes a relay log of what is wanted of a segment's file, which goes away.
// It returns how long that is; 0 if nothing is wanted.
func relayLog(from, to string, s *format.Segment, cut *cutter) (bytes int64, err error) {
	f, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	spans, err := cut.wanted(f, s)
	if err != nil {
		return 0, err
	}
	for _, span := range spans {
		bytes += span.to - span.from
	}
	if bytes == s.Bytes {
		return bytes, os.Rename(from, to)
	}
	if bytes > 0 {
		out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return 0, err
		}
		if err := errors.Join(copySpans(out, f, spans), out.Close()); err != nil {
			return 0, fmt.Errorf("cut %s: %w", s.Key, err)
		}
	}
	return bytes, os.Remove(from)
}

// describedBy is the position that a segment says it has.
func describedBy(s *format.Segment) (gtid.Position, error) {
	_, p, err := s.At()
	if err != nil {
		return p, &format.FaultError{Key: s.Key, Reason: "has a position that cannot be read: " + err.Error()}
	}
	return p, nil
}

// applier applies batches to data.
type applier struct {
	plan    *Plan
	how     flavor
	inst    dbserver.Install
	config  dbserver.Config
	server  uint32
	telling *telling

	at   string // the data's position
	used int    // segments of the plan
	knew bool   // the data knows its position
}

// settle has a server run on the data once if none has, and lets it know its
// position.
func (a *applier) settle(ctx context.Context) error {
	if a.knew {
		return nil
	}
	return dbserver.Settle(ctx, a.inst, a.config, a.tellPosition)
}

func (a *applier) tellPosition(ctx context.Context, conn *mysqladmin.Conn) error {
	if a.knew {
		return nil
	}
	if err := a.how.tell(ctx, conn, a.at); err != nil {
		return fmt.Errorf("set the position of the data: %w", err)
	}
	a.knew = true
	return nil
}

// apply replays a batch.
func (a *applier) apply(ctx context.Context, b batch) error {
	if a.used == 0 {
		done := int64(0)
		if a.plan.Manifest != nil {
			done = a.plan.Manifest.Stored()
		}
		a.telling.phase(Replaying, done)
	}
	data := a.config.DataDir()
	var index strings.Builder
	first := fmt.Sprintf("relay.%06d", 1)
	for i, file := range b.files {
		name := fmt.Sprintf("relay.%06d", i+1)
		path := filepath.Join(data, name)
		if err := errors.Join(os.Rename(file, path), a.config.Give(path)); err != nil {
			return err
		}
		fmt.Fprintf(&index, "./%s\n", name)
	}
	path := filepath.Join(data, "relay.index")
	if err := os.WriteFile(path, []byte(index.String()), 0o600); err != nil {
		return fmt.Errorf("write the relay logs' index: %w", err)
	}
	if err := a.config.Give(path); err != nil {
		return err
	}
	c := a.config
	c.ServerID = a.server
	// What fails is made anew: nothing has to be safe before the server ends.
	c.ExtraArgs = append(append(append([]string{}, c.ExtraArgs...),
		"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0", "--sync-relay-log=0", "--relay-log-purge=ON", "--event-scheduler=OFF"),
		a.how.arguments(min(runtime.NumCPU(), 8))...)
	err := dbserver.Settle(ctx, a.inst, c, func(ctx context.Context, conn *mysqladmin.Conn) error {
		if err := a.tellPosition(ctx, conn); err != nil {
			return err
		}
		for _, statement := range a.how.start(first) {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("replay: %w", err)
			}
		}
		if err := a.await(ctx, conn, b); err != nil {
			return err
		}
		for _, statement := range a.how.stop() {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("end the replay: %w", err)
			}
		}
		at, err := a.how.applied(ctx, conn)
		if err != nil {
			return err
		}
		want, err := gtid.Read(b.position)
		if err != nil {
			return err
		}
		if !at.Equal(want) {
			return fmt.Errorf("the server replayed to %s, and was given all to %s", at, want)
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.at, a.used = b.position, b.segments
	return nil
}

// await returns when the server has applied a batch.
func (a *applier) await(ctx context.Context, conn *mysqladmin.Conn, b batch) error {
	var before gtid.Position
	for {
		rows, err := conn.Query(ctx, a.how.wait(b.position))
		if err != nil {
			return fmt.Errorf("wait for the replay: %w", err)
		}
		at, err := a.how.applied(ctx, conn)
		if err != nil {
			return err
		}
		if err := a.progress(at, b); err != nil {
			return err
		}
		if rows[0].String("outcome") == "0" {
			return nil
		}
		channels, err := conn.Replication(ctx)
		if err != nil {
			return fmt.Errorf("look at the replay: %w", err)
		}
		if len(channels) != 1 || !mysqladmin.Running(channels[0].Applier) {
			var why mysqladmin.ThreadError
			if len(channels) == 1 {
				why = channels[0].ApplierError
			}
			err := fmt.Errorf("the server cannot replay what comes after %s: %v", at, why)
			// A MySQL server does not always say that it is that.
			if free, unknown := freeIn(a.config.DataDir()); unknown != nil || free < scarce {
				err = fmt.Errorf("%w; in %s %d MiB are free", errors.Join(err, unknown), a.config.DataDir(), free>>20)
			}
			return err
		}
		free, err := freeIn(a.config.DataDir())
		if err != nil {
			return err
		}
		if free < keepFree && at.Equal(before) {
			return fmt.Errorf("there is no room left in %s (%d MiB are free); the server is at %s", a.config.DataDir(), free>>20, at)
		}
		before = at
	}
}

// progress tells how far the replay has come: which segments are behind it.
func (a *applier) progress(at gtid.Position, b batch) error {
	for a.used < b.segments {
		position, err := describedBy(&a.plan.Segments[a.used])
		if err != nil {
			return err
		}
		if !at.Contains(position) {
			break
		}
		a.used++
	}
	var done int64
	for i := range a.used {
		done += a.plan.Segments[i].Size
	}
	if a.plan.Manifest != nil {
		done += a.plan.Manifest.Stored()
	}
	a.telling.moved(done, a.plan.Stored())
	return nil
}
