package mysqld

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/mysqladmin"
)

// An acknowledgement can be lost: a follower has received a transaction and is told to
// stop, or loses its connection, before it has said so. When it connects again by GTID it
// asks for what comes after, which says nothing of what it has. The commit waits until
// something later is acknowledged, which may be for ever: in MariaDB the commit behind
// one that waits keeps the binlog's lock, so that nothing later can be written.
//
// The follower says it again, as one that connects by file and place does: the place
// from which that asks on is taken for an acknowledgement of all before it
// (Repl_semi_sync_master::dump_start, repl_semi_binlog_dump_start).

// acknowledgeLimit bounds the questions and the answer: the source may have to read its
// binlog's last file.
const acknowledgeLimit = 30 * time.Second

// place is one in a source's binlog.
type place struct {
	file   string
	offset uint32
}

// acknowledgeAgain acknowledges what the server has received, if its source waits for an
// acknowledgement and the server has got nothing since it was looked at before. It returns
// the place up to which it has received while the source waits.
func (a *Agent) acknowledgeAgain(ctx context.Context, p picture, own, source *mysqladmin.Conn, before place) (place, error) {
	if !p.order.part.Acknowledges {
		return place{}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, acknowledgeLimit, fmt.Errorf("no answer within %v", acknowledgeLimit))
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()
	rows, err := source.Query(ctx, "SHOW GLOBAL STATUS LIKE '"+a.dialect.waiting+"'")
	if err != nil {
		return place{}, fmt.Errorf("ask whether the source waits: %w", err)
	}
	if len(rows) != 1 || rows[0].String("Value") == "0" {
		return place{}, nil
	}
	f, err := a.dialect.facts(ctx, own)
	if err != nil {
		return place{}, err
	}
	c := f.channel
	if c == nil || c.Source != p.order.source.Address || c.Receiver != "Yes" || !f.acknowledges || c.File == "" {
		return place{}, nil
	}
	now := place{c.File, c.Offset}
	if now != before {
		return now, nil
	}
	if ok, err := a.dialect.isReceived(ctx, source, f); err != nil || !ok || !sameWork(a.look().order, p.order) {
		return place{}, err
	}
	a.o.Log.Warn("the source waits for an acknowledgement of what this server has: it is said again",
		zap.String("source", p.order.source.Name), zap.String("file", now.file), zap.Uint32("offset", now.offset))
	return place{}, source.Acknowledge(ctx, now.file, now.offset)
}

// mariaDBIsReceived goes by what the source says is before the place.
func mariaDBIsReceived(ctx context.Context, source *mysqladmin.Conn, f facts) (bool, error) {
	before, err := source.GTIDAt(ctx, f.channel.File, uint64(f.channel.Offset))
	return err == nil && !before.IsZero() && f.received.Contains(before), err
}

// mySQLIsReceived goes by whose binlog it is: the place is none of another server's, for
// a change of the source forgets that.
func mySQLIsReceived(ctx context.Context, source *mysqladmin.Conn, f facts) (bool, error) {
	uuid, err := variable(ctx, source, "server_uuid")
	return err == nil && uuid == f.channel.SourceUUID, err
}
