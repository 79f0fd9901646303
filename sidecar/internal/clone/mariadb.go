package clone

import (
	"context"
	"errors"
	"fmt"

	"farmhand/internal/dbserver"
	"farmhand/internal/mariabackup"
	"farmhand/internal/mysqladmin"
)

// mariadb copies by mariadb-backup, which sends its files as one stream.
type mariadb struct{}

func (mariadb) ready(dbserver.Install) error { return mariabackup.Ready() }

func (mariadb) give(ctx context.Context, g *gift) (err error) {
	admin, err := g.donor.Config.Admin()
	if err != nil {
		return err
	}
	if g.before, err = streamsOf(ctx, admin); err != nil {
		return err
	}
	if err := mariabackup.Stream(ctx, g.donor.Config, "clone", g); err != nil {
		return err
	}
	g.after, err = streamsOf(ctx, admin)
	return err
}

// streamsOf is the server's binlog state, if it is not too long to be passed on.
func streamsOf(ctx context.Context, admin mysqladmin.Target) (string, error) {
	state, err := mariabackup.Streams(ctx, admin)
	if len(state) > maxStreams {
		return "", fmt.Errorf("the binlog state has %d bytes; at most %d are passed on", len(state), maxStreams)
	}
	return state, err
}

func (mariadb) take(ctx context.Context, f *fetch, in dbserver.Config) (string, error) {
	f.phase(Copying)
	if err := mariabackup.Extract(ctx, in, &passing{f.body, f.count}); err != nil {
		if f.body.ended { // too early, and the donor says why
			err = errors.Join(f.verdict(), err)
		}
		return "", err
	}
	if err := f.whole(); err != nil {
		return "", err
	}
	f.phase(Recovering)
	position, err := mariabackup.Prepare(ctx, in)
	if err != nil {
		return "", err
	}
	binlog, err := mariabackup.StateAt(position, f.answer.Trailer.Get(beforeTrailer), f.answer.Trailer.Get(afterTrailer))
	if err != nil {
		return "", err
	}
	f.phase(Checking)
	return position, dbserver.Settle(ctx, f.Install, in, func(ctx context.Context, conn *mysqladmin.Conn) error {
		return mariabackup.SetState(ctx, conn, position, binlog)
	})
}
