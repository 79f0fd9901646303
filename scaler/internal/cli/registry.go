package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"farmhand/internal/pki"
	farmregistry "farmhand/internal/registry"
	"farmhand/internal/service"
	"farmhand/scaler/internal/control"
)

func registry() *cobra.Command {
	c := &cobra.Command{
		Use:   "registry",
		Short: "the farm's shared state: run it, let nodes in, look at it",
		Long: `The registry is what the nodes and the scalers of a farm share: who is there,
who leads, each cluster's epoch, the journal. It is an etcd that the scaler
brings with it. DIR is a control node's directory with its keys; whoever can read
it owns the farm.`,
	}
	c.AddCommand(registryInit(), registryRun(), registryToken(), registryMembers(), registryEvents(), registryExpel(), registryRemove())
	return c
}

// directory is the command's first argument as an absolute path.
func directory(args []string) (control.Dir, error) {
	path, err := filepath.Abs(args[0])
	if err != nil {
		return control.Dir{}, fmt.Errorf("%s: %w", args[0], err)
	}
	return control.Dir{Path: path}, nil
}

func registryInit() *cobra.Command {
	config := control.Default()
	var members []string
	var ports []uint
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "make a farm's authority and the directories of its control nodes",
		Long: `Make a farm's certificate authority, and for each control node a directory with
its keys, certificates and configuration: DIR itself if there is one control
node, DIR/NAME for each if there are several. Then move each directory, as it is
and by a way that nobody else can read, to its machine.`,
		Example: `  scaler registry init /var/lib/farmhand/registry --farm shop
  scaler registry init new --farm shop --member a=10.0.0.1 --member b=10.0.0.2 --member c=10.0.0.3`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&config.Farm, "farm", "farm", "the farm's name")
	c.Flags().StringArrayVar(&members, "member", []string{"scaler-1=127.0.0.1"}, "NAME=IP of a control node; once for each, three for a registry that survives one")
	controlPorts(c, &ports)
	c.RunE = func(c *cobra.Command, args []string) error {
		d, err := directory(args)
		if err != nil {
			return err
		}
		for _, text := range members {
			name, address, ok := strings.Cut(text, "=")
			if !ok {
				return fmt.Errorf("--member %q: expected NAME=IP", text)
			}
			m, err := controlMember(name, address, ports)
			if err != nil {
				return err
			}
			config.Members = append(config.Members, m)
		}
		dirs, err := control.Init(d, config, time.Now())
		if err != nil {
			return err
		}
		for i, made := range dirs {
			if _, err := fmt.Fprintf(c.OutOrStdout(), "%s: control node %s of farm %s; start it there: scaler registry run %s\n",
				made.Path, config.Members[i].Name, config.Farm, made.Path); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// openControl is the control node's directory that the arguments name, and the log that
// its configuration asks for.
func openControl(c *cobra.Command, args []string) (o opened, err error) {
	if o.dir, err = directory(args); err != nil {
		return o, err
	}
	config, err := o.dir.Config()
	if err != nil {
		return o, err
	}
	o.build = service.ReadBuild("scaler")
	o.metrics = service.NewRegistry(o.build)
	o.log, o.level, err = service.NewLogger(c.ErrOrStderr(), config.Log, o.metrics)
	return o, err
}

// opened is a control node that is about to run.
type opened struct {
	dir     control.Dir
	log     *zap.Logger
	level   zap.AtomicLevel
	build   service.Build
	metrics *prometheus.Registry
}

// serve shows the metrics at an address until ctx ends; empty for nowhere.
func (o opened) serve(ctx context.Context, address string) (end func(), err error) {
	admin, err := service.NewAdmin(ctx, service.AdminOptions{
		Config: service.AdminConfig{Address: address}, Build: o.build, Metrics: o.metrics, Level: o.level, Log: o.log,
		Ready: func() []service.Condition { return nil },
	})
	if err != nil || admin == nil {
		return func() {}, err
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := admin.Run(ctx); err != nil && ctx.Err() == nil {
			o.log.Error("metrics are not shown any more", zap.Error(err))
		}
	}()
	return func() {
		stop()
		<-done
	}, nil
}

func registryRun() *cobra.Command {
	return &cobra.Command{
		Use:   "run DIR",
		Short: "run the registry and let nodes join, until SIGTERM or Ctrl-C",
		Long: `Run this control node's registry and the endpoint at which nodes join, in the
foreground. It prints a line beginning "registry ready" once both answer, which
takes a majority of the control nodes. SIGTERM or Ctrl-C ends it; a second one
ends it without waiting.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := openControl(c, args)
			if err != nil {
				return err
			}
			signals := service.WatchSignals(context.Background(), nil)
			defer signals.Close()
			done := make(chan error, 1)
			go func() {
				done <- control.Run(signals.Finish(), o.dir, o.log, func(r control.Running) { _, _ = fmt.Fprintln(c.OutOrStdout(), r) })
			}()
			select {
			case err := <-done:
				return err
			case <-signals.Now().Done():
				// etcd's stop cannot be hurried, but its data is safe at any moment; the
				// process ends with what this returns.
				return fmt.Errorf("%w again: ended without waiting", context.Cause(signals.Now()))
			}
		},
	}
}

func registryToken() *cobra.Command {
	var role, names, address string
	var life time.Duration
	var forControl bool
	var ports []uint
	c := &cobra.Command{
		Use:   "token DIR --name NAME (--role ROLE | --control --address IP)",
		Short: "make a token with which one machine can join, once",
		Long: `Print a token with which one machine joins the farm as a node with the given
role and name:

  scaler registry token DIR --role web --name 'web-*' | ssh web-7 sidecar join - --dir /var/lib/farmhand/node --name web-7

With --control it is for one control node, which joins with scaler join:

  scaler registry token DIR --control --name scaler-2 --address 10.0.0.2

It works once and not after the given time. Whoever has it meanwhile can use it:
pass it on by a way that others do not see.`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&role, "role", "", "what the node is to be, such as web or mysql")
	c.Flags().StringVar(&names, "name", "", "the node's name, or a pattern such as 'web-*' of which it chooses one")
	c.Flags().DurationVar(&life, "for", 15*time.Minute, "how long the token can be used")
	c.Flags().BoolVar(&forControl, "control", false, "for a control node instead of a node")
	c.Flags().StringVar(&address, "address", "", "with --control: the IP address at which the control node will answer")
	controlPorts(c, &ports)
	if err := c.MarkFlagRequired("name"); err != nil {
		panic(err) // the flag was defined above
	}
	c.MarkFlagsOneRequired("role", "control")
	c.MarkFlagsMutuallyExclusive("role", "control")
	c.MarkFlagsRequiredTogether("control", "address")
	c.RunE = func(c *cobra.Command, args []string) error {
		d, err := directory(args)
		if err != nil {
			return err
		}
		if forControl {
			m, err := controlMember(names, address, ports)
			if err != nil {
				return err
			}
			return controlToken(c, d, m, life)
		}
		return d.With(func(client *farmregistry.Client, config control.Config) error {
			token, admission, err := d.NewToken(c.Context(), client, &config, role, names, life)
			if err != nil {
				return err
			}
			text, err := token.Encode()
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(c.OutOrStdout(), text); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.ErrOrStderr(), "for one node %s with the role %s, until %s: sidecar join - --dir DIR\n",
				admission.Names, admission.Role, admission.Expires.Local().Format(time.DateTime))
			return err
		})
	}
	return c
}

func registryExpel() *cobra.Command {
	var reuse bool
	c := &cobra.Command{
		Use:   "expel DIR NAME",
		Short: "put a node out of the farm; its certificate is then good for nothing",
		Long: `Put a node out of the farm: its membership ends and its certificate is good for
nothing from now on. Its name is kept until its last certificate has expired;
--free-name lets another node have it at once, which is right only if the old
node's key is certain to be gone, as the old certificate would then be good for
the new node's keys.`,
		Args: cobra.ExactArgs(2),
	}
	c.Flags().BoolVar(&reuse, "free-name", false, "let another node join by this name at once")
	c.RunE = func(c *cobra.Command, args []string) error {
		d, err := directory(args)
		if err != nil {
			return err
		}
		return d.With(func(client *farmregistry.Client, _ control.Config) error {
			hold := pki.NodeLife
			if reuse {
				hold = 0
			}
			if err := client.Expel(c.Context(), args[1], hold); err != nil {
				return err
			}
			_, err := client.Append(c.Context(), farmregistry.Entry{
				Kind: "node-expelled", Who: operator(), Text: "node " + args[1] + " was expelled",
				Fields: map[string]string{"node": args[1], "name_free": strconv.FormatBool(reuse)},
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is no node of the farm any more\n", args[1])
			return err
		})
	}
	return c
}

// operator is who gives the command, for the journal: the user as the kernel knows it,
// the machine, and who became root by sudo, which root can make up.
func operator() string {
	name := strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if behind := os.Getenv("SUDO_USER"); os.Getuid() == 0 && behind != "" && len(behind) <= 64 {
		name = behind + " as " + name
	}
	if host, err := os.Hostname(); err == nil {
		name += " at " + host
	}
	return "operator " + name
}
