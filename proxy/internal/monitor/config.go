package monitor

import (
	"crypto/tls"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Config says how to watch a cluster. A zero duration or number means the
// default that its comment names.
type Config struct {
	// User and Password are the monitor's account, the same on every server. It
	// needs to see the replication's state (REPLICA MONITOR on MariaDB,
	// REPLICATION CLIENT on MySQL) and, for Accounts, to read the account
	// tables (SELECT on mysql.global_priv or mysql.user).
	User, Password string
	// Reread returns the password as it is now, for each connection: it can be changed
	// while the monitor runs. Nil if it cannot.
	Reread func() (string, error)
	// TLS is how to connect over TCP; nil is in the clear. Unix sockets are
	// always in the clear.
	TLS *tls.Config
	// TLSOptional lets a server without TLS be spoken to in the clear.
	TLSOptional bool
	// Interval is the time between two probes of a server; 500 ms.
	Interval time.Duration
	// Timeout bounds one probe, connecting included, and one account look-up's
	// query; 1 s.
	Timeout time.Duration
	// Failures is how many probes in a row must fail before a server is down; 3.
	// It is out of service from the first one on, unless that one only took too
	// long.
	Failures int
	// SlowStart is how long a replica that comes back takes to reach its full
	// weight; 30 s. Negative means at once.
	SlowStart time.Duration
	// VariablesEvery is how often global variables are read again; 30 s.
	VariablesEvery time.Duration

	Log *zap.Logger
	// Metrics is where the monitor's metrics are registered while it runs; with
	// several clusters it carries a label that tells them apart
	// (prometheus.WrapRegistererWith).
	Metrics prometheus.Registerer
	// Beat is called about once a second as long as the monitor goes round; nil for
	// nobody.
	Beat func()
}

// password is the account's, as it is now; what was known at the start where that cannot
// be read, which is logged: a server may accept it still.
func (c *Config) password() string {
	if c.Reread == nil {
		return c.Password
	}
	password, err := c.Reread()
	if err != nil {
		c.Log.Error("the monitor's password cannot be read; that of the start is used", zap.Error(err))
		return c.Password
	}
	return password
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Interval, 500*time.Millisecond)
	def(&c.Timeout, time.Second)
	def(&c.SlowStart, 30*time.Second)
	def(&c.VariablesEvery, 30*time.Second)
	if c.Failures == 0 {
		c.Failures = 3
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	return c
}
