package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/steer"
)

func scale() *cobra.Command {
	c := &cobra.Command{
		Use:   "scale ROLE N|file",
		Short: "have a role be N servers, whatever the farm file and the load say",
		Long: `Have a role be N servers, the primary included, whatever the farm file and the load
say, until "scaler scale ROLE file" gives that back to the file.`,
		Args: cobra.ExactArgs(2),
	}
	a := askFlags(c, false)
	c.RunE = func(c *cobra.Command, args []string) error {
		if n, err := strconv.Atoi(args[1]); args[1] != "file" && (err != nil || n < 1) {
			return fmt.Errorf("%q is not a number of servers, and not \"file\"", args[1])
		}
		what := fmt.Sprintf("%s is to have %s servers", args[0], args[1])
		if args[1] == "file" {
			what = fmt.Sprintf("%s is to have as many servers as the farm file says", args[0])
		}
		return a.do(c, daemon.OpScale, map[string]string{"role": args[0], "servers": args[1]}, what)
	}
	return c
}

func launch() *cobra.Command {
	c := &cobra.Command{
		Use: "launch ROLE", Short: "launch one more server of a role",
		Long: `Launch one more server of a role, which then has that many until "scaler scale ROLE
file" gives that back to the farm file.`,
		Args: cobra.ExactArgs(1),
	}
	a := askFlags(c, false)
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.do(c, daemon.OpLaunch, map[string]string{"role": args[0]}, "launch one more server of "+args[0])
	}
	return c
}

func terminate() *cobra.Command {
	c := &cobra.Command{
		Use: "terminate NAME", Short: "drain a server, shut it down and take it away",
		Long: `Drain a server, shut it down and take it away. The role gets another one in its
place, unless --shrink says that it is to have one less. A primary is not
terminated: scaler switchover first.`,
		Args: cobra.ExactArgs(1),
	}
	a := askFlags(c, true)
	shrink := c.Flags().Bool("shrink", false, "the role is to have one server less")
	c.RunE = func(c *cobra.Command, args []string) error {
		what := "terminate " + args[0]
		if *shrink {
			what += ", and have one server less"
		}
		return a.do(c, daemon.OpTerminate, map[string]string{"name": args[0], "shrink": strconv.FormatBool(*shrink)}, what)
	}
	return c
}

func drain() *cobra.Command {
	c := &cobra.Command{
		Use: "drain NAME", Short: "send a replica no new reads, or a web node no new clients; it stays",
		Args: cobra.ExactArgs(1),
	}
	a := askFlags(c, false)
	undo := c.Flags().Bool("undo", false, "take it into use again")
	c.RunE = func(c *cobra.Command, args []string) error {
		what := "drain " + args[0]
		if *undo {
			what = "take " + args[0] + " into use again"
		}
		return a.do(c, daemon.OpDrain, map[string]string{"name": args[0], "undo": strconv.FormatBool(*undo)}, what)
	}
	return c
}

func switchover() *cobra.Command {
	c := &cobra.Command{
		Use: "switchover", Short: "have another server take the writes, in order and without a loss",
		Long: `Have another server take the writes: new writes wait in the proxies, open
transactions end, the replica gets the last of them and takes over. If it cannot be
done in time everything stays as it was.`,
		Args: cobra.NoArgs,
	}
	a := askFlags(c, true)
	to := c.Flags().String("to", "", "the server that is to take the writes (default: the best replica)")
	force := c.Flags().Bool("force", false, "cut off transactions that do not end in time")
	c.RunE = func(c *cobra.Command, _ []string) error {
		what := "switchover to " + or(*to, "the best replica")
		if *force {
			what += ", cutting off transactions that do not end in time"
		}
		return a.do(c, string(steer.Switchover), map[string]string{"to": *to, "force": strconv.FormatBool(*force)}, what)
	}
	return c
}

func failOver() *cobra.Command {
	c := &cobra.Command{
		Use: "failover", Short: "replace a primary that is lost, now",
		Long: `Replace the primary without its help: it is fenced, and a replica that has all that
was acknowledged takes the writes. Where no replica is known to have all, it is
refused; --allow-loss promotes the best there is, and what only the old primary had is
lost.`,
		Args: cobra.NoArgs,
	}
	a := askFlags(c, true)
	to := c.Flags().String("to", "", "the server that is preferred, if it has all")
	allow := c.Flags().Bool("allow-loss", false, "promote though something that was acknowledged may be lost")
	c.RunE = func(c *cobra.Command, _ []string) error {
		what := "failover to " + or(*to, "the best replica") + ": the primary is killed"
		if *allow {
			what += "; what it has acknowledged and no replica has IS LOST"
		}
		return a.do(c, string(steer.Failover), map[string]string{"to": *to, "allow_loss": strconv.FormatBool(*allow)}, what)
	}
	return c
}

func rotate() *cobra.Command {
	c := &cobra.Command{
		Use: "rotate", Short: "give replication and the monitor new passwords, while everything goes on",
		Long: `Give the farm's own accounts, with which replicas follow and proxies and scalers look
at servers, new passwords. First all servers accept the new ones beside the old ones,
then everybody uses the new ones, then the servers refuse the old ones. A step ends when
every node has said that it has done it: one that is not heard of is waited for, for it
may serve clients. It ends when the scaler that leads has seen to that, also if that is
another one by then. The application's account is not changed: docs/SECURITY.md.`,
		Args: cobra.NoArgs,
	}
	a := askFlags(c, true)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.do(c, daemon.OpRotate, nil, "give replication and the monitor new passwords")
	}
	return c
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func ack() *cobra.Command {
	c := &cobra.Command{
		Use: "ack", Short: "acknowledge the failovers so far: servers that failed may be failed over from again",
		Args: cobra.NoArgs,
	}
	a := askFlags(c, false)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.do(c, string(steer.Ack), nil, "acknowledge the failovers so far")
	}
	return c
}

func adopt() *cobra.Command {
	c := &cobra.Command{
		Use: "adopt NAME", Short: "begin the database cluster with the data of a server",
		Long: `Begin the database cluster with the data that the server has, where the registry
knows nothing of it. The other servers copy that data; what they have is lost.`,
		Args: cobra.ExactArgs(1),
	}
	a := askFlags(c, true)
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.do(c, string(steer.Adopt), map[string]string{"to": args[0]}, "begin the cluster with the data of "+args[0]+"; that of the other servers is thrown away")
	}
	return c
}

func pause() *cobra.Command {
	c := &cobra.Command{
		Use: "pause [WHY]", Short: "begin no failover, no scaling and no repair until scaler resume",
		Args: cobra.MaximumNArgs(1),
	}
	a := askFlags(c, false)
	c.RunE = func(c *cobra.Command, args []string) error {
		text := ""
		if len(args) > 0 {
			text = args[0]
		}
		return a.do(c, daemon.OpPause, map[string]string{"why": text}, "begin nothing until scaler resume")
	}
	return c
}

func resume() *cobra.Command {
	c := &cobra.Command{Use: "resume", Short: "end a pause", Args: cobra.NoArgs}
	a := askFlags(c, false)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.do(c, daemon.OpResume, nil, "go on after a pause")
	}
	return c
}
