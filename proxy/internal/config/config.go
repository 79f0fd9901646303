// Package config owns the proxy's configuration: its keys, their defaults and
// what makes a value acceptable. docs/proxy.example.yaml explains every key to
// the people who set it.
//
// It refuses to hold a secret: a password is named by the file it stands in. It
// reads no flags and no environment, and acts on nothing.
//
// Invariant: a [Config] that [Load] returned is complete and within bounds, and
// is never changed.
package config

import (
	"time"

	"farmhand/internal/service"
)

// Short names for the types that a value of the file can have.
type (
	Duration = service.Duration
	Size     = service.Size
	FileMode = service.FileMode
)

// Config is everything that the proxy can be told.
type Config struct {
	// Listen is where clients connect.
	Listen []Listener `yaml:"listen"`
	// Topology is the path of the topology file.
	Topology string `yaml:"topology"`
	// Cluster is which cluster of the topology this proxy serves.
	Cluster string `yaml:"cluster"`
	// Monitor is the account that probes the servers.
	Monitor Monitor `yaml:"monitor"`
	// ServerVersion is what clients are greeted with before any server was
	// reached; empty makes them wait for one.
	ServerVersion string `yaml:"server_version"`

	TLS           TLS                 `yaml:"tls"`
	ProxyProtocol ProxyProtocol       `yaml:"proxy_protocol"`
	Logins        Logins              `yaml:"logins"`
	Limits        Limits              `yaml:"limits"`
	Pool          Pool                `yaml:"pool"`
	Reads         Reads               `yaml:"reads"`
	Writes        Writes              `yaml:"writes"`
	Health        Health              `yaml:"health"`
	Hints         Hints               `yaml:"hints"`
	Console       Console             `yaml:"console"`
	Digests       Digests             `yaml:"digests"`
	Admin         service.AdminConfig `yaml:"admin"`
	Log           service.LogConfig   `yaml:"log"`
	// DrainTimeout is how long sessions may go on after the proxy was told to
	// stop.
	DrainTimeout Duration `yaml:"drain_timeout"`
}

// Listener is one address that clients connect to: either TCP or Unix is set.
type Listener struct {
	TCP  string   `yaml:"tcp,omitempty"`  // host:port
	Unix string   `yaml:"unix,omitempty"` // absolute path of a socket
	Mode FileMode `yaml:"mode,omitempty"` // of the socket; 0 means DefaultSocketMode
}

// DefaultSocketMode lets every user of the machine connect, as mysqld's own
// socket does: who may do what is for the accounts to say.
const DefaultSocketMode FileMode = 0o777

// SocketMode is the mode that a unix listener's socket gets.
func (l Listener) SocketMode() FileMode {
	if l.Mode == 0 {
		return DefaultSocketMode
	}
	return l.Mode
}

// Network returns "tcp" or "unix".
func (l Listener) Network() string {
	if l.Unix != "" {
		return "unix"
	}
	return "tcp"
}

// Address returns what to listen on.
func (l Listener) Address() string {
	if l.Unix != "" {
		return l.Unix
	}
	return l.TCP
}

// Monitor is the account that probes the servers.
type Monitor struct {
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"` // empty for an account without a password
}

// Password reads the account's password anew, so that it can be changed without
// a restart.
func (m Monitor) Password() (string, error) {
	if m.PasswordFile == "" {
		return "", nil
	}
	return service.ReadSecret(m.PasswordFile)
}

// TLSMode is how much encryption is asked of the other side.
type TLSMode string

// The modes, each stricter than the one before.
const (
	TLSDisabled  TLSMode = "disabled"  // not offered
	TLSPreferred TLSMode = "preferred" // used if the other side can
	TLSRequired  TLSMode = "required"  // no connection without
	TLSVerify    TLSMode = "verify"    // and the other side's certificate must be good
)

// TLS is encryption on both sides of the proxy.
type TLS struct {
	Clients TLSClients `yaml:"clients"`
	Servers TLSServers `yaml:"servers"`
}

// TLSClients is encryption between clients and the proxy.
type TLSClients struct {
	Mode TLSMode `yaml:"mode"`
	// Certificate and Key are PEM files; both empty for a self-signed
	// certificate that is made at the start.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	CA          string `yaml:"ca"` // PEM file of who signs clients' certificates; verify needs it
}

