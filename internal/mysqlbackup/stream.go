package mysqlbackup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
)

// Tool names what makes the streams.
const Tool = "clone plugin"

const (
	// look is how often a copy that is made is looked at.
	look = time.Second
	// endLimit bounds the end of a copy that is not wanted any more.
	endLimit = time.Minute
	// spare is how much room there must be beside that for the data: for the logs of the
	// copy, and what the server writes meanwhile.
	spare = 256 << 20
	// copyRedo is the capacity of the copy's redo log, which is in the stream.
	copyRedo = 8 << 20
)

// Stream writes the data of the server that runs in c to w, until it is whole or ctx ends.
// It returns the GTID position up to which it holds transactions. There is one stream at a
// time of a server. grown is told how many bytes there are of the copy, whenever there are
// more; it must not block.
func Stream(ctx context.Context, inst dbserver.Install, c dbserver.Config, grown func(bytes int64), w io.Writer) (position string, err error) {
	if err := Clear(ctx, c); err != nil {
		return "", err
	}
	if err := room(c); err != nil {
		return "", err
	}
	admin, err := c.Admin()
	if err != nil {
		return "", err
	}
	conn, err := mysqladmin.Dial(ctx, admin)
	if err != nil {
		return "", fmt.Errorf("as administrator: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := OnlyInnoDB(ctx, conn); err != nil {
		return "", fmt.Errorf("%w, or have logical backups made (backups.method)", err)
	}
	if err := Locally(ctx, admin, func(conn *mysqladmin.Conn) error { return LoadPlugin(ctx, conn) }); err != nil {
		return "", err
	}
	in, err := dbserver.PrepareScratch(c)
	defer func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
		defer cancel()
		err = errors.Join(err, Clear(limited, c))
	}()
	if err != nil {
		return "", err
	}
	if err := os.Remove(in.DataDir()); err != nil { // the plugin makes it
		return "", fmt.Errorf("make way for a copy: %w", err)
	}
	if err := copyData(ctx, conn, in, grown); err != nil {
		return "", err
	}
	if position, err = settle(ctx, inst, in); err != nil {
		return "", err
	}
	return position, archive(ctx, in.DataDir(), w)
}

// copyData has the server copy its data.
func copyData(ctx context.Context, conn *mysqladmin.Conn, in dbserver.Config, grown func(int64)) error {
	copying, done := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error {
		defer done()
		_, err := conn.Exec(copying, cloneStatement+quote(in.DataDir()))
		if err != nil {
			return fmt.Errorf("copy the server's data by its clone plugin: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		tick := time.NewTicker(look)
		defer tick.Stop()
		var before int64
		for {
			select {
			case <-copying.Done():
				return nil
			case <-tick.C:
			}
			size, err := dbserver.DataSize(in.DataDir())
			if errors.Is(err, fs.ErrNotExist) {
				continue // the plugin has not begun
			}
			if err != nil {
				done()
				return err
			}
			if size != before {
				before = size
				grown(size)
			}
		}
	})
	return group.Wait()
}

// quote makes a literal of a text, for a statement that takes no other kind.
func quote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}

// cloneStatement begins the statement that copies.
const cloneStatement = "CLONE LOCAL DATA DIRECTORY = "

// room says when there is not enough of it for a copy.
func room(c dbserver.Config) error {
	size, err := dbserver.DataSize(c.DataDir())
	if err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(c.Dir, &fs); err != nil {
		return fmt.Errorf("look for room in %s: %w", c.Dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < size+spare {
		return fmt.Errorf("there are %d MiB free in %s, and the server's clone plugin needs room for a copy of the data, %d MiB, and %d MiB more; make room, or have logical backups made (backups.method)",
			free>>20, c.Dir, size>>20, spare>>20)
	}
	return nil
}

// settle runs a server on copied data: that recovers it, and says up to where it goes.
// What concerns the server only that it was copied from is forgotten.
func settle(ctx context.Context, inst dbserver.Install, in dbserver.Config) (position string, err error) {
	c := in
	c.RedoLog = copyRedo
	if c.ServerID == 0 {
		c.ServerID = 1 // without one it says that it is no replica; it replicates from nobody
	}
	// It makes nothing that every server has for itself, and needs little memory.
	c.ExtraArgs = append(append([]string{}, c.ExtraArgs...),
		"--performance-schema=OFF", "--auto-generate-certs=OFF", "--caching-sha2-password-auto-generate-rsa-keys=OFF", "--event-scheduler=OFF")
	err = dbserver.Settle(ctx, inst, c, func(ctx context.Context, conn *mysqladmin.Conn) error {
		// Now it is known which tables there are at precisely that position.
		if err := OnlyInnoDB(ctx, conn); err != nil {
			return fmt.Errorf("%w, or have logical backups made (backups.method)", err)
		}
		if _, err := conn.Exec(ctx, "RESET REPLICA ALL"); err != nil {
			return fmt.Errorf("forget the source of what was copied: %w", err)
		}
		rows, err := conn.Query(ctx, "SELECT @@GLOBAL.gtid_executed AS executed")
		if err != nil {
			return fmt.Errorf("read the position of the copy: %w", err)
		}
		at, err := gtid.Parse(farm.MySQL, rows[0].String("executed"))
		position = at.String()
		return err
	})
	return position, err
}

// Clear ends the copying that a process has begun which was killed, and removes what there
// is of the copy.
func Clear(ctx context.Context, c dbserver.Config) error {
	in := dbserver.Scratch(c)
	if _, err := os.Lstat(in.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := endCopy(ctx, c, in); err != nil {
		return fmt.Errorf("end the copying of the server's data: %w", err)
	}
	return dbserver.DropScratch(c)
}

// endCopy has the server stop to copy: it does not see that nobody waits for it any more.
func endCopy(ctx context.Context, c, in dbserver.Config) error {
	admin, err := c.Admin()
	if err != nil {
		return err
	}
	conn, err := mysqladmin.Dial(ctx, admin)
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil // it does not run
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		rows, err := conn.Query(ctx, "SELECT ID AS id FROM performance_schema.processlist WHERE INFO LIKE 'CLONE LOCAL%' AND INSTR(INFO, "+mysqladmin.Text(in.DataDir())+")>0")
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			if _, err := conn.Exec(ctx, "KILL "+row.String("id")); err != nil && mysqladmin.Code(err) != noSuchThread {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// noSuchThread is the error of a KILL that comes late.
const noSuchThread = 1094
