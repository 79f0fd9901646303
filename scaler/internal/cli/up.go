package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"farmhand/internal/atomicfile"
	"farmhand/internal/service"
	"farmhand/scaler/internal/control"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/localfarm"
	"farmhand/scaler/internal/provider"
)

// defaultSocket is where Debian's PHP looks for the database at "localhost".
const defaultSocket = "/run/mysqld/mysqld.sock"

// shape is what the farm is to be that up makes a farm file for.
type shape struct {
	host, first      string
	port, serverPort uint16
	socket, admin    string
	replicas         int
	// The backup that a new farm begins with.
	restoreFrom, restoreCluster, restoreTo string
}

// shapeFlags are the flags of a shape.
var shapeFlags = []string{"host", "port", "socket", "admin", "replicas", "addresses-from", "server-port", "restore-from", "restore-cluster", "restore-to"}

func up() *cobra.Command {
	var s shape
	var o localfarm.Options
	var file, controlAddress string
	var controlPorts []uint
	c := &cobra.Command{
		Use:   "up --local DIR",
		Short: "run a farm on this machine until Ctrl-C",
		Long: `Run a farm on this machine in the foreground: the control node, the database
servers, each on a loopback address of its own, and the web node with the proxy. It
prints a line beginning "farm ready" when the farm answers, and stops everything
in order on Ctrl-C, on SIGTERM (a second one: at once) and when its terminal is
closed. The data stays in DIR for the next run.

What the farm is to be says --file, or else DIR/farm.yaml, which is made from the
other flags if it is not there. While the farm runs, scaler apply changes it.

If this process is killed, the farm goes on: start it again to take it over, or stop
it by scaler down.`,
		Args: cobra.NoArgs,
	}
	dir := localFlag(c)
	flags := c.Flags()
	flags.StringVar(&file, "file", "", "the farm file (default: DIR/farm.yaml)")
	flags.Uint16Var(&s.port, "port", 3306, "the port that the proxy listens on")
	flags.StringVar(&s.host, "host", "127.0.0.1", "the address that the proxy listens on")
	flags.StringVar(&s.socket, "socket", defaultSocket, `the unix socket that the proxy listens on, "" for none`)
	flags.StringVar(&s.admin, "admin", "127.0.0.1:9104", `where the proxy shows its metrics, "" for nowhere`)
	flags.IntVar(&s.replicas, "replicas", 2, "the number of replicas, 0 to 20")
	flags.StringVar(&s.first, "addresses-from", "127.0.10.1", "the first instance's address; the others get those after it")
	flags.Uint16Var(&s.serverPort, "server-port", 3306, "the port of every database server")
	flags.StringVar(&s.restoreFrom, "restore-from", "", "the store with the backup that a new farm begins with: s3://BUCKET/PREFIX?endpoint=URL&region=REGION, or /path")
	flags.StringVar(&s.restoreCluster, "restore-cluster", "db", "the name of the cluster that it is of")
	flags.StringVar(&s.restoreTo, "restore-to", "latest", "the moment: latest, a time (RFC 3339), or a GTID position")
	flags.StringVar(&controlAddress, "control-address", "", "the control node's address, for a farm that is new (default: the last of the instances' network)")
	flags.UintSliceVar(&controlPorts, "control-ports", []uint{2379, 2380, 2381}, "its ports, as of scaler registry init")
	flags.StringVar(&o.Programs, "programs", "", "the directory of the programs proxy and sidecar (default: where scaler is)")
	flags.DurationVar(&o.StartLimit, "start-limit", 3*time.Minute, "how long the farm may take until it answers")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if o.Dir, err = dir(); err != nil {
			return err
		}
		if o.Programs, err = programs(o.Programs); err != nil {
			return err
		}
		if o.File, o.Farm, err = s.file(o.Dir, file, flags); err != nil {
			return err
		}
		if o.Control, err = controlNode(o.Farm, controlAddress, controlPorts); err != nil {
			return err
		}
		o.Progress = c.OutOrStdout()
		o.Ready = func(r localfarm.Running) { welcome(o.Progress, o.Dir, r, o.Farm) }
		return inForeground(o)
	}
	return c
}

// programs is the directory of the farm's programs.
func programs(named string) (string, error) {
	if named != "" {
		return filepath.Abs(named)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the programs: %w (name their directory with --programs)", err)
	}
	return filepath.Dir(self), nil
}