// TLSServers is encryption between the proxy and the servers.
type TLSServers struct {
	Mode TLSMode `yaml:"mode"`
	CA   string  `yaml:"ca"` // PEM file; empty for the system's authorities
	// Certificate and Key are PEM files by which the proxy shows who it is, if
	// the servers ask.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// ServerName is the name that the servers' certificates carry; empty for the
	// host of each server's address.
	ServerName string `yaml:"server_name"`
}

// ProxyProtocol is who may say on whose behalf it connects (PROXY protocol 1 and
// 2).
type ProxyProtocol struct {
	Trusted []string `yaml:"trusted"` // networks (CIDR) or addresses, or "unix"
}

// Logins is how clients are let in.
type Logins struct {
	// AccountAge is how old a reading of the account table may be by which a client
	// is let in whose password has been proved before; 0 for one of each login's own.
	AccountAge Duration `yaml:"account_age"`
}

// Limits bound what clients can take.
type Limits struct {
	Connections        int      `yaml:"connections"`
	ConnectionsPerUser int      `yaml:"connections_per_user"` // 0 for no limit of its own
	HandshakeTimeout   Duration `yaml:"handshake_timeout"`    // from the connection to its end
	PacketSize         Size     `yaml:"packet_size"`          // of one command, as max_allowed_packet
	ClassifySize       Size     `yaml:"classify_size"`        // a longer statement goes to the primary unread
	PreparedStatements int      `yaml:"prepared_statements"`  // of one session
}

// Pool is the connections to each server.
type Pool struct {
	MaxPerServer   int      `yaml:"max_per_server"`  // in all; sessions share them, and wait for one; 0 for no limit
	MaxPerUser     int      `yaml:"max_per_user"`    // of one user to one server; 0 for no limit of its own
	Wait           Duration `yaml:"wait"`            // for a connection, where a limit is reached
	IdlePerUser    int      `yaml:"idle_per_user"`   // kept warm for each user on each server
	IdleTimeout    Duration `yaml:"idle_timeout"`    // then an idle one is closed
	MaxLifetime    Duration `yaml:"max_lifetime"`    // then any is closed when it comes back; 0 for never
	ConnectTimeout Duration `yaml:"connect_timeout"` // of the connection and the handshake together
	Pipelining     bool     `yaml:"pipelining"`      // short reads of different sessions share connections, back to back
}

// PrimaryReads is when the primary serves reads that a replica could.
type PrimaryReads string

// The choices for reads on the primary.
const (
	PrimaryWhenNeeded PrimaryReads = "when_needed" // if no replica can
	PrimaryShares     PrimaryReads = "share"       // by its weight, like a replica
	PrimaryNever      PrimaryReads = "never"       // rather an error
)

// Consistency is what a read sees at least.
type Consistency string

// The levels of consistency.
const (
	Eventual Consistency = "eventual" // whatever the replica has
	Session  Consistency = "session"  // what the session itself has written and seen
	Farm     Consistency = "farm"     // what anybody had been told was committed before the session began to read
	Strict   Consistency = "strict"   // what anybody had been told was committed before the read
)

// WithoutPrimary is what becomes of reads that need to know what was committed
// while the primary, which knows it, is down.
type WithoutPrimary string

// The choices for reads while the primary is down.
const (
	WaitForPrimary      WithoutPrimary = "wait"  // as writes do
	ServeWithoutPrimary WithoutPrimary = "serve" // what the replicas have, which may be old
)

// Reads is how reads are spread.
type Reads struct {
	Primary     PrimaryReads `yaml:"primary"`
	MaxLag      Duration     `yaml:"max_lag"` // of a replica that serves reads
	Consistency Consistency  `yaml:"consistency"`
	// ConsistencyByUser are the levels of single accounts, by user name.
	ConsistencyByUser map[string]Consistency `yaml:"consistency_by_user"`
	// WithoutPrimary is for the levels farm and strict, and for sessions that
	// cannot go on with the server that they have read from.
	WithoutPrimary WithoutPrimary `yaml:"without_primary"`
	// Wait is how long a read waits for a replica that has not got what the read
	// must see; then the primary serves it.
	Wait Duration `yaml:"wait"`
	// Pause is how long a session must be idle to count, at the level farm, as
	// one that begins to read anew.
	Pause   Duration `yaml:"pause"`
	Retries int      `yaml:"retries"` // on other servers, if one fails before its first byte
}

