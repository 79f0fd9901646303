package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"farmhand/internal/backup"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/objects"
	"farmhand/internal/restore"
)

func restoring() *cobra.Command {
	c := &cobra.Command{
		Use:   "restore",
		Short: "make a server of a backup and the archive, as of any moment",
		Long: `Make a database server of a cluster's full backup and its binlog archive: as of
the newest moment that is stored, a time, or a GTID position. It is a server of its own in
a new directory, for a developer or for a look at what was; no farm is needed for it and
none is touched. A server of the same series must be installed, and of MariaDB
mariadb-backup, too; a MySQL that is unpacked somewhere is named by --program-root.

Credentials for S3 are found as AWS's tools find them. A moment that cannot be reached is
refused, with what is missing and what can be reached.

A cluster that runs is taken back by "scaler restore over", and a new one begins with a
backup if its farm file says so (restore_from).`,
		Example: `  scaler restore --store s3://backups/farm --cluster db --to 2026-11-28T17:04:05Z --into ./yesterday --start
  scaler restore --store /backups --cluster db --dry-run`,
		Args: cobra.NoArgs,
	}
	flags := c.Flags()
	store := flags.String("store", "", "where the backups are: s3://BUCKET/PREFIX?endpoint=URL&region=REGION, or a directory")
	cluster := flags.String("cluster", "", "the cluster's name")
	to := flags.String("to", "latest", "the moment: latest, a time (RFC 3339), or a GTID position")
	id := flags.String("backup", "", "the full backup to begin with (default: the newest that will do)")
	into := flags.String("into", "", "the directory to make")
	identity := flags.String("identity", "", "a file with the age secret keys of encrypted backups")
	root := flags.String("program-root", "", "a directory with an unpacked MySQL and its libraries (default: what is installed)")
	start := flags.Bool("start", false, "run the server until Ctrl-C")
	port := flags.Uint16("port", 0, "the loopback port it listens on (default: a free one)")
	dry := flags.Bool("dry-run", false, "say what would be used, and what can be restored")
	for _, name := range []string{"store", "cluster"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag was defined above
		}
	}
	c.MarkFlagsOneRequired("into", "dry-run")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		target, err := restore.ParseTarget(*to)
		if err != nil {
			return err
		}
		from := restore.Source{Cluster: *cluster}
		config, err := objects.ParseURL(*store)
		if err != nil {
			return err
		}
		if err := there(config); err != nil {
			return err
		}
		if from.Store, err = objects.Open(ctx, config); err != nil {
			return err
		}
		if from.Keys, err = backup.ReadIdentities(*identity); err != nil {
			return err
		}
		plan, err := restore.Find(ctx, from, target, *id)
		if err != nil {
			return err
		}
		out := c.OutOrStdout()
		if err := tellPlan(out, plan, *dry); err != nil || *dry {
			return err
		}
		inst, err := dbserver.Find(ctx, plan.Flavor(), *root)
		if err != nil {
			return err
		}
		return restoreServer(ctx, out, c.ErrOrStderr(), plan, inst, *into, *port, *start)
	}
	c.AddCommand(restoreOver(), restoreConfirm())
	return c
}

// there: a directory that is to be read is not made.
func there(c objects.Config) error {
	if c.Directory == "" {
		return nil
	}
	if _, err := os.Stat(c.Directory); err != nil {
		return fmt.Errorf("the store %s: %w", c.Directory, err)
	}
	return nil
}

func tellPlan(w io.Writer, p *restore.Plan, reach bool) error {
	m := p.Manifest
	_, err := fmt.Fprintf(w, "to %s: full backup %s of %s (%s, GTID %s, %s in the store), and %d pieces of the archive (%s)\n",
		p.Target, m.ID, m.Ended.UTC().Format(time.RFC3339), m.ServerVersion, m.Position, size(m.Stored()), len(p.Segments), size(p.Stored()-m.Stored()))
	if err == nil && reach {
		_, err = fmt.Fprintln(w, p.Reach)
	}
	return err
}

// restoreServer makes a server's directory, and runs the server if that is asked for.
func restoreServer(ctx context.Context, out, progress io.Writer, plan *restore.Plan, inst dbserver.Install, into string, port uint16, start bool) error {
	dir, err := filepath.Abs(into)
	if err != nil {
		return fmt.Errorf("--into %s: %w", into, err)
	}
	if left, err := os.ReadDir(dir); err == nil && len(left) > 0 {
		return fmt.Errorf("--into %s: there is something in it already; name a new directory", dir)
	}
	if port == 0 {
		if port, err = freePort(ctx); err != nil {
			return err
		}
	}
	config := dbserver.Config{
		Dir: dir, Address: netip.MustParseAddr("127.0.0.1"), Port: port, Socket: filepath.Join(dir, clients[inst.Flavor]+".sock"), ServerID: math.MaxUint32 - 2,
	}
	data, err := plan.Restore(ctx, restore.Into{Install: inst, Config: config, Tell: teller(progress)})
	if err == nil {
		err = data.Swap()
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%s holds the data at GTID %s (%s; %d transactions were replayed), after %v\n",
		dir, data.Position, lastOf(data), data.Replayed, data.Took.Round(time.Second)); err != nil {
		return err
	}
	connect := fmt.Sprintf(`%s --no-defaults --socket=%s --user=root --password="$(cat %s)"`, clients[inst.Flavor], config.Socket, filepath.Join(dir, "admin.secret"))
	if !start {
		_, err := fmt.Fprintf(out, "to run it:\n  %s\nto use it:\n  %s\n", dbserver.ByHand(inst, config), connect)
		return err
	}
	s, err := dbserver.Start(ctx, inst, config)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "it runs on %s until Ctrl-C; to use it:\n  %s\n", config.Addr(), connect); err != nil {
		return errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	select {
	case <-ctx.Done():
		return s.Stop(context.WithoutCancel(ctx))
	case <-s.Done():
		return fmt.Errorf("the server ended by itself (%v); %s says why", s.Err(), filepath.Join(dir, "error.log"))
	}
}

// clients are the programs that people use a server with.
var clients = map[farm.Flavor]string{farm.MariaDB: "mariadb", farm.MySQL: "mysql"}

func lastOf(r *restore.Restored) string {
	if r.Time.IsZero() {
		return "as the backup has it"
	}
	return "its last transaction is of " + r.Time.UTC().Format(time.RFC3339)
}

// freePort is a port of the loopback address that nobody uses at the moment.
func freePort(ctx context.Context) (uint16, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return netip.MustParseAddrPort(l.Addr().String()).Port(), l.Close()
}

// teller writes a line for every phase, and for what goes on every five seconds.
func teller(w io.Writer) func(restore.Progress) {
	var phase restore.Phase
	var told time.Time
	return func(p restore.Progress) {
		if p.Phase == phase && time.Since(told) < 5*time.Second {
			return
		}
		phase, told = p.Phase, time.Now()
		line := string(p.Phase)
		if p.Total > 0 {
			line += fmt.Sprintf(": %d%% (%s of %s)", 100*p.Done/p.Total, size(p.Done), size(p.Total))
		}
		if p.Left > 0 {
			line += fmt.Sprintf(", about %v more", p.Left.Round(time.Second))
		}
		_, _ = fmt.Fprintln(w, line) // the restore matters
	}
}