// inForeground runs the farm until a signal or the end of the terminal.
func inForeground(o localfarm.Options) (err error) {
	if err := os.MkdirAll(o.Dir.Path, 0o755); err != nil {
		return fmt.Errorf("make the farm's directory: %w", err)
	}
	logs, err := os.OpenFile(o.Dir.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("the scaler's log: %w", err)
	}
	defer func() { err = errors.Join(err, logs.Close()) }()
	if o.Log, _, err = service.NewLogger(logs, service.DefaultLog(), service.NewRegistry(service.ReadBuild("scaler"))); err != nil {
		return err
	}
	// A reader of our output that went away ("| head") does not end the farm;
	// a terminal that was closed does.
	signal.Ignore(syscall.SIGPIPE)
	closed, hangUp := context.WithCancelCause(context.Background())
	signals := service.WatchSignals(context.Background(), func() { hangUp(&service.SignalError{Signal: syscall.SIGHUP}) })
	defer signals.Close()
	finish, stop := context.WithCancelCause(signals.Finish())
	defer stop(nil)
	defer context.AfterFunc(closed, func() { stop(context.Cause(closed)) })()
	if err := localfarm.Run(finish, signals.Now(), o); err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.Progress, "farm stopped; its data is in %s\n", o.Dir.Path)
	return err
}

// generated is the first line of a farm file that up may make anew.
const generated = "# Made by scaler up from its flags. Remove this line if you change the file."

// file is what the farm is to be: what the file named says, or the one in the farm's
// directory, which is made if it is not there.
func (s *shape) file(dir localfarm.Dir, named string, flags *pflag.FlagSet) (daemon.File, *farmfile.Farm, error) {
	shaped := slices.ContainsFunc(shapeFlags, flags.Changed)
	path := named
	if named == "" {
		path = dir.FarmFile()
		switch old, err := os.ReadFile(path); {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return daemon.File{}, nil, err
		case err == nil && !strings.HasPrefix(string(old), generated):
			if shaped {
				return daemon.File{}, nil, fmt.Errorf("%s says what the farm is to be: change it there and leave out %s", path, strings.Join(given(flags), ", "))
			}
		case err == nil && !shaped: // as it was
		default:
			text, err := s.text()
			if err != nil {
				return daemon.File{}, nil, err
			}
			if err := os.MkdirAll(dir.Path, 0o755); err != nil {
				return daemon.File{}, nil, fmt.Errorf("make the farm's directory: %w", err)
			}
			if err := atomicfile.Write(path, text, 0o644, nil); err != nil {
				return daemon.File{}, nil, fmt.Errorf("write the farm file: %w", err)
			}
		}
	} else if shaped {
		return daemon.File{}, nil, fmt.Errorf("--file says what the farm is to be: leave out %s", strings.Join(given(flags), ", "))
	}
	file, farm, err := readFarmFile(path, dir.Path)
	if err == nil && farm.Provider.Kind != farmfile.LocalKind {
		err = fmt.Errorf("scaler up runs a whole farm on this machine, and the provider of %s is %s: scaler registry init, scaler run and scaler apply are for that", path, farm.Provider.Kind)
	}
	return file, farm, err
}

func given(flags *pflag.FlagSet) []string {
	var list []string
	for _, name := range shapeFlags {
		if flags.Changed(name) {
			list = append(list, "--"+name)
		}
	}
	return list
}

// readFarmFile reads the farm file that is to be applied. local is the directory of
// a farm on this machine; empty for what the file says.
func readFarmFile(path, local string) (daemon.File, *farmfile.Farm, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return daemon.File{}, nil, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return daemon.File{}, nil, fmt.Errorf("there is no %s (scaler init %[1]s writes one)", path)
	}
	if err != nil {
		return daemon.File{}, nil, err
	}
	f := daemon.File{Path: path, Text: string(text), Directory: local, By: operator(), At: time.Now().UTC().Truncate(time.Second)}
	farm, err := f.Farm()
	if err != nil {
		return f, nil, fmt.Errorf("%s is not good:\n%w", path, err)
	}
	return f, farm, nil
}

// text is the farm file of the shape.
func (s *shape) text() ([]byte, error) {
	if _, err := place("--host", s.host, s.port); err != nil {
		return nil, err
	}
	first, err := place("--addresses-from", s.first, s.serverPort)
	if err != nil {
		return nil, err
	}
	if s.replicas < 0 || s.replicas > 20 {
		return nil, fmt.Errorf("--replicas %d is not between 0 and 20", s.replicas)
	}
	for at, n := first.Addr(), 0; n <= s.replicas; at, n = at.Next(), n+1 {
		if !at.IsLoopback() {
			return nil, fmt.Errorf("server %d of %d would be at %v, which is not a loopback address", n+1, s.replicas+1, at)
		}
	}
	restored := ""
	if s.restoreFrom != "" {
		restored = fmt.Sprintf(", restore_from: {store: %q, cluster: %q, to: %q}", s.restoreFrom, s.restoreCluster, s.restoreTo)
	}
	return fmt.Appendf(nil, generated+`
name: farm
provider:
  kind: local
  parameters: {directory: ., first_address: %q}
roles:
  db:
    kind: mysql
    count: %d
    parameters: {port: %d%s}
  web:
    kind: web
    count: 1
    parameters:
      database: db
      proxy: {tcp: %q, unix: %q, admin: %q}
`, s.first, s.replicas+1, s.serverPort, restored, netip.AddrPortFrom(netip.MustParseAddr(s.host), s.port).String(), s.socket, s.admin), nil
}

