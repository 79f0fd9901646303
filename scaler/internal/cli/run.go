package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"farmhand/internal/service"
	"farmhand/scaler/internal/control"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	awsprovider "farmhand/scaler/internal/provider/aws"
)

func runDaemon() *cobra.Command {
	var binaries, metrics string
	c := &cobra.Command{
		Use:   "run DIR",
		Short: "run a control node: its registry, and the scaler that leads or waits to",
		Long: `Run this control node in the foreground: the registry, the endpoint at which nodes
join, and the scaler. Of the farm's scalers one leads; the others wait, and the
next takes over within seconds if it goes. What the farm is to be is what scaler
apply has put into the registry.

It prints a line beginning "registry ready" once the registry answers. SIGTERM or
Ctrl-C ends it; the farm's instances go on. DIR is what scaler registry init made.

Under systemd (docs/systemd) it says when it is ready, and pings the watchdog as
long as its main loop goes round.`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&binaries, "programs", "", "the directory of the programs proxy and sidecar, for the local provider (default: where scaler is)")
	c.Flags().StringVar(&metrics, "metrics", "", "host:port where metrics are shown (/metrics, /healthz); not where others can reach it")
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		opened, err := openControl(c, args)
		if err != nil {
			return err
		}
		d, log := opened.dir, opened.log
		if binaries, err = programs(binaries); err != nil {
			return err
		}
		notifier := service.NewNotifier(os.Getenv("NOTIFY_SOCKET"))
		beat, err := beats(notifier, log)
		if err != nil {
			return err
		}
		signals := service.WatchSignals(c.Context(), nil)
		defer signals.Close()
		endMetrics, err := opened.serve(signals.Finish(), metrics)
		if err != nil {
			return err
		}
		defer endMetrics()
		done := make(chan error, 1)
		go func() {
			done <- daemon.Run(signals.Finish(), daemon.Options{
				Dir: d, Log: log, Metrics: opened.metrics, Lease: daemon.DefaultLease, Beat: beat,
				Provide: func(f *farmfile.Farm) (daemon.Provided, error) { return provide(f, d, binaries, log) },
				Ready: func(r control.Running) {
					_, _ = fmt.Fprintln(c.OutOrStdout(), r) // nobody may be reading
					if err := notifier.Ready(strings.SplitN(r.String(), ":", 2)[0]); err != nil {
						log.Warn("systemd not told", zap.Error(err))
					}
				},
				Last: func() error { return notifier.Stopping("stops") },
			})
		}()
		select {
		case err := <-done:
			return err
		case <-signals.Now().Done():
			// etcd's stop cannot be hurried, but its data is safe at any moment, and every
			// step of the scaler can be cut short; the process ends with what this returns.
			return errors.New("received a second signal: ended without waiting")
		}
	}
	return c
}

// beats is what a main loop calls as it goes round.
func beats(n service.Notifier, log *zap.Logger) (func(), error) {
	watchdog, err := service.NewWatchdog(n, os.Getenv)
	if err != nil {
		return nil, err
	}
	return func() {
		if err := watchdog.Beat(); err != nil {
			log.Warn("systemd's watchdog not told", zap.Error(err))
		}
	}, nil
}

// providers are those that there are, by the kind that the farm file names.
var providers = map[farmfile.ProviderKind]func(f *farmfile.Farm, d control.Dir, programs string, log *zap.Logger) (daemon.Provided, error){
	farmfile.LocalKind: provideLocal,
	farmfile.AWSKind:   provideAWS,
}

func provide(f *farmfile.Farm, d control.Dir, programs string, log *zap.Logger) (daemon.Provided, error) {
	make, ok := providers[f.Provider.Kind]
	if !ok {
		return daemon.Provided{}, fmt.Errorf("there is no provider %q", f.Provider.Kind)
	}
	return make(f, d, programs, log)
}

func provideLocal(f *farmfile.Farm, _ control.Dir, programs string, log *zap.Logger) (daemon.Provided, error) {
	p := f.Provider.Parameters.Local
	local, err := provider.NewLocal(provider.Options{Dir: p.Directory, Programs: programs, First: p.FirstAddress.Addr, Launcher: p.Launcher, Log: log})
	if err != nil {
		return daemon.Provided{}, err
	}
	return daemon.Provided{Provider: local, Keep: local.Keep, Passwords: local, Volumes: local.Volumes(), Images: local}, nil
}

func provideAWS(f *farmfile.Farm, d control.Dir, _ string, log *zap.Logger) (daemon.Provided, error) {
	p, _ := f.OnAWS() // it is there
	aws, err := awsprovider.New(context.Background(), awsprovider.Options{
		Farm: f.Name, AWS: p, Log: log,
		Files: func(s provider.Spec) (awsprovider.Files, error) { return awsprovider.NodeFiles(s, p) },
	})
	if err != nil {
		return daemon.Provided{}, err
	}
	return daemon.Provided{Provider: aws, Keep: aws.Keep, Passwords: provider.KeptPasswords(d.Path), Volumes: aws.Volumes(), Images: aws, Balancer: aws, Fixed: true}, nil
}
