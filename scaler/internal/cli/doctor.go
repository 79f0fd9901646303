package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"farmhand/internal/cluster"
	"farmhand/internal/pki"
	farmregistry "farmhand/internal/registry"
	"farmhand/scaler/internal/control"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/provider"
)

// finding is what doctor found: fine, or what is wrong and what to do.
type finding struct {
	what  string
	wrong string // empty: fine
	cure  string
}

func doctor() *cobra.Command {
	c := &cobra.Command{
		Use: "doctor", Short: "look for what is wrong with a farm and say what to do",
		Long: `Look for what is wrong with a farm: its control node, its certificates, the registry,
who leads, and each server. Nothing is changed. The exit status is 1 if something is
wrong.`,
		Args: cobra.NoArgs,
	}
	w := farmFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		d, err := w.dir()
		if err != nil {
			return err
		}
		findings := examine(c.Context(), d, w)
		wrong := 0
		for _, f := range findings {
			if f.wrong != "" {
				wrong++
			}
			if err := f.print(c.OutOrStdout()); err != nil {
				return err
			}
		}
		if wrong > 0 {
			return fmt.Errorf("%d of %d things are wrong", wrong, len(findings))
		}
		return nil
	}
	return c
}

func (f finding) print(w io.Writer) error {
	text := "ok     " + f.what
	if f.wrong != "" {
		text = "WRONG  " + f.what + ": " + strings.ReplaceAll(f.wrong, "\n", "\n         ")
		if f.cure != "" {
			text += "\n       do: " + f.cure
		}
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// found is a finding of an error; fine if there is none.
func found(what string, err error, cure string) finding {
	if err == nil {
		return finding{what: what}
	}
	return finding{what, err.Error(), cure}
}

func examine(ctx context.Context, d control.Dir, w where) []finding {
	_, err := d.Config()
	list := []finding{found("control node's directory "+d.Path, err, "scaler up, or scaler registry init, makes one")}
	if err != nil {
		return list
	}
	list = append(list, certificates(d)...)
	list = append(list, disk(d.Path))
	err = w.with(func(client *farmregistry.Client) error {
		list = append(list, found("registry answers", client.Ping(ctx), "scaler up or scaler run starts it; of three control nodes two must run"))
		if list[len(list)-1].wrong != "" {
			return nil
		}
		list = append(list, found("registry's access control", client.RequireSecured(ctx), ""))
		leads, err := client.Leader(ctx)
		if err == nil && leads.Leader == "" {
			err = errors.New("nobody leads, and nothing is decided")
		}
		list = append(list, found("a scaler leads", err, "see the scaler's log; a farm file must have been applied (scaler apply)"))
		v, err := daemon.Viewed(ctx, client)
		if err == nil && v == nil {
			err = errors.New("no scaler has ever led this farm")
		}
		if err == nil && time.Since(v.Time) > outdated {
			err = fmt.Errorf("it has shown nothing for %v", time.Since(v.Time).Round(time.Second))
		}
		list = append(list, found("the scaler's loop goes round", err, "see the scaler's log"))
		if err == nil {
			list = append(list, servers(v)...)
		}
		return nil
	})
	if err != nil {
		list = append(list, found("registry", err, "scaler up or scaler run starts it"))
	}
	return list
}

// certificates looks at those of the control node.
func certificates(d control.Dir) []finding {
	var list []finding
	for _, name := range []string{"ca.crt", "server.crt", "control.crt"} {
		cert, err := pki.ReadCertificate(filepath.Join(d.Path, name))
		if err == nil {
			switch now := time.Now(); {
			case now.After(cert.NotAfter):
				err = fmt.Errorf("it has expired at %s", cert.NotAfter.Local().Format(time.DateTime))
			case now.Before(cert.NotBefore):
				err = fmt.Errorf("it is not valid before %s: is this machine's clock right?", cert.NotBefore.Local().Format(time.DateTime))
			}
		}
		list = append(list, found("certificate "+name, err, "start the control node: it renews its own; the authority's needs a new farm"))
	}
	return list
}

// leastFree is the part of a disk that must be free.
const leastFree = 0.05

func disk(path string) finding {
	var s unix.Statfs_t
	err := unix.Statfs(path, &s)
	if err == nil && float64(s.Bavail) < leastFree*float64(s.Blocks) {
		err = fmt.Errorf("%d MiB of %d are free", s.Bavail*uint64(s.Bsize)>>20, s.Blocks*uint64(s.Bsize)>>20)
	}
	return found("room on the disk of "+path, err, "a registry or a database server without room stops")
}

// servers looks at what the leader sees.
func servers(v *daemon.View) []finding {
	var list []finding
	add := func(what, wrong, cure string) { list = append(list, finding{what, wrong, cure}) }
	if v.Cluster != "" {
		wrong, cure := "", ""
		switch a := v.Assignment; {
		case a == nil || a.Primary == "":
			wrong, cure = "there is none: "+strings.Join(v.Reasons, "; "), "scaler why; scaler failover, if it does not come by itself"
		case v.Probe.Failed > 0:
			wrong, cure = fmt.Sprintf("%s did not answer %d probes: %s", a.Primary, v.Probe.Failed, v.Probe.Why), "scaler why"
		}
		add("the primary", wrong, cure)
		if a := v.Assignment; a != nil {
			wrong = ""
			if !a.SemiSync && len(a.Servers) > 1 {
				wrong = "no replica acknowledges commits: the loss of the primary would lose the last ones"
			}
			add("commits are acknowledged by a replica", wrong, "see why no replica follows, below")
		}
	}
	if v.Paused != "" {
		add("the farm is not paused", "it is: "+v.Paused, "scaler resume")
	}
	for _, n := range v.Nodes {
		wrong, cure := "", "scaler logs "+n.Name+" and "+n.Log
		switch r := n.Database; {
		case n.State != provider.Running:
			wrong = "it is " + string(n.State)
		case n.Age == nil:
			wrong = "it has never reported, or not since this scaler leads"
		case *n.Age > 3:
			wrong = fmt.Sprintf("it has not reported for %.0f s", *n.Age)
		case !n.Member:
			wrong = "its lease has lapsed"
		case n.Web != nil && n.Web.PID == 0:
			wrong = strings.TrimSpace("its proxy does not run " + n.Web.Detail)
		case r == nil:
		case r.Errant != "":
			wrong, cure = "it has transactions that its primary has not: "+r.Errant, "it is copied anew by itself; what it has is kept in its quarantine directory"
		case r.Missing != "":
			wrong, cure = "it lacks transactions that its position says it has: "+r.Missing, "it is copied anew by itself"
		case !r.Answers || r.Process != cluster.Running:
			wrong = strings.TrimSpace(fmt.Sprintf("its server is %s and answers: %v. %s", r.Process, r.Answers, r.Detail))
		case r.Replication != nil && r.Replication.ReceiverError+r.Replication.ApplierError != "":
			wrong = strings.TrimSpace(r.Replication.ReceiverError + " " + r.Replication.ApplierError)
		case time.Since(r.Time) > 10*time.Second || time.Until(r.Time) > 5*time.Second:
			wrong, cure = fmt.Sprintf("its clock differs by %v", time.Since(r.Time).Round(time.Second)), "synchronise its clock"
		}
		add("server "+n.Name, wrong, cure)
	}
	for name, r := range v.Roles {
		if r.Failure != "" {
			add("launching "+name, r.Failure, "scaler why")
		}
	}
	return list
}
