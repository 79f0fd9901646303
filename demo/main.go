// Demo runs unmodified WordPress on a farm of this machine: on the one that
// answers at --database, or else on one that it starts as "make run" does. It
// prints where to look and how to log in, and ends on Ctrl-C.
//
// The farm's application account must own the schema app_wordpress, as the one
// of "scaler up" does.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"farmhand/internal/child"
	"farmhand/internal/wordpress"
)

// schema is one that the account "app" of a local farm owns.
const schema = "app_wordpress"

// usual is where "make run" has its farm answer.
const usual = "127.0.0.1:3306"

// stopLimit is how long the farm may take to stop before it is killed.
const stopLimit = 2 * time.Minute

var owner = wordpress.Owner{Title: "WordPress on Farmhand", User: "admin", Password: "farmhand", Email: "admin@example.test"}

type options struct {
	listen, database, user, password, dir string
	farm                                  []string // arguments for the farm that is started
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8080", "where the site takes requests")
	flag.StringVar(&o.database, "database", usual, "where the farm answers, or is started")
	flag.StringVar(&o.user, "user", "app", "the farm's application account")
	flag.StringVar(&o.password, "password", "app", "its password")
	flag.StringVar(&o.dir, "dir", ".farm/wordpress", "where the site's files are kept")
	flag.Usage = usage
	flag.Parse()
	o.farm = flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func usage() {
	_, _ = fmt.Fprintln(flag.CommandLine.Output(), "demo-wordpress [FLAG…] [-- FLAG…]: WordPress on a farm; what comes after -- are flags of scaler up, for a farm that is started")
	flag.PrintDefaults()
}

func run(ctx context.Context, o options) (err error) {
	listen, err := netip.ParseAddrPort(o.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	db, err := open(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var lost <-chan struct{} // never, for a farm of somebody else
	if reason := db.PingContext(ctx); reason != nil {
		fmt.Printf("no farm answers at %s (%v): starting one\n", o.database, reason)
		farm, err := startFarm(ctx, o)
		if err != nil {
			return err
		}
		lost = farm.Done()
		defer func() { err = errors.Join(err, stopFarm(farm)) }()
	}
	if _, err := db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS "+schema+" CHARACTER SET utf8mb4"); err != nil {
		return fmt.Errorf("make the schema %s at %s: %w", schema, o.database, err)
	}
	site, err := wordpress.Start(ctx, wordpress.Options{
		Dir: dir, Listen: listen,
		DB: wordpress.Database{Host: o.database, Schema: schema, User: o.user, Password: o.password},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Stop()) }()
	fresh, err := site.Install(ctx, owner)
	if err != nil {
		return fmt.Errorf("install WordPress: %w", err)
	}
	fmt.Print(welcome(site, o, fresh))
	select {
	case <-ctx.Done():
		fmt.Println("\nstopping")
		return nil
	case <-site.Done():
		return fmt.Errorf("the web server or PHP has ended; see %s", dir)
	case <-lost:
		return errors.New("the farm has ended")
	}
}

func open(o options) (*sql.DB, error) {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.Timeout = "tcp", o.database, o.user, o.password, 5*time.Second
	c.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("--database: %w", err)
	}
	return sql.OpenDB(connector), nil
}

// startFarm runs the farm of "make run" and returns when it is ready. What it
// says goes to standard output.
func startFarm(ctx context.Context, o options) (*child.Child, error) {
	place, err := netip.ParseAddrPort(o.database)
	if err != nil {
		return nil, fmt.Errorf("--database %q is not where a farm could be started: %w", o.database, err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	arguments := o.farm
	if o.database != usual { // a farm file that somebody has written knows by itself
		arguments = append([]string{"--host", place.Addr().String(), "--port", fmt.Sprint(place.Port())}, arguments...)
	}
	cmd := exec.Command("scripts/run", arguments...)
	cmd.Stdout, cmd.Stderr = in, os.Stderr
	farm, err := child.Start(cmd, syscall.SIGTERM)
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, fmt.Errorf("start a farm: %w", err)
	}
	ready := make(chan struct{})
	go tell(out, ready)
	select {
	case <-ready:
		return farm, nil
	case <-farm.Done():
		return nil, fmt.Errorf("the farm did not start: %w", farm.Ended())
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), stopFarm(farm))
	}
}

// tell copies the farm's lines until its end and closes ready at the one by
// which it says that it answers.
func tell(out io.ReadCloser, ready chan struct{}) {
	defer func() { _ = out.Close() }() // read to its end
	lines := bufio.NewScanner(out)
	for told := false; lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "farm ready") && !told {
			told = true
			close(ready)
		}
		fmt.Println("  " + lines.Text())
	}
}

func stopFarm(farm *child.Child) error {
	farm.Signal(syscall.SIGTERM)
	select {
	case <-farm.Done():
		return nil
	case <-time.After(stopLimit):
		farm.Signal(syscall.SIGKILL)
		return fmt.Errorf("the farm did not stop within %v and was killed", stopLimit)
	}
}

func welcome(site *wordpress.Site, o options, fresh bool) string {
	what := "WordPress is ready, as an earlier run left it"
	if fresh {
		what = "WordPress is installed and ready"
	}
	host, port, _ := strings.Cut(o.database, ":")
	if port = " -P " + port; o.database == usual {
		port = ""
	}
	return fmt.Sprintf(`
%s: %s/

  log in         %[2]s/wp-admin/   as %[3]s, password %[4]s
  who served it  bin/scaler status --local .farm
  its tables     mariadb -h %[8]s%[9]s -u %[5]s -p%[6]s %[7]s
  stop           Ctrl-C (the posts stay for the next run)
`, what, site.URL, owner.User, owner.Password, o.user, o.password, schema, host, port)
}
