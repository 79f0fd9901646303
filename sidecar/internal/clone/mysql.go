package clone

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/mysqlbackup"
)

// mysql copies by the server's clone plugin: a server without data of its own asks
// the donor's server for its data and writes it to a directory of its own choice.
// https://dev.mysql.com/doc/refman/9.7/en/clone-plugin-remote.html
//
// It does so as an account that exists at the donor for as long as the copy takes,
// at localhost only. The joiner's server reaches the donor's through the sidecars,
// so that no port and no account for it is open to a network.
type mysql struct{}

const (
	cloneUser = "farmhand_clone"
	// keepAlive is how often the donor says that it is there.
	keepAlive = time.Second
	// undoLimit bounds the removal of the account.
	undoLimit = 30 * time.Second
)

// credential is what the donor says first.
type credential struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

func (mysql) ready(dbserver.Install) error { return nil } // the server says whether it has the plugin

func (mysql) give(ctx context.Context, g *gift) (err error) {
	admin, err := g.donor.Config.Admin()
	if err != nil {
		return err
	}
	password := rand.Text()
	if err := mysqlbackup.Locally(ctx, admin, func(conn *mysqladmin.Conn) error { return openAccount(ctx, conn, password) }); err != nil {
		return err
	}
	defer func() {
		// It is removed for whatever reason the copy ends.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
		defer cancel()
		undone := mysqlbackup.Locally(ctx, admin, func(conn *mysqladmin.Conn) error { return run(ctx, conn, dropAccount) })
		if undone != nil {
			err = errors.Join(err, fmt.Errorf("the account %s is left: %w", cloneUser, undone))
		}
	}()
	said, err := json.Marshal(credential{User: cloneUser, Password: password})
	if err != nil {
		return err
	}
	said = append(said, '\n')
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		if err := g.say(said); err != nil {
			return err
		}
		said = []byte("\n")
		select {
		case <-tick.C:
		case <-g.finished:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

const dropAccount = "DROP USER IF EXISTS " + cloneUser + "@localhost"

// openAccount makes the account with which the donor can be copied, and nothing
// else done; if it can be copied as a whole.
func openAccount(ctx context.Context, conn *mysqladmin.Conn, password string) error {
	if err := mysqlbackup.OnlyInnoDB(ctx, conn); err != nil {
		return err
	}
	if err := mysqlbackup.LoadPlugin(ctx, conn); err != nil {
		return err
	}
	return run(ctx, conn,
		dropAccount, // of a copy that was killed
		"CREATE USER "+cloneUser+"@localhost IDENTIFIED BY "+quote(password),
		"GRANT BACKUP_ADMIN ON *.* TO "+cloneUser+"@localhost")
}

// quote makes a string literal of a text, for statements that take nothing else.
func quote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}

// run runs statements. The error names them by their first words.
func run(ctx context.Context, conn *mysqladmin.Conn, statements ...string) error {
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s …: %w", strings.Join(strings.Fields(s)[:2], " "), err)
		}
	}
	return nil
}

func (mysql) take(ctx context.Context, f *fetch, in dbserver.Config) (position string, err error) {
	who, rest, err := f.introduced()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var busy sync.WaitGroup
	defer busy.Wait()
	defer func() { _ = f.answer.Body.Close() }() // ends the reading below, if nothing has yet
	defer cancel(nil)
	verdict := make(chan error, 1)
	busy.Go(func() { // the body is the donor's sign of life
		_, err := io.Copy(io.Discard, rest)
		if err == nil {
			err = f.verdict()
		}
		if err != nil {
			cancel(err)
		}
		verdict <- err
	})
	err = f.tunnel(ctx, func(donor *net.TCPAddr) error { return scratch(ctx, f, in, donor, who) })
	if err != nil {
		return "", err
	}
	if err := f.post(ctx, donePath); err != nil {
		return "", err
	}
	if err := <-verdict; err != nil {
		return "", err
	}
	f.phase(Recovering)
	err = dbserver.Settle(ctx, f.Install, in, func(ctx context.Context, conn *mysqladmin.Conn) error {
		f.phase(Checking)
		// The copy has the donor's account for it and, if that follows, its source.
		if err := run(ctx, conn, dropAccount, "RESET REPLICA ALL"); err != nil {
			return err
		}
		rows, err := conn.Query(ctx, "SELECT @@GLOBAL.gtid_executed AS executed")
		if err != nil {
			return fmt.Errorf("read the position of the copy: %w", err)
		}
		position = strings.ReplaceAll(rows[0].String("executed"), "\n", "")
		_, err = gtid.Parse(farm.MySQL, position)
		return err
	})
	return position, err
}

// introduced reads what the donor says first, and returns what it says then.
func (f *fetch) introduced() (who credential, rest io.Reader, err error) {
	body := bufio.NewReaderSize(f.body, maxReason)
	line, err := body.ReadSlice('\n')
	if errors.Is(err, io.EOF) {
		err = errors.Join(err, f.verdict())
	}
	if err == nil {
		err = json.Unmarshal(line, &who)
	}
	if err != nil {
		return who, nil, fmt.Errorf("read the donor's first words: %w", err)
	}
	return who, body, nil
}

// scratch runs an empty server that makes the copy.
func scratch(ctx context.Context, f *fetch, in dbserver.Config, donor *net.TCPAddr, who credential) (err error) {
	empty := in
	empty.Dir = filepath.Join(in.Dir, "scratch")
	if err := dbserver.Initialise(ctx, f.Install, empty); err != nil {
		return fmt.Errorf("make a server that copies: %w", err)
	}
	if err := os.Remove(in.DataDir()); err != nil { // the plugin makes it
		return fmt.Errorf("make way for the copy: %w", err)
	}
	// The plugin makes it with the server's account in a directory of that account's.
	f.phase(Copying)
	err = dbserver.Settle(ctx, f.Install, empty, func(ctx context.Context, conn *mysqladmin.Conn) error {
		if err := mysqlbackup.LoadPlugin(ctx, conn); err != nil {
			return err
		}
		return run(ctx, conn,
			"SET GLOBAL clone_valid_donor_list="+quote(donor.String()),
			fmt.Sprintf("CLONE INSTANCE FROM %s@%s:%d IDENTIFIED BY %s DATA DIRECTORY=%s",
				quote(who.User), quote(donor.IP.String()), donor.Port, quote(who.Password), quote(in.DataDir())))
	})
	if err != nil {
		return err
	}
	if err := os.RemoveAll(empty.Dir); err != nil {
		return fmt.Errorf("remove the server that copied: %w", err)
	}
	return nil
}
