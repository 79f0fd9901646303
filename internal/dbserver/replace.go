package dbserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/internal/atomicfile"
	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
)

// DataDir is the server's data directory.
func (c Config) DataDir() string { return c.dataDir() }

// TempDir is the server's directory for temporary files.
func (c Config) TempDir() string { return c.tmpDir() }

// Give gives path to the account that the server runs as.
func (c Config) Give(path string) error { return c.own(path) }

// Admin is where and as whom a server of the directory takes an administrator,
// whoever started it. The password is not for logs.
func (c Config) Admin() (mysqladmin.Target, error) {
	secret, err := os.ReadFile(c.secretFile())
	if err != nil {
		return mysqladmin.Target{}, fmt.Errorf("read the administrator's password: %w", err)
	}
	return mysqladmin.Target{Network: "unix", Address: c.Socket, User: AdminUser, Password: string(secret), Program: "farmhand"}, nil
}

// Incoming is the configuration of the server directory below c.Dir in which
// data is made that is to take the place of c's.
func Incoming(c Config) Config { return below(c, "incoming") }

// Scratch is the configuration of the server directory below c.Dir in which a copy of c's
// data is made for a backup.
func Scratch(c Config) Config { return below(c, "copied") }

func below(c Config, name string) Config {
	c.Dir = filepath.Join(c.Dir, name)
	c.Socket = filepath.Join(c.Dir, "s")
	return c
}

// PrepareIncoming makes the directory of Incoming, without data, in place of
// what an earlier attempt has left. The administrator's password in it is c's,
// if c has one: so it is right before ReplaceData and after it.
func PrepareIncoming(c Config) (Config, error) { return prepare(c, Incoming(c)) }

// PrepareScratch is PrepareIncoming for Scratch.
func PrepareScratch(c Config) (Config, error) { return prepare(c, Scratch(c)) }

func prepare(c, in Config) (Config, error) {
	if err := drop(in); err != nil {
		return in, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return in, fmt.Errorf("make a server directory: %w", err)
	}
	for _, dir := range []string{c.Dir, in.Dir, in.dataDir(), in.tmpDir()} {
		if err := os.Mkdir(dir, 0o700); err != nil && (dir != c.Dir || !errors.Is(err, fs.ErrExist)) {
			return in, fmt.Errorf("make a directory for incoming data: %w", err)
		}
		if err := c.own(dir); err != nil {
			return in, err
		}
	}
	secret, err := os.ReadFile(c.secretFile())
	if errors.Is(err, fs.ErrNotExist) {
		secret, err = []byte(rand.Text()), nil
	}
	if err == nil {
		err = os.WriteFile(in.secretFile(), secret, 0o600)
	}
	if err != nil {
		return in, fmt.Errorf("keep the administrator's password: %w", err)
	}
	return in, c.own(in.secretFile())
}

// DropIncoming removes what Incoming names, if it is there.
func DropIncoming(c Config) error { return drop(Incoming(c)) }

// DropScratch removes what Scratch names, if it is there.
func DropScratch(c Config) error { return drop(Scratch(c)) }

func drop(in Config) error {
	if err := os.RemoveAll(in.Dir); err != nil {
		return fmt.Errorf("remove data that was made: %w", err)
	}
	return nil
}

