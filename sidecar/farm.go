package main

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/enrol"
	"farmhand/internal/farm"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/departure"
	"farmhand/sidecar/internal/member"
	"farmhand/sidecar/internal/notice"
	"farmhand/sidecar/internal/password"
	"farmhand/sidecar/internal/role"
)

// inFarm does f as a member of the configuration's farm; without a farm it does f
// with no member. f's context ends with finish, and also when the node was
// expelled. The node leaves after f has returned, for until then it does what the
// others know of it.
func inFarm(finish context.Context, c config.Config, log *zap.Logger, f func(context.Context, *member.Member) error) (err error) {
	if !c.InFarm() {
		return f(finish, nil)
	}
	if err := member.Join(finish, c.Farm.Directory, c.Farm.TokenFile, c.NodeName(), log); err != nil {
		if finish.Err() != nil {
			return nil // it was told to end before it was anything
		}
		return err
	}
	m, err := member.Open(member.Options{
		Dir: c.Farm.Directory, Address: c.NodeAddress(), Attributes: attributes(c), Lease: time.Duration(c.Farm.Lease),
		Told: func(state string) { log.Info("membership", zap.String("state", state)) },
		Log:  log.Named("farm"),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	held, leave := context.WithCancel(context.WithoutCancel(finish))
	defer leave()
	finish, expel := context.WithCancelCause(finish)
	defer expel(nil)
	ended := make(chan error, 1)
	go func() {
		err := m.Run(held)
		if held.Err() != nil && err != nil {
			log.Warn("the farm was not told that the node leaves", zap.Error(err))
			err = nil
		}
		if err != nil {
			log.Error("the node is none of the farm's any more and ends", zap.Error(err))
			expel(err)
		}
		ended <- err
	}()
	err = f(finish, m)
	leave()
	return errors.Join(err, <-ended)
}

// attributes are what the node says of itself when it joins: it is not well before its role
// has seen to that.
func attributes(c config.Config) map[string]string {
	all := c.Attributes()
	if c.Frame() != nil {
		all[farm.HealthAttribute] = farm.HealthUnwell
	}
	return all
}

// withFarm gives a role the farm. What happens to the node is told there as well.
func withFarm(tools role.Tools, m *member.Member) role.Tools {
	if m == nil {
		return tools
	}
	tools.Farm, tools.Members, tools.Announce = m, m.WatchMembers, m.Announce
	put := tools.Event
	tools.Event = func(e farm.Event) error {
		if err := put(e); err != nil {
			return err
		}
		m.Note(e)
		return nil
	}
	return tools
}

// withNotices does f, and meanwhile tells the farm if the machine is about to be taken
// away.
func withNotices(c config.Config, m *member.Member, finish context.Context, log *zap.Logger, f func() error) error {
	if m == nil || c.Farm.Metadata == "" {
		return f()
	}
	ctx, stop := context.WithCancel(finish)
	ended := make(chan error, 1)
	go func() {
		ended <- notice.Run(ctx, notice.Options{Node: c.NodeName(), Endpoint: c.Farm.Metadata, Report: m.Report, Log: log})
	}()
	err := f()
	stop()
	if e := <-ended; e != nil && !errors.Is(e, context.Canceled) {
		log.Error("nobody looks any more whether the machine is taken away", zap.Error(e))
	}
	return err
}

// withDepartures does f while the node's hooks are told of the hosts that leave the
// farm; hooks is nil where there are none, and m is without a farm. That this is not
// possible ends nothing else.
func withDepartures(c config.Config, m *member.Member, hooks departure.Hooks, finish context.Context, log *zap.Logger, f func() error) error {
	name := c.ClusterName()
	if m == nil || name == "" {
		return f()
	}
	ctx, stop := context.WithCancel(finish)
	ended := make(chan error, 1)
	go func() {
		ended <- departure.Run(ctx, departure.Options{Node: c.NodeName(), Cluster: name, Watch: m.Watch, Report: m.Report, Hooks: hooks, Log: log})
	}()
	err := f()
	stop()
	if e := <-ended; e != nil && !errors.Is(e, context.Canceled) {
		log.Error("hooks were not told of hosts that leave the farm", zap.Error(e))
	}
	return err
}

// withPasswords has the node take other passwords while f runs; a database server's role
// sees to that itself.
func withPasswords(c config.Config, m *member.Member, finish context.Context, log *zap.Logger, f func() error) error {
	if m == nil || c.Role == "mysql" {
		return f()
	}
	ctx, stop := context.WithCancel(finish)
	ended := make(chan error, 1)
	go func() {
		ended <- password.Run(ctx, password.Options{
			Node: c.NodeName(), Watch: m.Watch, Report: m.Report, Log: log.Named("passwords"),
			Files: map[string]string{cluster.MonitorPassword: enrol.SecretFile(c.Farm.Directory, cluster.MonitorPassword)},
		})
	}()
	err := f()
	stop()
	if e := <-ended; e != nil && !errors.Is(e, context.Canceled) {
		log.Error("no order to take other passwords was heard", zap.Error(e))
	}
	return err
}