// Writes is what happens to writes while there is no primary.
type Writes struct {
	Wait              Duration `yaml:"wait"`                 // at most; 0 to fail at once
	MaxWaiting        int      `yaml:"max_waiting"`          // statements in all
	MaxWaitingPerUser int      `yaml:"max_waiting_per_user"` // 0 for no limit of its own
	Replay            Replay   `yaml:"replay"`
}

// Replay is how transactions that lost their primary are run again on the new
// one, if every answer is the same as the first time.
type Replay struct {
	Enabled  bool     `yaml:"enabled"`
	Size     Size     `yaml:"size"`     // of a transaction's commands
	Time     Duration `yaml:"time"`     // from the loss to the end of the replay
	Attempts int      `yaml:"attempts"` // for one transaction
}

// Health is how servers are probed.
type Health struct {
	Interval  Duration `yaml:"interval"`
	Timeout   Duration `yaml:"timeout"`
	Failures  int      `yaml:"failures"`   // in a row that make a server unhealthy
	SlowStart Duration `yaml:"slow_start"` // in which a returning replica's share grows to the full one
}

// Hints are comments by which an application chooses the server.
type Hints struct {
	Enabled     bool     `yaml:"enabled"`
	DeniedUsers []string `yaml:"denied_users"` // whose hints are ignored
}

// Console is who may ask what with SHOW FARMHAND.
type Console struct {
	// Admins see the sessions of all users; everybody else sees his own.
	Admins []string `yaml:"admins"`
}

// Digests is the statistics on statements.
type Digests struct {
	Max int `yaml:"max"` // different statements; 0 for none
}

// Default returns the configuration that an empty file means.
func Default() Config {
	seconds := func(n int) Duration { return Duration(time.Duration(n) * time.Second) }
	return Config{
		Listen: []Listener{
			{TCP: "127.0.0.1:3306"},
			{Unix: "/run/mysqld/mysqld.sock", Mode: DefaultSocketMode},
		},
		Topology: "/etc/farmhand/topology.json",
		Cluster:  "main",
		Monitor:  Monitor{User: "farmhand", PasswordFile: "/etc/farmhand/monitor.password"},
		TLS: TLS{
			Clients: TLSClients{Mode: TLSPreferred},
			Servers: TLSServers{Mode: TLSPreferred},
		},
		ProxyProtocol: ProxyProtocol{Trusted: []string{}},
		Logins:        Logins{AccountAge: 10 * Duration(time.Millisecond)},
		Limits: Limits{
			Connections:        10_000,
			HandshakeTimeout:   seconds(10),
			PacketSize:         1 << 30,
			ClassifySize:       1 << 20,
			PreparedStatements: 16_382,
		},
		Pool: Pool{
			MaxPerServer:   200,
			Wait:           seconds(10),
			IdlePerUser:    8,
			IdleTimeout:    seconds(60),
			MaxLifetime:    seconds(3600),
			ConnectTimeout: seconds(3),
			Pipelining:     true,
		},
		Reads:        Reads{Primary: PrimaryWhenNeeded, MaxLag: seconds(10), Consistency: Farm, ConsistencyByUser: map[string]Consistency{}, WithoutPrimary: WaitForPrimary, Wait: Duration(100 * time.Millisecond), Pause: Duration(10 * time.Millisecond), Retries: 3},
		Writes:       Writes{Wait: seconds(30), MaxWaiting: 1000, Replay: Replay{Size: 1 << 20, Time: seconds(60), Attempts: 3}},
		Health:       Health{Interval: Duration(500 * time.Millisecond), Timeout: seconds(1), Failures: 3, SlowStart: seconds(10)},
		Hints:        Hints{Enabled: true, DeniedUsers: []string{}},
		Console:      Console{Admins: []string{}},
		Digests:      Digests{Max: 1000},
		Admin:        service.AdminConfig{Address: "127.0.0.1:9104"},
		Log:          service.DefaultLog(),
		DrainTimeout: seconds(30),
	}
}

// Load reads the configuration file at path over the defaults and validates it.
// An error about the content is a [service.ConfigErrors], which says the line
// and column of everything that is wrong.
func Load(path string) (*Config, error) {
	c := Default()
	if err := service.Load(path, &c); err != nil {
		return nil, err
	}
	return &c, nil
}
