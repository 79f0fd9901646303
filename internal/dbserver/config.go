package dbserver

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"farmhand/internal/farm"
)

// Config says how one server is to run. The zero value of an optional field
// means the default that its comment names.
type Config struct {
	// Dir is the server's directory; everything of it lives below: data/, tmp/,
	// error.log, process.json, admin.secret.
	Dir string
	// Address is the IP address that the server listens on.
	Address netip.Addr
	// Port is the TCP port, 1 to 65535.
	Port uint16
	// Socket is the absolute path of the unix socket, at most 107 bytes long.
	Socket string
	// ServerID is the server's replication id, not 0, unique in its farm.
	ServerID uint32
	// BufferPool is the InnoDB buffer pool's size in bytes; default 64 MiB.
	BufferPool int64
	// RedoLog is the redo log's capacity in bytes; default 64 MiB. It must stay
	// the same over a MariaDB data directory's life or the server rewrites it.
	RedoLog int64
	// ReadOnly starts the server refusing writes of everyone but
	// administrators: what a replica, and a server of unknown role, must do.
	ReadOnly bool
	// ExtraArgs are added at the end of the server's command line and win over
	// what is generated.
	ExtraArgs []string
	// Credential is the account that the server runs as; nil means our own.
	Credential *syscall.Credential
	// ParentDeath is the signal that the kernel sends the server when this
	// process dies; default SIGTERM, a clean shutdown.
	ParentDeath syscall.Signal
	// Outlives lets the server run on when this process dies; a later one finds it
	// by Adopt.
	Outlives bool
	// StartLimit bounds the time until the server answers; default 2 minutes
	// (crash recovery counts).
	StartLimit time.Duration
	// StopLimit bounds a clean stop; after it the server is killed; default 1
	// minute.
	StopLimit time.Duration
}

func (c Config) withDefaults() Config {
	if c.BufferPool == 0 {
		c.BufferPool = 64 << 20
	}
	if c.RedoLog == 0 {
		c.RedoLog = 64 << 20
	}
	if c.ParentDeath == 0 {
		c.ParentDeath = syscall.SIGTERM
	}
	if c.StartLimit == 0 {
		c.StartLimit = 2 * time.Minute
	}
	if c.StopLimit == 0 {
		c.StopLimit = time.Minute
	}
	return c
}

// sunPathMax is the longest socket path that sockaddr_un holds, less its
// closing NUL; servers truncate a longer one silently or refuse to start.
const sunPathMax = 107

func (c Config) validate() error {
	switch {
	case !filepath.IsAbs(c.Dir):
		return fmt.Errorf("server directory %q is not an absolute path", c.Dir)
	case !c.Address.IsValid():
		return fmt.Errorf("server in %s has no address", c.Dir)
	case c.Port == 0:
		return fmt.Errorf("server in %s has no port", c.Dir)
	case !filepath.IsAbs(c.Socket):
		return fmt.Errorf("socket %q is not an absolute path", c.Socket)
	case len(c.Socket) > sunPathMax:
		return fmt.Errorf("socket path %s is %d bytes long; the kernel takes at most %d", c.Socket, len(c.Socket), sunPathMax)
	case c.ServerID == 0:
		return fmt.Errorf("server in %s has no server id", c.Dir)
	}
	return nil
}

func (c Config) dataDir() string    { return filepath.Join(c.Dir, "data") }
func (c Config) tmpDir() string     { return filepath.Join(c.Dir, "tmp") }
func (c Config) errorLog() string   { return filepath.Join(c.Dir, "error.log") }
func (c Config) pidFile() string    { return filepath.Join(c.Dir, "process.json") }
func (c Config) secretFile() string { return filepath.Join(c.Dir, "admin.secret") }

// Addr is host:port of the server.
func (c Config) Addr() string {
	return net.JoinHostPort(c.Address.String(), strconv.Itoa(int(c.Port)))
}

// arguments is the server's whole command line after the program: everything
// is said there, so that no option file of the machine changes what runs.
func arguments(inst Install, c Config) []string {
	args := []string{"--no-defaults"} // must be the first
	args = append(args, inst.base...)
	args = append(args,
		"--datadir="+c.dataDir(),
		"--tmpdir="+c.tmpDir(),
		"--log-error="+c.errorLog(),
		"--pid-file="+filepath.Join(c.Dir, "server.pid"),
		"--socket="+c.Socket,
		"--bind-address="+c.Address.String(),
		"--port="+strconv.Itoa(int(c.Port)),
		"--server-id="+strconv.FormatUint(uint64(c.ServerID), 10),
		"--report-host="+c.Address.String(),
		"--report-port="+strconv.Itoa(int(c.Port)),
		"--skip-name-resolve",
		"--log-bin=binlog",
		"--relay-log=relay",
		"--relay-log-recovery=ON",
		"--sync-binlog=1",
		"--innodb-flush-log-at-trx-commit=1",
		"--innodb-buffer-pool-size="+strconv.FormatInt(c.BufferPool, 10),
		"--max-connections=500",
		"--character-set-server=utf8mb4",
		"--read-only="+onOff(c.ReadOnly),
	)
	switch inst.Flavor {
	case farm.MariaDB:
		args = append(args,
			"--binlog-format=ROW",
			"--log-slave-updates=ON",
			"--gtid-strict-mode=ON",
			"--innodb-log-file-size="+strconv.FormatInt(c.RedoLog, 10),
			// A follower starts following when it is told whom, not by what an
			// earlier run left in the data directory.
			"--skip-slave-start=ON",
		)
	case farm.MySQL:
		args = append(args,
			"--gtid-mode=ON",
			"--enforce-gtid-consistency=ON",
			"--innodb-redo-log-capacity="+strconv.FormatInt(c.RedoLog, 10),
			"--mysqlx=OFF",
			// The default names a directory of the system package.
			"--secure-file-priv="+c.tmpDir(),
			"--super-read-only="+onOff(c.ReadOnly),
			"--skip-replica-start=ON",
			"--plugin-load-add=semisync_source.so",
			"--plugin-load-add=semisync_replica.so",
		)
	}
	args = append(args, asRoot(c)...)
	return append(args, c.ExtraArgs...)
}

func onOff(on bool) string {
	if on {
		return "ON"
	}
	return "OFF"
}
