package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"farmhand/internal/enrol"
	farmregistry "farmhand/internal/registry"
	"farmhand/internal/service"
	"farmhand/scaler/internal/control"
)

func controlPorts(c *cobra.Command, ports *[]uint) {
	c.Flags().UintSliceVar(ports, "ports", []uint{2379, 2380, 2381}, "a control node's ports: for clients, for the other members, for nodes that join")
}

func controlMember(name, address string, ports []uint) (control.Member, error) {
	if len(ports) != 3 {
		return control.Member{}, fmt.Errorf("--ports has %d numbers; expected 3", len(ports))
	}
	for _, port := range ports {
		if port == 0 || port > 65535 {
			return control.Member{}, fmt.Errorf("--ports %d is not a port", port)
		}
	}
	return control.Member{
		Name: name, Address: address,
		ClientPort: uint16(ports[0]), PeerPort: uint16(ports[1]), JoinPort: uint16(ports[2]),
	}, nil
}

// controlToken prints a token for the control node m.
func controlToken(c *cobra.Command, d control.Dir, m control.Member, life time.Duration) error {
	return d.With(func(client *farmregistry.Client, config control.Config) error {
		token, expires, err := d.NewScalerToken(c.Context(), client, &config, m, life)
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
		_, err = fmt.Fprintf(c.ErrOrStderr(), "for the control node %s at %s, until %s: scaler join - --dir DIR\nwho has it until then can become the owner of the farm\n",
			m.Name, m.Address, expires.Local().Format(time.DateTime))
		return err
	})
}

func joinControl() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "join TOKEN|-|@FILE --dir DIR",
		Short: "make this machine a further control node of a farm",
		Long: `Make this machine a control node of a farm that has one: exchange a token of
"scaler registry token --control" for certificates, the farm's configuration and
its authority's key, and keep them in DIR. scaler run DIR then adds it to the
registry's members, gets it a vote once it has caught up, and waits to lead.

Every user of the machine sees the arguments of a program: give "-" to read the
token from standard input, or @FILE to read it from a file. The farm is told the
token only after it has shown the certificate that the token names.`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&dir, "dir", "", "the control node's directory, which only its owner may enter")
	if err := c.MarkFlagRequired("dir"); err != nil {
		panic(err) // the flag was defined above
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		text, err := tokenText(args[0], c.InOrStdin())
		if err != nil {
			return err
		}
		token, err := enrol.ParseScalerToken(text)
		if err != nil {
			return err
		}
		d, err := directory([]string{dir})
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		m, err := control.Join(ctx, token, d)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "joined as control node %s at %s; start it: scaler run %s\n", m.Name, m.Address, d.Path)
		return err
	}
	return c
}

// maxTokenText is more than a token has, in bytes.
const maxTokenText = 8 << 10

// tokenText is the token that an argument means. An error has nothing of it.
func tokenText(arg string, in io.Reader) (string, error) {
	switch path, isFile := strings.CutPrefix(arg, "@"); {
	case isFile:
		absolute, err := filepath.Abs(path)
		if err != nil {
			return "", err
		}
		return service.ReadSecret(absolute)
	case arg == "-":
		data, err := io.ReadAll(io.LimitReader(in, maxTokenText))
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		return string(data), nil
	}
	return arg, nil
}

func registryRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove DIR NAME",
		Short: "take a control node away, such as one that is lost for good",
		Long: `Take the control node NAME out of the registry's members; if it runs, it ends. DIR
is another control node's directory. To replace one that was lost: remove it, make
a token with "registry token --control", and join with that.

A registry that would be left without a majority refuses it. The keys that the node
has stay good: it can sign for the farm. One that was stolen, not lost, means a new
farm authority.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := directory(args)
			if err != nil {
				return err
			}
			return d.With(func(client *farmregistry.Client, _ control.Config) error {
				if err := control.Remove(c.Context(), client, args[1]); err != nil {
					return err
				}
				if _, err := client.Append(c.Context(), farmregistry.Entry{
					Kind: "control-node-removed", Who: operator(), Text: "control node " + args[1] + " was removed",
					Fields: map[string]string{"scaler": args[1]},
				}); err != nil {
					return err
				}
				_, err := fmt.Fprintf(c.OutOrStdout(), "%s is no control node of the farm any more\n", args[1])
				return err
			})
		},
	}
}

// controlShown is a control node as commands show it.
type controlShown struct {
	Name  string    `json:"name"`
	At    string    `json:"at"`    // where the registry answers
	State string    `json:"state"` // leads, follows, joining or silent
	Since time.Time `json:"since,omitzero"`
}

// controlNodes asks each of the control nodes how it is.
func controlNodes(ctx context.Context, client *farmregistry.Client) ([]controlShown, error) {
	all, err := client.Scalers(ctx)
	if err != nil {
		return nil, err
	}
	nodes := make([]controlShown, len(all))
	var asked sync.WaitGroup
	for i, s := range all {
		nodes[i] = controlShown{Name: s.Name, At: s.Client, State: "joining", Since: s.Joined}
		if s.Joined.IsZero() {
			continue
		}
		asked.Go(func() {
			health, err := client.HealthAt(ctx, s.Client)
			switch {
			case err != nil:
				nodes[i].State = "silent" // the others have answered, so that is a finding
			case health.Leads:
				nodes[i].State = "leads"
			default:
				nodes[i].State = "follows"
			}
		})
	}
	asked.Wait()
	return nodes, nil
}

// asMembers shows control nodes among the members.
func asMembers(nodes []controlShown) []farmregistry.Member {
	members := make([]farmregistry.Member, len(nodes))
	for i, n := range nodes {
		members[i] = farmregistry.Member{Name: n.Name, Role: "control", Address: n.At, Since: n.Since, Attributes: map[string]string{"state": n.State}}
	}
	return members
}

func controlTable(w io.Writer, nodes []controlShown) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	controlRows(nodes, func(columns ...string) {
		_, _ = fmt.Fprintln(t, strings.Join(columns, "\t")) // Flush says what went wrong
	})
	return t.Flush()
}

// controlRows are the lines of a table of control nodes. What etcd's members have
// elected is not the scaler that leads.
func controlRows(nodes []controlShown, row func(columns ...string)) {
	if len(nodes) == 0 {
		return // somebody else's registry
	}
	row()
	row("CONTROL NODE", "ADDRESS", "REGISTRY", "SINCE")
	for _, n := range nodes {
		since := "-"
		if !n.Since.IsZero() {
			since = n.Since.Local().Format(time.DateTime)
		}
		row(n.Name, n.At, n.State, since)
	}
}
