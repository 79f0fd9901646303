package dbserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/mysqladmin"
)

// Source is the server that a follower replicates from, and the account that
// it does it with.
type Source struct {
	Address  netip.AddrPort
	User     string
	Password string
	// Delay makes the follower apply every event at least so much later, in
	// whole seconds; 0 means at once.
	Delay time.Duration
}

// Follow makes the server a replica of source by GTID and refuse writes. The
// source need not answer yet: the server goes on trying every second.
func (s *Server) Follow(ctx context.Context, source Source) error {
	if err := s.Exec(ctx, followStatements(s.inst.Flavor, source)...); err != nil {
		return fmt.Errorf("follow %v: %w", source.Address, err)
	}
	return nil
}

// Resume starts the following that an earlier Follow on the same data
// directory set up: a server starts with it halted.
func (s *Server) Resume(ctx context.Context) error {
	statement := "START SLAVE"
	if s.inst.Flavor == farm.MySQL {
		statement = "START REPLICA"
	}
	return s.Exec(ctx, statement)
}

// Lead ends following, if the server did, and lets it take writes. Whether it
// may is the caller's decision.
func (s *Server) Lead(ctx context.Context) error {
	statements := []string{"STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only=OFF"}
	if s.inst.Flavor == farm.MySQL {
		statements = []string{"STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL super_read_only=OFF", "SET GLOBAL read_only=OFF"}
	}
	return s.Exec(ctx, statements...)
}

// SetDelay changes a follower's Source.Delay.
func (s *Server) SetDelay(ctx context.Context, delay time.Duration) error {
	return s.Exec(ctx, delayStatements(s.inst.Flavor, delay)...)
}

func followStatements(flavor farm.Flavor, source Source) []string {
	host, port := quote(source.Address.Addr().String()), strconv.Itoa(int(source.Address.Port()))
	user, password := quote(source.User), quote(source.Password)
	delay := strconv.Itoa(int(source.Delay.Seconds()))
	if flavor == farm.MySQL {
		return []string{
			"STOP REPLICA",
			"CHANGE REPLICATION SOURCE TO SOURCE_HOST=" + host + ", SOURCE_PORT=" + port + ", SOURCE_USER=" + user + ", SOURCE_PASSWORD=" + password +
				", SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=0, SOURCE_HEARTBEAT_PERIOD=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_DELAY=" + delay,
			"SET GLOBAL super_read_only=ON",
			"START REPLICA",
		}
	}
	return []string{
		"STOP SLAVE",
		"CHANGE MASTER TO MASTER_HOST=" + host + ", MASTER_PORT=" + port + ", MASTER_USER=" + user + ", MASTER_PASSWORD=" + password +
			", MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1, MASTER_DELAY=" + delay,
		"SET GLOBAL read_only=ON",
		"START SLAVE",
	}
}

func delayStatements(flavor farm.Flavor, delay time.Duration) []string {
	seconds := strconv.Itoa(int(delay.Seconds()))
	if flavor == farm.MySQL {
		return []string{"STOP REPLICA SQL_THREAD", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY=" + seconds, "START REPLICA SQL_THREAD"}
	}
	return []string{"STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY=" + seconds, "START SLAVE"}
}

// quote makes a string literal that reads the same under every sql_mode but
// NO_BACKSLASH_ESCAPES with a backslash in it, which control connections never
// set.
func quote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}

// AwaitFollowing waits up to half a minute until both replication threads of a
// follower run. The error is what the server gives as the reason that they do
// not.
func (s *Server) AwaitFollowing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		channel, ok, err := s.Replication(ctx)
		if err != nil {
			return fmt.Errorf("wait for replication to run: %w", err)
		}
		if !ok {
			return fmt.Errorf("server %s follows nobody", s.Addr())
		}
		if mysqladmin.Running(channel.Receiver) && mysqladmin.Running(channel.Applier) {
			return nil
		}
		problem := fmt.Errorf("server %s does not replicate from %s: receiver %s %v, applier %s %v", s.Addr(), channel.Source,
			channel.Receiver, channel.ReceiverError, channel.Applier, channel.ApplierError)
		if !mysqladmin.Running(channel.Applier) && channel.ApplierError.Code != 0 {
			return problem
		}
		select {
		case <-ctx.Done():
			return errors.Join(problem, context.Cause(ctx))
		case <-s.child.Done():
			return fmt.Errorf("server %s ended while it was to replicate", s.Addr())
		case <-tick.C:
		}
	}
}