func place(flag, host string, port uint16) (netip.AddrPort, error) {
	address, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s %q is not an IP address", flag, host)
	}
	if port == 0 {
		return netip.AddrPort{}, fmt.Errorf("%s: port 0 is none", flag)
	}
	return netip.AddrPortFrom(address, port), nil
}

// controlNode is where a new farm's control node is.
func controlNode(f *farmfile.Farm, address string, ports []uint) (control.Member, error) {
	m := control.Member{Name: "scaler-1", Address: address}
	if address == "" {
		first := f.Provider.Parameters.Local.FirstAddress.Addr
		if !first.Is4() {
			return m, fmt.Errorf("--control-address is needed where the instances are at %v", first)
		}
		last := first.As4()
		last[3] = 254
		m.Address = netip.AddrFrom4(last).String()
	}
	if len(ports) != 3 {
		return m, fmt.Errorf("--control-ports has %d numbers; expected 3", len(ports))
	}
	for i, to := range []*uint16{&m.ClientPort, &m.PeerPort, &m.JoinPort} {
		if ports[i] == 0 || ports[i] > 65535 {
			return m, fmt.Errorf("--control-ports %d is not a port", ports[i])
		}
		*to = uint16(ports[i])
	}
	return m, nil
}

// welcome prints the line that programs wait for and what a person can try.
func welcome(w io.Writer, dir localfarm.Dir, r localfarm.Running, f *farmfile.Farm) {
	user := provider.AppUser
	var text strings.Builder
	places := strings.TrimPrefix(r.Listen+" and "+r.Socket, " and ")
	replicas := "replicas"
	if r.Replicas == 1 {
		replicas = "replica"
	}
	fmt.Fprintf(&text, "farm ready: 1 primary and %d %s behind %s\n\n", r.Replicas, replicas, strings.TrimSuffix(places, " and "))
	if address, err := netip.ParseAddrPort(r.Listen); err == nil {
		port := ""
		if address.Port() != 3306 {
			port = fmt.Sprintf(" -P %d", address.Port())
		}
		fmt.Fprintf(&text, "  connect        mariadb -h %v%s -u %s -p%s %s\n", address.Addr(), port, user, user, user)
	}
	text.WriteString("  who answers?   SELECT @@server_id;   a replica's, another one each time\n" +
		"                 BEGIN; SELECT @@server_id; ROLLBACK;   the primary's\n" +
		"  the proxy      SHOW FARMHAND STATUS;  SHOW FARMHAND SERVERS;  SHOW FARMHAND ROUTE FOR 'SELECT 1';\n")
	if r.Socket != "" {
		setting := ""
		if r.Socket != defaultSocket {
			setting = "-d mysqli.default_socket=" + r.Socket + " "
		}
		fmt.Fprintf(&text, "  PHP            php %[2]s-r 'print_r(mysqli_connect(\"localhost\", \"%[1]s\", \"%[1]s\", \"%[1]s\")->query(\"SELECT @@server_id\")->fetch_row());'\n", user, setting)
	}
	for _, role := range f.Roles {
		if web := role.Parameters.Web; web != nil && web.Proxy.Admin != "" {
			fmt.Fprintf(&text, "  metrics        http://%s/metrics\n", web.Proxy.Admin)
		}
	}
	self, local := self(), fromHere(dir.Path)
	fmt.Fprintf(&text, "  the farm       %[1]s status --local %[2]s\n"+
		"  break it       kill -9 the primary's pid from that table; another server takes the writes\n"+
		"  change it      %[1]s switchover --local %[2]s;  %[1]s scale db %[3]d --local %[2]s;  %[1]s --help\n"+
		"  stop           Ctrl-C here; the data stays\n\n", self, local, r.Replicas+2)
	_, _ = io.WriteString(w, text.String())
}

// self is the scaler's own program, as a person would call it from here.
func self() string {
	path, err := os.Executable()
	if err != nil {
		return "scaler"
	}
	return fromHere(path)
}

// fromHere is a path as a person would write it here.
func fromHere(path string) string {
	if cwd, err := os.Getwd(); err == nil {
		if short, err := filepath.Rel(cwd, path); err == nil && len(short) < len(path) {
			return short
		}
	}
	return path
}
