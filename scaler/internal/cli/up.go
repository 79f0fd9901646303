package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"farmhand/internal/service"
	"farmhand/scaler/internal/localfarm"
)

// defaultSocket is where Debian's PHP looks for the database at "localhost".
const defaultSocket = "/run/mysqld/mysqld.sock"

func up() *cobra.Command {
	var o localfarm.Options
	var host, first, programs string
	var port, serverPort uint16
	c := &cobra.Command{
		Use:   "up --local DIR",
		Short: "run a farm on this machine until Ctrl-C",
		Long: `Run a farm on this machine in the foreground: a primary and its replicas, each
on a loopback address of its own, and the proxy. It prints a line beginning
"farm ready" when the farm answers, starts what crashes again, and stops
everything in order on Ctrl-C, on SIGTERM (a second one: at once) and when its
terminal is closed. The data stays in DIR for the next run.`,
		Args: cobra.NoArgs,
	}
	dir := localFlag(c)
	flags := c.Flags()
	flags.Uint16Var(&port, "port", 3306, "the port that the proxy listens on")
	flags.StringVar(&host, "host", "127.0.0.1", "the address that the proxy listens on")
	flags.StringVar(&o.Socket, "socket", defaultSocket, `the unix socket that the proxy listens on, "" for none`)
	flags.StringVar(&o.Admin, "admin", "127.0.0.1:9104", `where the proxy shows its metrics, "" for nowhere`)
	flags.IntVar(&o.Replicas, "replicas", 2, "the number of replicas, 0 to 20")
	flags.StringVar(&first, "addresses-from", "127.0.10.1", "the first server's address; the others get those after it")
	flags.Uint16Var(&serverPort, "server-port", 3306, "the port of every server")
	flags.StringVar(&programs, "programs", "", "the directory of the programs proxy and sidecar (default: where scaler is)")
	flags.DurationVar(&o.StartLimit, "start-limit", 3*time.Minute, "how long the farm may take until it answers")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var err error
		if o.Dir, err = dir(); err != nil {
			return err
		}
		if o.Listen, err = place("--host", host, port); err != nil {
			return err
		}
		if o.First, err = place("--addresses-from", first, serverPort); err != nil {
			return err
		}
		if o.Replicas < 0 || o.Replicas > 20 {
			return fmt.Errorf("--replicas %d is not between 0 and 20", o.Replicas)
		}
		if o.Programs = programs; programs == "" {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find the programs: %w (name their directory with --programs)", err)
			}
			o.Programs = filepath.Dir(self)
		}
		o.Progress = c.OutOrStdout()
		// A reader of our output that went away ("| head") does not end the farm;
		// a terminal that was closed does.
		signal.Ignore(syscall.SIGPIPE)
		closed, hangUp := context.WithCancelCause(context.Background())
		signals := service.WatchSignals(context.Background(), func() { hangUp(&service.SignalError{Signal: syscall.SIGHUP}) })
		defer signals.Close()
		finish, stop := context.WithCancelCause(signals.Finish())
		defer stop(nil)
		defer context.AfterFunc(closed, func() { stop(context.Cause(closed)) })()
		if err := localfarm.Run(finish, signals.Now(), o, func() { welcome(o.Progress, o) }); err != nil {
			return err
		}
		_, err = fmt.Fprintf(o.Progress, "farm stopped; its data is in %s\n", o.Dir)
		return err
	}
	return c
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

// welcome prints the line that programs wait for and what a person can try.
func welcome(w io.Writer, o localfarm.Options) {
	client := fmt.Sprintf("mariadb -h %v -P %d -u %s -p%s %s", o.Listen.Addr(), o.Listen.Port(), localfarm.AppUser, localfarm.AppUser, localfarm.AppUser)
	if o.Listen.Port() == 3306 {
		client = fmt.Sprintf("mariadb -h %v -u %s -p%s %s", o.Listen.Addr(), localfarm.AppUser, localfarm.AppUser, localfarm.AppUser)
	}
	text := fmt.Sprintf("farm ready: 1 primary and %d replicas behind %v", o.Replicas, o.Listen)
	if o.Socket != "" {
		text += " and " + o.Socket
	}
	text += "\n\n" +
		"  connect        " + client + "\n" +
		"  who answers?   SELECT @@server_id;   a replica's, another one each time\n" +
		"                 BEGIN; SELECT @@server_id; ROLLBACK;   the primary's\n" +
		"  the proxy      SHOW FARMHAND STATUS;  SHOW FARMHAND SERVERS;  SHOW FARMHAND ROUTE FOR 'SELECT 1';\n"
	if o.Socket != "" {
		setting := ""
		if o.Socket != defaultSocket {
			setting = "-d mysqli.default_socket=" + o.Socket + " "
		}
		text += fmt.Sprintf("  PHP            php %[2]s-r 'print_r(mysqli_connect(\"localhost\", \"%[1]s\", \"%[1]s\", \"%[1]s\")->query(\"SELECT @@server_id\")->fetch_row());'\n", localfarm.AppUser, setting)
	}
	if o.Admin != "" {
		text += "  metrics        http://" + o.Admin + "/metrics\n"
	}
	self := "scaler"
	if path, err := os.Executable(); err == nil {
		self = path
		if cwd, err := os.Getwd(); err == nil {
			if short, err := filepath.Rel(cwd, path); err == nil && len(short) < len(path) {
				self = short
			}
		}
	}
	text += fmt.Sprintf("  the servers    %s status --local %s\n", self, o.Dir) +
		"  break it       kill -9 a replica's pid from that table; it comes back by itself\n" +
		"  stop           Ctrl-C here; the data stays\n\n"
	_, _ = io.WriteString(w, text)
}
