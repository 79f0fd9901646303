// Package cli is the scaler's command line: it reads flags, calls what does
// the work and prints for people. It decides nothing.
package cli

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"farmhand/internal/manpage"
	farmregistry "farmhand/internal/registry"
	"farmhand/internal/service"
	"farmhand/scaler/internal/control"
	"farmhand/scaler/internal/localfarm"
)

// New returns the scaler's command.
func New() *cobra.Command {
	root := &cobra.Command{
		Use:   "scaler",
		Short: "runs and looks after farms",
		Long: `The operator's tool for farms, and the daemon that looks after one.

up runs a whole farm on this machine, in the foreground: the control node, the
database servers and the web node, as real processes on loopback addresses of
their own. run is the daemon of a control node. Of several, one leads: it watches
the farm, launches and terminates instances, changes the primary, and notes in the
journal what it decides and why.

The other commands look at a farm, or ask the scaler that leads for something. A
farm is named by --local DIR (what up has) or --control DIR (a control node's
directory). What takes time is followed until it has ended; Ctrl-C leaves it
running.`,
		Version:       service.ReadBuild("scaler").String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run a farm:"}, &cobra.Group{ID: "look", Title: "Look at it:"},
		&cobra.Group{ID: "ask", Title: "Change it:"}, &cobra.Group{ID: "file", Title: "The farm file and the registry:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
		}
		root.AddCommand(commands...)
	}
	add("run", up(), down(), runDaemon(), joinControl(), restoring())
	add("look", status(), ui(), plan(), why(), events(), logs(), listOperations(), waitOperation(), doctor())
	add("ask", apply(), scale(), launch(), terminate(), drain(), rotate(), switchover(), failOver(), ack(), adopt(), backups(), volumes(), release(), rebundle(), images(), cronCommand(), pause(), resume(), cancel())
	add("file", initialise(), check(), schema(), simulation(), registry())
	root.AddCommand(manpage.Command(root, "farmhand-scaler"))
	return root
}

// where is which farm a command is about.
type where struct{ local, control *string }

// whereFlags adds --local and --control.
func whereFlags(c *cobra.Command) where {
	return where{
		c.Flags().String("local", "", "the directory of a farm on this machine, as of scaler up"),
		c.Flags().String("control", "", "a control node's directory"),
	}
}

// farmFlags adds them, and one must be given.
func farmFlags(c *cobra.Command) where {
	w := whereFlags(c)
	c.MarkFlagsOneRequired("local", "control")
	c.MarkFlagsMutuallyExclusive("local", "control")
	return w
}

// dir is the control node's directory.
func (w where) dir() (control.Dir, error) {
	if *w.control != "" {
		path, err := filepath.Abs(*w.control)
		if err != nil {
			return control.Dir{}, fmt.Errorf("--control %s: %w", *w.control, err)
		}
		return control.Dir{Path: path}, nil
	}
	path, err := filepath.Abs(*w.local)
	if err != nil {
		return control.Dir{}, fmt.Errorf("--local %s: %w", *w.local, err)
	}
	return localfarm.Dir{Path: path}.Control(), nil
}

// args are the flags that name the farm, for a person to copy.
func (w where) args() string {
	if *w.control != "" {
		return "--control " + *w.control
	}
	return "--local " + *w.local
}

// with runs do with a client of the farm's registry.
func (w where) with(do func(*farmregistry.Client) error) error {
	d, err := w.dir()
	if err != nil {
		return err
	}
	if _, err := d.Config(); err != nil {
		if *w.local != "" {
			return fmt.Errorf("%s: %w: it has never been started (scaler up --local %s)", *w.local, localfarm.ErrNotRunning, *w.local)
		}
		return err
	}
	err = d.With(func(client *farmregistry.Client, _ control.Config) error { return do(client) })
	if errors.Is(err, farmregistry.ErrUnavailable) && *w.local != "" {
		if _, held := (localfarm.Dir{Path: filepath.Dir(d.Path)}).Holder(); errors.Is(held, localfarm.ErrNotRunning) {
			return fmt.Errorf("%s: no scaler runs there, and without one nobody decides anything; scaler up --local %[1]s starts it: %w", *w.local, err)
		}
	}
	return err
}

// localFlag adds --local DIR and returns a function that gives the directory.
func localFlag(c *cobra.Command) func() (localfarm.Dir, error) {
	dir := c.Flags().String("local", "", "the directory of a farm on this machine")
	if err := c.MarkFlagRequired("local"); err != nil {
		panic(err) // the flag was defined in the line above
	}
	return func() (localfarm.Dir, error) {
		path, err := filepath.Abs(*dir)
		if err != nil {
			return localfarm.Dir{}, fmt.Errorf("--local %s: %w", *dir, err)
		}
		return localfarm.Dir{Path: path}, nil
	}
}
