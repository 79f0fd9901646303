package role

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/child"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/report"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/config"
)

// reportEvery is how often a running server is asked and reported.
const reportEvery = time.Second

// mysql runs one database server as primary or as a follower.
type mysql struct {
	name   string
	flavor farm.Flavor
	config config.MySQL
	server dbserver.Config
	source *dbserver.Source // nil on a primary
	tools  Tools
	told   told
	// unheard: nobody reads the reports of a server in a farm any more.
	unheard bool
}

func newMySQL(c config.Config, tools Tools) (Role, error) {
	m := &mysql{name: c.Name, flavor: farm.MariaDB, config: c.MySQL, tools: tools}
	if c.MySQL.Flavor == "mysql" {
		m.flavor = farm.MySQL
	}
	listen, err := netip.ParseAddrPort(c.MySQL.Listen)
	if err != nil {
		return nil, fmt.Errorf("mysql.listen: %w", err)
	}
	credential, err := account(c.MySQL.RunAs)
	if err != nil {
		return nil, fmt.Errorf("mysql.run_as: %w", err)
	}
	m.server = dbserver.Config{
		Dir:        c.MySQL.Directory,
		Address:    listen.Addr(),
		Port:       listen.Port(),
		Socket:     c.MySQL.Socket,
		ServerID:   c.MySQL.ServerID,
		BufferPool: int64(c.MySQL.BufferPool),
		// Even a primary starts so, and takes writes only once it is told to lead.
		ReadOnly:   true,
		Credential: credential,
	}
	if c.MySQL.Cluster != "" {
		return newMySQLInFarm(m, c)
	}
	if c.MySQL.Follow != "" {
		address, err := netip.ParseAddrPort(c.MySQL.Follow)
		if err != nil {
			return nil, fmt.Errorf("mysql.follow: %w", err)
		}
		a, err := readAccount(c.MySQL.Accounts.Replication)
		if err != nil {
			return nil, err
		}
		m.source = &dbserver.Source{Address: address, User: a.User, Password: a.Password}
	}
	return m, nil
}

