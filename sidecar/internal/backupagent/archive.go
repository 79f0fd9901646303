package backupagent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/backup"
	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/objects"
	"farmhand/sidecar/internal/archive"
)

// archiverID is added to a server's id: that of its archiver, which no replica has.
const archiverID = 1 << 31

// The pauses after which an archive is tried again.
const firstRetry, longestRetry = time.Second, 5 * time.Second

// keepArchiving archives the binlog of the server, which leads in an epoch and had
// base when it was promoted, until ctx ends.
func (a *Agent) keepArchiving(ctx context.Context, p *cluster.BackupPlan, epoch farm.Epoch, id uint32, base string) {
	a.note(func() { a.archive, a.until = &cluster.ArchiveReport{Epoch: epoch}, time.Time{} })
	defer a.note(func() { a.archive, a.until = nil, time.Time{} })
	retry := firstRetry
	for {
		began := time.Now()
		err := a.archiveOnce(ctx, p, epoch, id, base)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			retry = firstRetry
		}
		a.o.Log.Error("the binlog is not archived", zap.Error(err), zap.Duration("tried again after", retry))
		a.note(func() { a.update(func(r *cluster.ArchiveReport) { r.Error = firstOf(err) }) })
		pause := time.NewTimer(retry)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
		retry = min(2*retry, longestRetry)
	}
}

// update changes the archive's report. a.mu is held.
func (a *Agent) update(f func(*cluster.ArchiveReport)) {
	if a.archive != nil {
		r := *a.archive
		f(&r)
		a.archive = &r
	}
}

// archiveOnce archives until the server can give no more or ctx ends.
func (a *Agent) archiveOnce(ctx context.Context, p *cluster.BackupPlan, epoch farm.Epoch, id uint32, base string) error {
	store, to, err := open(ctx, p)
	if err != nil {
		return err
	}
	address, err := netip.ParseAddrPort(a.o.Server.Addr())
	if err != nil {
		return err
	}
	from, err := a.begin(ctx, store, epoch, base)
	if err != nil {
		return fmt.Errorf("where the archive is to go on: %w", err)
	}
	writer, had, err := a.reign(ctx, base)
	if err != nil {
		return fmt.Errorf("what the server had when it began to lead: %w", err)
	}
	archiver := archive.Archiver{
		Flavor: a.o.Install.Flavor, Writer: writer, Had: had,
		Node: a.o.Name, Address: address, Account: a.o.Replication, ServerID: archiverID + id,
		Cluster: a.o.Cluster, Epoch: epoch, Store: store, To: to, Position: from, Every: p.Every, Size: p.Size, Tell: a.archived,
	}
	a.o.Log.Info("the binlog is archived", zap.String("after", from.String()), zap.Uint64("epoch", uint64(epoch)), zap.String("store", p.Store))
	err = archiver.Run(ctx)
	var gone *archive.LostError
	if !errors.As(err, &gone) {
		return err
	}
	a.o.Log.Error("the archive has a gap", zap.Error(err))
	a.note(func() { a.update(func(r *cluster.ArchiveReport) { r.Lost = firstOf(err) }) })
	if archiver.Position, err = a.oldest(ctx, gone.Position); err != nil {
		return fmt.Errorf("where the server's binlog begins: %w", err)
	}
	return archiver.Run(ctx)
}

// archived notes how far the archive is.
func (a *Agent) archived(s archive.Status) {
	a.note(func() {
		a.update(func(r *cluster.ArchiveReport) {
			r.Position, r.Error = s.Position.String(), ""
			if s.Err != nil {
				r.Error = firstOf(s.Err)
			}
			if s.Stored != nil {
				r.Segments++
				r.Bytes += s.Stored.Size
			}
		})
		if !s.Until.IsZero() {
			a.until = s.Until
		}
	})
}

// begin finds where the archive of the epoch is to go on: after what is stored of
// the epoch itself, or else of those before, as far as that is the history of the
// server that leads now. One that was replaced may have archived what is not. If there is nothing
// stored, it is the newest full backup, or else where the server is now.
func (a *Agent) begin(ctx context.Context, store objects.Store, epoch farm.Epoch, base string) (from gtid.Position, err error) {
	promoted, err := gtid.Parse(a.o.Install.Flavor, base)
	if err != nil {
		return from, err
	}
	found := false
	var wrong error
	err = backup.NewestSegments(ctx, store, a.o.Cluster, time.Now(), func(segments []backup.Segment) bool {
		own := false
		for _, s := range segments {
			_, position, err := s.At()
			if err != nil {
				wrong = err
				return false
			}
			switch {
			case s.Epoch == epoch && (!own || position.Contains(from)):
				from, own, found = position, true, true
			case s.Epoch < epoch && !own && promoted.Contains(position) && (!found || position.Contains(from)):
				from, found = position, true
			}
		}
		return !found
	})
	if err = errors.Join(err, wrong); err != nil || found {
		return from, err
	}
	now, err := a.dialect().now(ctx, a)
	if err != nil {
		return from, err
	}
	entries, err := backup.List(ctx, store, a.o.Cluster)
	if err != nil {
		return from, err
	}
	if e := backup.Newest(entries, time.Now()); e != nil {
		position, err := e.Manifest.At()
		if err == nil && now.Contains(position) {
			return position, nil
		}
	}
	return now, nil
}

// oldest is where the server's binlog begins, if that is after a position that it
// cannot go on from; otherwise where it is now.
func (a *Agent) oldest(ctx context.Context, from gtid.Position) (gtid.Position, error) {
	now, err := a.dialect().now(ctx, a)
	if err != nil {
		return now, err
	}
	first, err := a.dialect().first(ctx, a, from)
	if err != nil || !first.Contains(from) || from.Contains(first) || !now.Contains(first) {
		return now, err
	}
	return first, nil
}

// ask asks the server for a position, the column v.
func (a *Agent) ask(ctx context.Context, query string) (p gtid.Position, err error) {
	rows, err := a.query(ctx, query)
	if err != nil {
		return p, err
	}
	if len(rows) != 1 {
		return p, fmt.Errorf("%s: %d rows", query, len(rows))
	}
	return gtid.Parse(a.o.Install.Flavor, rows[0].String("v"))
}

// query asks the server once, over a connection of its own.
func (a *Agent) query(ctx context.Context, query string) ([]mysqladmin.Row, error) {
	admin, err := a.o.Server.Admin()
	if err != nil {
		return nil, err
	}
	conn, err := mysqladmin.Dial(ctx, admin)
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, query)
	return rows, errors.Join(err, conn.Close())
}
