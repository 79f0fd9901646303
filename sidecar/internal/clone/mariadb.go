package clone

import (
	"context"
	"errors"

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
	if g.before, err = streams(ctx, admin); err != nil {
		return err
	}
	if err := mariabackup.Stream(ctx, g.donor.Config, "clone", g); err != nil {
		return err
	}
	g.after, err = streams(ctx, admin)
	return err
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
	binlog, err := stateAt(position, f.answer.Trailer.Get(beforeTrailer), f.answer.Trailer.Get(afterTrailer))
	if err != nil {
		return "", err
	}
	f.phase(Checking)
	return position, dbserver.Settle(ctx, f.Install, in, func(ctx context.Context, conn *mysqladmin.Conn) error {
		return setState(ctx, conn, position, binlog)
	})
}
