package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/manpage"
	"farmhand/internal/report"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/hook"
	"farmhand/sidecar/internal/member"
	"farmhand/sidecar/internal/render"
	"farmhand/sidecar/internal/role"
)

func main() {
	if err := command(os.Stdout, os.Stderr).Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "sidecar:", err)
		os.Exit(1)
	}
}

const long = `The agent of a farm's node.

It runs the role that its configuration names, in the foreground, until SIGTERM
or Ctrl-C (a second one: at once).

Role "mysql": it makes the data directory when there is none, starts the database
server on it, makes it the primary or a follower of the primary that the
configuration names, starts it again when it ends, and stops it cleanly. With
mysql.cluster it is the farm's: what the server is to do stands in the cluster's
assignment in the registry, and the server goes on running if the sidecar is killed
(docs/DATABASE-NODES.md).

Role "web": from the membership, which is in a file that it follows, in DNS or in
the farm's registry, it
writes the proxy's topology file and, from templates, files of other programs; it
keeps the proxy running; and it has the hooks run for what changed.

Role "base": it writes files from templates, keeps programs running and sees whether
the node is well, as its configuration says, and has the hooks run for what changed
(docs/ROLES.md).

In any role it runs hooks: the operator's programs in hooks.d/EVENT/, and a
webhook, when something happens to a host of the farm. "sidecar event" tells it of
an event, "sidecar events" shows what became of them. docs/HOOKS.md says what runs
when.

On standard output it writes one line of JSON at every change of the node's state
and one every second while it runs; logs go to standard error.

"sidecar join" makes the machine a node of a farm that has a registry. With the
section "farm" in its configuration, "sidecar run" is a member of it: it joins by
itself if a token is there, tells the others that it is there and how it is, and
takes what it has to know from them (docs/REGISTRY.md). "sidecar member" does
nothing but be a member.`

func command(out, logs io.Writer) *cobra.Command {
	build := service.ReadBuild("sidecar")
	root := &cobra.Command{
		Use: "sidecar", Short: "the agent of a farm's node", Long: long, Version: build.String(),
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(
		join(os.Stdin, out), memberCommand(build, out, logs),
		&cobra.Command{
			Use: "run CONFIG.yaml", Short: "run the node's role until SIGTERM or Ctrl-C", Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return run(args[0], build, out, logs) },
		},
		&cobra.Command{
			Use: "check CONFIG.yaml", Short: "say what is wrong with a configuration file and with the hooks and templates that it names", Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				if err := check(args[0]); err != nil {
					return err
				}
				_, err := fmt.Fprintln(out, args[0]+": fine")
				return err
			},
		},
		eventCommand(out, logs),
		eventsCommand(out, logs),
		workCommand(build, out, logs), restCommand(), shareCommand(build, logs),
		templateCommand(out),
	)
	root.AddCommand(manpage.Command(root, "farmhand-sidecar"))
	return root
}

// check reads the configuration at path, and the hooks, secrets and templates that
// it names, as far as they are the operator's.
func check(path string) error {
	c, err := config.Load(path)
	if err != nil {
		return err
	}
	var problems service.Problems
	if c.Hooks.Directory != "" {
		for _, err := range hook.Check(c.Hooks.Directory) {
			problems.Add("hooks.directory", "%v", err)
		}
	}
	secret := func(path, file string) {
		if _, err := service.ReadSecret(file); err != nil {
			problems.Add(path, "%v", err)
		}
	}
	for i, file := range c.Hooks.SecretFiles {
		secret(fmt.Sprintf("hooks.secret_files[%d]", i), file)
	}
	if w := c.Hooks.Webhook; w.URL != "" && w.SecretFile != "" {
		secret("hooks.webhook.secret_file", w.SecretFile)
	}
	if f := c.Frame(); f != nil {
		for i, t := range f.Templates {
			if _, err := render.Parse(t.Template); err != nil {
				problems.Add(fmt.Sprintf("%s.templates[%d].template", c.Role, i), "%v", err)
			}
		}
	}
	if h := c.Web.HTTP; c.Role == "web" && h.Listen != "" {
		for key, file := range map[string]string{"nginx_template": h.NginxTemplate, "php_fpm_template": h.PHPFPMTemplate} {
			if file == "" {
				continue
			}
			if _, err := render.Parse(file); err != nil {
				problems.Add("web.http."+key, "%v", err)
			}
		}
		if m := c.Web.Mail; m.Relay != "" && m.PasswordFile != "" {
			secret("web.mail.password_file", m.PasswordFile)
		}
	}
	return service.Locate(path, problems)
}

func run(path string, build service.Build, out, logs io.Writer) error {
	c, err := config.Load(path)
	if err != nil {
		return err
	}
	log, _, err := service.NewLogger(logs, c.Log, service.NewRegistry(build))
	if err != nil {
		return err
	}
	log = log.With(zap.String("node", c.Name))
	signals := service.WatchSignals(context.Background(), nil)
	defer signals.Close()

	// Who launched us may be gone while the server is still to be stopped: then
	// a report is an error, not the end.
	signal.Ignore(syscall.SIGPIPE)
	tell, err := underSystemd(func(r report.Report) error { return report.Write(out, r) }, log)
	if err != nil {
		return err
	}
	tools := role.Tools{
		Log:    log,
		Report: tell,
		Event:  func(farm.Event) error { return nil }, // nobody wants to know
		Output: logs,
	}
	return inFarm(signals.Finish(), c, log, func(finish context.Context, m *member.Member) error {
		return withNotices(c, m, finish, log, func() error { return runRole(c, tools, m, finish, signals.Now(), log) })
	})
}

// runRole runs the configuration's role, and the hooks beside it.
func runRole(c config.Config, tools role.Tools, m *member.Member, finish, now context.Context, log *zap.Logger) error {
	// The journal of a node with a membership tells of the farm even where no hook does anything.
	if !c.Hooks.Wanted() && c.Frame() == nil {
		return withDepartures(c, m, nil, finish, log, func() error {
			return withPasswords(c, m, finish, log, func() error { return hold(c, withFarm(tools, m), finish, now) })
		})
	}
	runner, err := newRunner(c, log)
	if err != nil {
		return err
	}
	tools.Event = runner.Put
	finish, stop := context.WithCancel(finish)
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(finish, now) }()
	err = withDepartures(c, m, runner, finish, log, func() error {
		return withPasswords(c, m, finish, log, func() error { return hold(c, withFarm(tools, m), finish, now) })
	})
	stop()
	return errors.Join(err, <-ended, runner.Close())
}

// hold runs the configuration's role until finish ends.
func hold(c config.Config, tools role.Tools, finish, now context.Context) error {
	if err := findVolume(c, tools.Event); err != nil {
		return err
	}
	held, err := role.Kinds[c.Role](c, tools)
	if err != nil {
		return err
	}
	return held.Run(finish, now)
}
