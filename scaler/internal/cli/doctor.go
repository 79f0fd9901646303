package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"farmhand/internal/cluster"
	"farmhand/internal/objects"
	farmregistry "farmhand/internal/registry"
	"farmhand/scaler/internal/control"
	"farmhand/scaler/internal/daemon"
	"farmhand/scaler/internal/exposure"
	"farmhand/scaler/internal/provider"
	awsprovider "farmhand/scaler/internal/provider/aws"
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
		Long: `Look for what is wrong with a farm: its control node, the registry, who leads, each
server, and the store for backups, in which an object is written and removed again; on
this machine also the files with its keys and passwords, its certificates and where it
listens. Nothing else is changed. The exit status is 1 if something is wrong.`,
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
	root := d.Path
	if *w.local != "" {
		root = filepath.Dir(root)
	}
	list = append(list, private(root, time.Now())...)
	list = append(list, disk(d.Path))
	var seen *daemon.View
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
		list = append(list, onAWS(ctx, client)...)
		if err == nil {
			seen = v
			list = append(list, servers(v)...)
		}
		list = append(list, backupStore(ctx, client)...)
		return nil
	})
	if err != nil {
		list = append(list, found("registry", err, "scaler up or scaler run starts it"))
	}
	return append(list, listening(d, seen))
}

// backupStore tries what backups need of their store, as this machine reaches it.
func backupStore(ctx context.Context, client *farmregistry.Client) []finding {
	f, err := appliedFarm(ctx, client)
	if err != nil || f.Backups.Store == "" {
		return nil // what is wrong with the farm file was said
	}
	store, err := openStore(ctx, f.Backups.Store)
	if err != nil {
		return []finding{found("the store for backups", err, "see backups.store, and the credentials, as AWS's own tools find them")}
	}
	var list []finding
	for _, c := range objects.Probe(ctx, store, f.Database()+"/doctor/") {
		what := "backups: " + c.What
		if c.Note != "" {
			what += ": " + c.Note
		}
		list = append(list, found(what, c.Err, "docs/BACKUPS.md says what a store must do, and which rights are needed"))
	}
	return list
}

// onAWS looks at what a farm on AWS needs there; nothing for another farm.
func onAWS(ctx context.Context, client *farmregistry.Client) []finding {
	farm, err := appliedFarm(ctx, client)
	if err != nil {
		return nil // that no file was applied is said already
	}
	parameters, ok := farm.OnAWS()
	if !ok {
		return nil
	}
	aws, err := awsprovider.New(ctx, awsprovider.Options{Farm: farm.Name, AWS: parameters})
	if err != nil {
		return []finding{found("AWS", err, "docs/AWS.md")}
	}
	var images []string
	for _, role := range farm.Roles {
		images = append(images, role.Image)
	}
	slices.Sort(images)
	var list []finding
	for _, f := range aws.Examine(ctx, slices.Compact(images)) {
		list = append(list, found(f.What, f.Err, f.Cure))
	}
	return list
}

// private looks at the files of the farm's on this machine.
func private(root string, now time.Time) []finding {
	files, err := exposure.Look(root, now)
	if err != nil {
		return []finding{found("files below "+root, err, "run it as who owns them")}
	}
	return []finding{
		{fmt.Sprintf("%d files with keys and passwords are private", files.Secrets), strings.Join(files.Open, "\n"), "chmod 600; who could read them may have: see docs/SECURITY.md"},
		{
			fmt.Sprintf("%d certificates are valid and were renewed in time", files.Certificates), strings.Join(files.Overdue, "\n"),
			"start the control node and the nodes: they renew their own; the authority's needs a new farm",
		},
	}
}

// listening looks at where the farm's processes on this machine listen. Only the
// registry and the endpoint for joining are meant to be reached from elsewhere; v may
// be nil.
func listening(d control.Dir, v *daemon.View) finding {
	config, err := d.Config()
	if err != nil {
		return found("where the farm listens", err, "")
	}
	var meant []string
	for _, m := range config.Members {
		meant = append(meant, m.Listens()...)
	}
	holder, err := exposure.Holder(d.Lock())
	pids := []int{holder}
	if v != nil {
		for _, n := range v.Nodes {
			if n.PID == 0 {
				continue // its processes are on another machine
			}
			pids = append(pids, n.PID)
			if n.Database != nil {
				pids = append(pids, n.Database.PID)
			}
			if n.Report != nil {
				pids = append(pids, n.Report.PID)
			}
		}
	}
	open, sockets := []string{}, 0
	for _, pid := range pids {
		if pid == 0 {
			continue
		}
		list, failed := exposure.Listening(pid)
		if failed != nil && !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
		for _, s := range list {
			sockets++
			if !s.Local() && !slices.Contains(meant, s.Address.String()) {
				open = append(open, s.String())
			}
		}
	}
	if len(open) > 0 {
		err = errors.Join(err, fmt.Errorf("other machines can reach %s", strings.Join(open, "\n")))
	}
	return found(fmt.Sprintf("%d sockets of the farm on this machine: loopback, or the registry's", sockets), err, "give it a loopback address, or have a firewall let the farm's network in only")
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
		case n.Report != nil && !n.Report.Well:
			wrong = strings.TrimSpace("it is " + n.Report.State + " " + n.Report.Detail)
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
		if r.Unbalanced != "" {
			add("the target groups of "+name, r.Unbalanced, "docs/AWS.md has the rights that a control node needs")
		}
		for _, t := range r.Targets {
			wrong := ""
			if !t.Well && !t.Draining && !t.Starting {
				wrong = strings.TrimSpace("it is " + t.State + " " + t.Why)
			}
			add(t.Instance+" in target group "+t.Group, wrong, "the health check's path and port; docs/AWS.md")
		}
	}
	return list
}
