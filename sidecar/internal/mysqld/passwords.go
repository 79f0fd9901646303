package mysqld

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/mysqladmin"
)

// accounts are the farm's own, with the passwords that are used. These can be changed
// while the server runs.
type accounts struct {
	mu                   sync.Mutex
	replication, monitor dbserver.Account
	// change is the ID of the last change of passwords that is in use; empty for none
	// since this process began.
	change string
}

func (s *accounts) get() (replication, monitor dbserver.Account, change string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replication, s.monitor, s.change
}

// Replication is the account that replicas follow with, as it is now.
func (a *Agent) Replication() dbserver.Account {
	r, _, _ := a.accounts.get()
	return r
}

// Monitor is the account that proxies and scalers look at the server with, as it is now.
func (a *Agent) Monitor() dbserver.Account {
	_, m, _ := a.accounts.get()
	return m
}

// of is the account that an order calls by its name.
func (a *Agent) of(name string) (dbserver.Account, error) {
	switch name {
	case cluster.ReplicationPassword:
		return a.Replication(), nil
	case cluster.MonitorPassword:
		return a.Monitor(), nil
	}
	return dbserver.Account{}, fmt.Errorf("the farm has no account of its own called %q", name)
}

// errNotHere: the server's accounts come from the primary.
var errNotHere = errors.New("what the primary has changed has not arrived yet")

// AcceptPasswords returns nil once the server accepts the new passwords beside the old
// ones. The primary has that done here; the others get it from there.
func (a *Agent) AcceptPasswords(ctx context.Context, o *cluster.Passwords) error {
	return a.eachAccount(ctx, o, func(ctx context.Context, p picture, account dbserver.Account, old, next string) error {
		refused, err := a.refuses(ctx, p, account.User, next)
		if err != nil || !refused {
			return err
		}
		account.Password = old
		return a.alter(ctx, p, dbserver.AcceptBoth(a.o.Install.Flavor, account, next))
	})
}

// UsePasswords has the agent, and what the server follows with, use the new passwords; nil
// once that is so. Of a server that does not run, or leads, it is so at once.
func (a *Agent) UsePasswords(_ context.Context, o *cluster.Passwords) error {
	a.accounts.mu.Lock()
	for name, password := range o.New {
		switch name {
		case cluster.ReplicationPassword:
			a.accounts.replication.Password = password
		case cluster.MonitorPassword:
			a.accounts.monitor.Password = password
		}
	}
	a.accounts.change = o.ID
	a.accounts.mu.Unlock()
	p := a.look()
	if p.server == nil || p.lead != nil || !a.stalePassword() {
		return nil
	}
	return fmt.Errorf("the server follows with the old password: its task is %q", p.order.task())
}

// stalePassword reports whether what the server follows with may have the password of
// before the last change.
func (a *Agent) stalePassword() bool {
	_, _, change := a.accounts.get()
	return change != "" && a.memory.kept().Passwords != change
}

// DropPasswords returns nil once the server refuses the old passwords.
func (a *Agent) DropPasswords(ctx context.Context, o *cluster.Passwords) error {
	return a.eachAccount(ctx, o, func(ctx context.Context, p picture, account dbserver.Account, old, next string) error {
		refused, err := a.refuses(ctx, p, account.User, old)
		if err != nil || refused {
			return err
		}
		account.Password = next
		return a.alter(ctx, p, dbserver.AcceptOnly(a.o.Install.Flavor, account))
	})
}

// eachAccount does something about each account that the order changes, while the server
// runs.
func (a *Agent) eachAccount(ctx context.Context, o *cluster.Passwords, do func(ctx context.Context, p picture, account dbserver.Account, old, next string) error) error {
	p := a.look()
	if p.server == nil {
		return errors.New("the server does not run")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, statementLimit, fmt.Errorf("the server did not answer within %v", statementLimit))
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()
	for _, name := range slices.Sorted(maps.Keys(o.New)) {
		account, err := a.of(name)
		if err == nil {
			err = do(ctx, p, account, o.Old[name], o.New[name])
		}
		if err != nil {
			return fmt.Errorf("account %s: %w", name, err)
		}
	}
	return nil
}

// errAccessDenied is the server's code for a login that it refuses.
const errAccessDenied = 1045

// refuses reports whether the server refuses a login, as it is done from elsewhere.
func (a *Agent) refuses(ctx context.Context, p picture, user, password string) (bool, error) {
	conn, err := mysqladmin.Dial(ctx, mysqladmin.Target{Network: "tcp", Address: p.server.Addr(), User: user, Password: password, Program: program})
	if mysqladmin.Code(err) == errAccessDenied {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, closeConn(conn)
}

// alter has the primary change an account. Who does not lead any more has its connection
// ended, as all that may write.
func (a *Agent) alter(ctx context.Context, p picture, statements []string) (err error) {
	if p.lead == nil {
		return errNotHere
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.lead, func() { cancel(errNotLeading) })()
	conn, err := dial(ctx, p.server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	// Administrators may write where nobody else may.
	rows, err := conn.Query(ctx, "SELECT @@GLOBAL.read_only AS ro")
	if err != nil {
		return err
	}
	if len(rows) != 1 || isOn(rows[0].String("ro")) {
		return errNotLeading
	}
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", firstWords(s), err)
		}
	}
	return nil
}
