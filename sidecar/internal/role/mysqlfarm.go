package role

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/enrol"
	"farmhand/internal/farm"
	"farmhand/internal/report"
	"farmhand/sidecar/internal/backupagent"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/drill"
	"farmhand/sidecar/internal/hook"
	"farmhand/sidecar/internal/load"
	"farmhand/sidecar/internal/mysqld"
	"farmhand/sidecar/internal/password"
)

// mysqlInFarm is a database server that does what its cluster's assignment says.
type mysqlInFarm struct {
	*mysql
	node    string // the node's name in the farm
	options mysqld.Options
	scratch string            // a directory that a restore drill may make
	secrets map[string]string // the files of the farm's own passwords, by account
}

func newMySQLInFarm(m *mysql, c config.Config) (Role, error) {
	if m.tools.Farm == nil {
		return nil, errors.New("mysql.cluster: the node belongs to no farm")
	}
	accounts := c.MySQL.Accounts
	replication, err := readAccount(accounts.Replication)
	if err != nil {
		return nil, err
	}
	monitor, err := readAccount(accounts.Monitor)
	if err != nil {
		return nil, err
	}
	o := mysqld.Options{
		Name: c.NodeName(), Cluster: c.MySQL.Cluster, Server: m.server, Replication: replication, Monitor: monitor, Farm: m.tools.Farm, Log: m.tools.Log,
	}
	if app := accounts.Application; app.User != "" {
		a, err := readAccount(config.Account{User: app.User, PasswordFile: app.PasswordFile})
		if err != nil {
			return nil, err
		}
		o.Application = dbserver.ApplicationAccount(m.flavor, a, app.Schema)
	}
	if c.MySQL.CloneListen != "" {
		o.Giving = &mysqld.Giving{Listen: c.MySQL.CloneListen, Files: enrol.Files(c.Farm.Directory)}
	}
	host, err := load.NewHost(m.server.Dir)
	if err != nil {
		return nil, err
	}
	o.Load = host.Sample
	f := &mysqlInFarm{mysql: m, node: o.Name, options: o, scratch: filepath.Join(m.server.Dir, "drill")}
	f.options.Heard = f.heard
	f.secrets = map[string]string{cluster.ReplicationPassword: accounts.Replication.PasswordFile, cluster.MonitorPassword: accounts.Monitor.PasswordFile}
	return f, nil
}

// Run implements [Role].
func (m *mysqlInFarm) Run(finish, now context.Context) error {
	inst, err := m.find(finish)
	if err != nil {
		return err
	}
	o := m.options
	o.Install = inst
	agent, err := mysqld.New(o)
	if err != nil {
		return err
	}
	// Backups end first: they need the server.
	backing, stop := context.WithCancel(finish)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.backUp(backing, o, agent.Replication)
	}()
	passwords := make(chan struct{})
	go func() {
		defer close(passwords)
		m.changePasswords(backing, agent)
	}()
	defer func() {
		stop()
		<-ended
		<-passwords
	}()
	return agent.Run(finish, now)
}

// changePasswords has the node take other passwords when it is told to, until ctx ends.
func (m *mysqlInFarm) changePasswords(ctx context.Context, agent *mysqld.Agent) {
	err := password.Run(ctx, password.Options{
		Node: m.node, Watch: m.tools.Farm.Watch, Report: m.tools.Farm.Report, Files: m.secrets, Server: agent, Log: m.tools.Log.Named("passwords"),
	})
	if ctx.Err() == nil {
		m.tools.Log.Error("no order to take other passwords is heard any more", zap.Error(err))
	}
}

// backUp has the server's backups made, as far as that is possible, until ctx ends.
func (m *mysqlInFarm) backUp(ctx context.Context, o mysqld.Options, replication func() dbserver.Account) {
	err := backupagent.New(backupagent.Options{
		Name: o.Name, Cluster: o.Cluster, Install: o.Install, Server: o.Server, Replication: replication, Farm: o.Farm,
		Event: m.tools.Event, NewEventID: hook.NewID, Drill: drill.Run, Scratch: m.scratch, Log: m.tools.Log.Named("backups"),
	}).Run(ctx)
	if ctx.Err() == nil {
		m.tools.Log.Error("no backups are made any more", zap.Error(err))
	}
}

// heard passes on to who launched us, and to the hooks, what the farm is told.
func (m *mysqlInFarm) heard(c *cluster.Report) {
	r := report.Report{Time: c.Time, Name: m.name, Role: farm.Replica, Address: c.Address, PID: c.PID, Detail: c.Detail, State: stateOf(c)}
	if c.Task == cluster.Lead || c.Task == cluster.Yield {
		r.Role = farm.Primary
	}
	if c.Done {
		r.Detail = ""
	}
	if f := c.Replication; f != nil {
		r.Replication = &report.Replication{Source: f.Source, Receiver: f.Receiver, Applier: f.Applier}
		for _, e := range []string{f.ReceiverError, f.ApplierError} {
			if e != "" {
				r.Replication.Error = e
			}
		}
		if c.Beat != nil {
			seconds := int64(*c.Beat / time.Second)
			r.Replication.Behind = &seconds
		}
	}
	m.tell(r)
	// The farm hears it from the registry.
	if err := m.tools.Report(r); err != nil && !m.unheard {
		m.unheard = true
		m.tools.Log.Warn("who launched the sidecar does not read its reports", zap.Error(err))
	}
}

// stateOf is the state of the process in words of a node without a farm.
func stateOf(c *cluster.Report) report.State {
	switch c.Process {
	case cluster.Copying:
		return report.Initialising
	case cluster.Starting:
		return report.Starting
	case cluster.Crashed:
		return report.Failed
	case cluster.Running:
		if !c.Answers {
			return report.Starting
		}
		return report.Running
	case cluster.Absent:
	}
	return report.Stopped
}