// account returns the credential of a system account; none means our own.
func account(name string) (*syscall.Credential, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account %s: uid %q: %w", name, u.Uid, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account %s: gid %q: %w", name, u.Gid, err)
	}
	if int(uid) == os.Geteuid() {
		return nil, nil
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func readAccount(a config.Account) (dbserver.Account, error) {
	password, err := service.ReadSecret(a.PasswordFile)
	if err != nil {
		return dbserver.Account{}, fmt.Errorf("account %s: %w", a.User, err)
	}
	return dbserver.Account{User: a.User, Password: password}, nil
}

// Run holds the directory and keeps a server running on it: a server that ends
// is started again, after a wait that grows.
func (m *mysql) Run(finish, now context.Context) error {
	unlock, err := dbserver.Lock(finish, m.server.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	inst, err := m.find(finish)
	if err != nil {
		return err // trying again would not install one
	}
	if err := m.initialise(finish, inst); err != nil {
		return err
	}
	var backoff child.Backoff
	for {
		began := time.Now()
		ended := m.serve(finish, now, inst)
		if finish.Err() != nil {
			return errors.Join(ended, m.report(report.Report{State: report.Stopped}))
		}
		wait := backoff.Next(time.Since(began))
		m.tools.Log.Error("server ended, will be started again", zap.Error(ended), zap.Duration("after", wait))
		if err := m.report(report.Report{State: report.Failed, Detail: fmt.Sprintf("%v; next try in %v", ended, wait)}); err != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-finish.Done():
			timer.Stop()
			return m.report(report.Report{State: report.Stopped})
		}
	}
}

// find finds the server's program.
func (m *mysql) find(ctx context.Context) (dbserver.Install, error) {
	var roots []string
	if m.config.ProgramRoot != "" {
		roots = []string{m.config.ProgramRoot}
	}
	return dbserver.Find(ctx, m.flavor, roots...)
}

func (m *mysql) initialise(ctx context.Context, inst dbserver.Install) error {
	done, err := dbserver.Initialised(m.server.Dir)
	if err != nil || done {
		return err
	}
	if err := m.report(report.Report{State: report.Initialising, Detail: inst.Version}); err != nil {
		return err
	}
	accounts := m.config.Accounts
	replication, err := readAccount(accounts.Replication)
	if err != nil {
		return err
	}
	monitor, err := readAccount(accounts.Monitor)
	if err != nil {
		return err
	}
	var statements []string
	statements = append(statements, dbserver.ReplicationAccount(m.flavor, replication)...)
	statements = append(statements, dbserver.MonitorAccount(m.flavor, monitor)...)
	m.tools.Log.Info("initialise data directory", zap.String("directory", m.server.Dir), zap.String("version", inst.Version))
	return dbserver.Initialise(ctx, inst, m.server, statements...)
}

// serve runs the server once, from start to end. The error is why it ended
// unasked, or not cleanly.
func (m *mysql) serve(finish, now context.Context, inst dbserver.Install) error {
	if err := m.report(report.Report{State: report.Starting, Detail: inst.Version}); err != nil {
		return err
	}
	server, err := dbserver.Start(finish, inst, m.server)
	if err != nil {
		return err
	}
	m.tools.Log.Info("server answers", zap.String("address", server.Addr()), zap.Int("pid", server.PID()))
	role, watch := m.role(), func() error { return m.watch(finish, server) }
	if err := m.assume(finish, server); err != nil {
		watch = func() error { return err }
	} else {
		m.tools.Log.Info("role taken", zap.String("role", string(role)))
	}
	ended := watch()
	if finish.Err() != nil {
		ended = nil // asked for
		if err := m.report(report.Report{State: report.Stopping, PID: server.PID(), Detail: context.Cause(finish).Error()}); err != nil {
			ended = err
		}
		m.tools.Log.Info("server stops", zap.NamedError("cause", context.Cause(finish)))
	}
	return errors.Join(ended, server.Stop(now))
}

// assume makes the server what it is to be.
func (m *mysql) assume(ctx context.Context, server *dbserver.Server) error {
	if m.source != nil {
		return server.Follow(ctx, *m.source)
	}
	if err := server.Lead(ctx); err != nil {
		return err
	}
	state, err := server.State(ctx)
	if err != nil {
		return err
	}
	app := m.config.Accounts.Application
	if app.User == "" || state.Executed.String() != "" {
		return nil
	}
	// A farm without any history gets the application's account and schema, by
	// the binlog, so that replicas have them as they have all its data. Later
	// they are the application's own: what it drops stays dropped.
	a, err := readAccount(config.Account{User: app.User, PasswordFile: app.PasswordFile})
	if err != nil {
		return err
	}
	return server.Exec(ctx, dbserver.ApplicationAccount(m.flavor, a, app.Schema)...)
}

// watch reports the server until it ends or finish does.
func (m *mysql) watch(finish context.Context, server *dbserver.Server) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		if err := m.report(m.observe(finish, server)); err != nil {
			return err
		}
		select {
		case <-finish.Done():
			return nil
		case <-server.Done():
			err := server.Err()
			if err == nil {
				err = errors.New("exit status 0")
			}
			return fmt.Errorf("server process %d ended: %w", server.PID(), err)
		case <-tick.C:
		}
	}
}

// observe asks the server how it is. What cannot be learned is said to be so.
func (m *mysql) observe(ctx context.Context, server *dbserver.Server) report.Report {
	r := report.Report{State: report.Running, PID: server.PID()}
	if m.source == nil {
		state, err := server.State(ctx)
		switch {
		case err != nil:
			r.Detail = err.Error()
		case state.ReadOnly:
			r.Detail = "it is read-only, which a primary should not be"
		}
		return r
	}
	channel, ok, err := server.Replication(ctx)
	switch {
	case err != nil:
		r.Detail = err.Error()
	case !ok:
		r.Detail = "it follows nobody, which a replica should not"
	default:
		r.Replication = replication(channel)
	}
	return r
}

func replication(c mysqladmin.Channel) *report.Replication {
	r := &report.Replication{Source: c.Source, Receiver: c.Receiver, Applier: c.Applier}
	for _, e := range []mysqladmin.ThreadError{c.ReceiverError, c.ApplierError} {
		if e != (mysqladmin.ThreadError{}) {
			r.Error = e.String()
		}
	}
	if c.BehindKnown {
		seconds := int64(c.Behind / time.Second)
		r.Behind = &seconds
	}
	return r
}

func (m *mysql) role() farm.Role {
	if m.source != nil {
		return farm.Replica
	}
	return farm.Primary
}

func (m *mysql) report(r report.Report) error {
	r.Time, r.Name, r.Role, r.Address = time.Now().UTC(), m.name, m.role(), m.server.Addr()
	m.tell(r)
	return m.tools.Report(r)
}