// Settle runs a server on the copied data of c for as long as do takes, after
// giving its administrator the password of admin.secret: copied data has that
// of where it comes from. The server has no network, its socket is where nobody
// looks for it, and nothing that is done is logged to a binlog; MariaDB has one, in
// which what others have written can be noted. It shows that the data can be started
// from.
func Settle(ctx context.Context, inst Install, c Config, do func(context.Context, *mysqladmin.Conn) error) (err error) {
	c = c.withDefaults()
	secret, err := os.ReadFile(c.secretFile())
	if err != nil {
		return fmt.Errorf("read the administrator's password: %w", err)
	}
	// There the server's socket goes away with the rest, unless the path is too long.
	c.Socket = filepath.Join(c.Dir, "s")
	if len(c.Socket) > sunPathMax {
		var place string
		if place, err = os.MkdirTemp("", "farmhand"); err != nil {
			return fmt.Errorf("make a place for a socket: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(place)) }()
		if err := c.own(place); err != nil {
			return err
		}
		c.Socket = filepath.Join(place, "s")
	}
	c.ParentDeath, c.Outlives = syscall.SIGKILL, false
	c.ReadOnly = false // it also holds for what the file below does
	// Of a process that is killed it stays where the next attempt removes it.
	script := filepath.Join(c.Dir, "init.sql")
	defer func() { err = errors.Join(err, os.Remove(script)) }()
	if err := os.WriteFile(script, []byte(unlogged+";\n"+adminStatement(inst.Flavor, string(secret))+";\n"), 0o600); err != nil {
		return fmt.Errorf("write first statements: %w", err)
	}
	if err := c.own(script); err != nil {
		return err
	}
	c.ExtraArgs = append(append([]string{}, c.ExtraArgs...), "--skip-networking", "--init-file="+script)
	if inst.Flavor != farm.MariaDB {
		c.ExtraArgs = append(c.ExtraArgs, "--skip-log-bin")
	}

	s := &Server{inst: inst, config: c, secret: string(secret)}
	logged, err := fileSize(c.errorLog())
	if err != nil {
		return err
	}
	if err := s.launch(); err != nil {
		return fmt.Errorf("start %v server in %s: %w", inst.Flavor, c.Dir, err)
	}
	defer s.Kill()
	started, cancel := context.WithTimeoutCause(ctx, c.StartLimit, fmt.Errorf("it did not answer within %v", c.StartLimit))
	defer cancel()
	conn, err := s.awaitAdmin(started)
	if err != nil {
		return fmt.Errorf("start a server on the data in %s: %w\nits error log says:\n%s", c.Dir, err, logSince(c.errorLog(), logged))
	}
	if _, err = conn.Exec(ctx, unlogged); err == nil {
		err = do(ctx, conn)
	}
	err = errors.Join(err, conn.Close(), s.Stop(ctx))
	if died := s.child.Err(); died != nil {
		return fmt.Errorf("a server on the data in %s: %w\nits error log says:\n%s", c.Dir, errors.Join(err, died), logSince(c.errorLog(), logged))
	}
	return err
}

// unlogged keeps what follows in a session out of the binlog.
const unlogged = "SET SESSION sql_log_bin=OFF"

// adminStatement gives the administrator a password.
func adminStatement(flavor farm.Flavor, secret string) string {
	if flavor == farm.MySQL {
		return "ALTER USER root@localhost IDENTIFIED BY '" + secret + "'"
	}
	return "ALTER USER root@localhost IDENTIFIED VIA mysql_native_password USING PASSWORD('" + secret + "') OR unix_socket"
}

// awaitAdmin connects as administrator as soon as the server lets it.
func (s *Server) awaitAdmin(ctx context.Context) (*mysqladmin.Conn, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, last := mysqladmin.Dial(ctx, s.Admin())
		if last == nil {
			return conn, nil
		}
		select {
		case <-s.child.Done():
			return nil, s.ended()
		case <-ctx.Done():
			return nil, fmt.Errorf("%w (last try: %w)", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// ReplaceData puts the data in Incoming in the place of c's, in one step: a
// crash leaves the old data or the new. No server may run on either. The old
// data is removed.
func ReplaceData(c Config) error { return replaceData(c, "") }

// KeepData is ReplaceData, but moves the old data to aside, a directory on the same
// file system. If there is one already, it is that of an attempt before, and the data
// that is there now is removed.
func KeepData(c Config, aside string) error { return replaceData(c, aside) }

func replaceData(c Config, aside string) error {
	in := Incoming(c)
	for _, dir := range []string{c.dataDir(), in.dataDir()} {
		if err := unused(dir); err != nil {
			return err
		}
	}
	if err := syncFileSystem(in.dataDir()); err != nil {
		return fmt.Errorf("write incoming data to disk: %w", err)
	}
	if aside != "" {
		if err := setAside(c.dataDir(), aside); err != nil {
			return err
		}
	}
	err := unix.Renameat2(unix.AT_FDCWD, in.dataDir(), unix.AT_FDCWD, c.dataDir(), unix.RENAME_EXCHANGE)
	if errors.Is(err, fs.ErrNotExist) { // there is no old data
		err = os.Rename(in.dataDir(), c.dataDir())
	}
	if err != nil {
		return fmt.Errorf("exchange %s and %s: %w", in.dataDir(), c.dataDir(), err)
	}
	// Who restarts on the data also needs this one, without which there is no
	// server here as far as Initialised knows.
	err = os.Link(in.secretFile(), c.secretFile())
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep the administrator's password: %w", err)
	}
	if err := os.MkdirAll(c.tmpDir(), 0o755); err != nil {
		return fmt.Errorf("make a server directory: %w", err)
	}
	if err := c.own(c.tmpDir()); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(c.Dir); err != nil {
		return fmt.Errorf("write a server directory to disk: %w", err)
	}
	return DropIncoming(c)
}

// setAside moves a directory, if it is there and has not been moved before. After a
// crash nothing may be there for a while.
func setAside(dir, aside string) error {
	if _, err := os.Lstat(aside); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(dir, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the old data aside: %w", err)
	}
	return nil
}

// unused makes sure that no server has the data open: InnoDB holds a lock on
// its system tablespace.
func unused(dataDir string) error {
	f, err := os.Open(filepath.Join(dataDir, "ibdata1"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a server on %s: %w", dataDir, err)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err = errors.Join(unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock), f.Close())
	if err != nil {
		return fmt.Errorf("look for a server on %s: %w", dataDir, err)
	}
	if lock.Type != unix.F_UNLCK {
		return fmt.Errorf("a server (pid %d) runs on %s; its data is not replaced", lock.Pid, dataDir)
	}
	return nil
}

func syncFileSystem(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
