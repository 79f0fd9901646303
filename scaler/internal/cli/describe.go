package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"

	"farmhand/scaler/internal/farmfile"
)

// describe prints for people what a farm is to be.
func describe(w io.Writer, f *farmfile.Farm) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(columns ...string) {
		_, _ = fmt.Fprintln(t, strings.TrimRight(strings.Join(columns, "\t"), "\t")) // Flush says what went wrong
	}
	names := slices.Sorted(maps.Keys(f.Roles))
	total := farmfile.Count{}
	for _, r := range f.Roles {
		total.Min, total.Max = total.Min+r.Count.Min, total.Max+r.Count.Max
	}
	row(fmt.Sprintf("farm %s: %v servers, launched by the provider %s", f.Name, total, f.Provider.Kind))
	row()
	row("ROLE", "KIND", "SERVERS", "IMAGE", "SIZE", "STORAGE", "")
	for _, name := range names {
		r := f.Roles[name]
		storage := "-"
		if r.Storage.Size > 0 {
			storage = r.Storage.Size.String()
			switch r.Storage.Kind {
			case farmfile.VolumeStorage:
				storage += " volume"
			case farmfile.ArrayStorage:
				storage += " " + string(r.Storage.Layout)
			}
		}
		row(name, string(r.Kind), r.Count.String(), r.Image, r.Size, storage, parameters(r.Parameters))
	}
	describeScaling(row, f, names)
	describeHooks(row, f, names)
	row()
	row("POLICY")
	row("failover", failover(f))
	row("maintenance", windows(f))
	row("backups", backupPolicy(f))
	return t.Flush()
}

func parameters(p farmfile.Parameters) string {
	if m := p.MySQL; m != nil {
		durability := string(m.Durability)
		if m.Durability == farmfile.Available {
			durability += fmt.Sprintf(" after %v", m.AvailableAfter)
		}
		return fmt.Sprintf("%s on port %d, buffer pool %v, %s", m.Flavor, m.Port, m.BufferPool, durability)
	}
	switch {
	case p.LB != nil:
		return fmt.Sprintf("haproxy on port %d, for %s", p.LB.Port, p.LB.Backend) + frame(p.Frame())
	case p.Memcached != nil:
		return fmt.Sprintf("memcached on port %d, %v", p.Memcached.Port, p.Memcached.Memory) + frame(p.Frame())
	case p.Web == nil:
		return strings.TrimPrefix(frame(p.Frame()), ", ")
	}
	listen := strings.TrimPrefix(p.Web.Proxy.TCP+" "+p.Web.Proxy.Unix, " ")
	text := fmt.Sprintf("proxy for %s on %s, %s reads", p.Web.Database, strings.Join(strings.Fields(listen), " and "), p.Web.Proxy.Consistency)
	if h := p.Web.HTTP; h.Port > 0 {
		text += fmt.Sprintf(", nginx on port %d for %s", h.Port, h.DocumentRoot)
	}
	return text + frame(p.Frame())
}

// frame is what a role says that kinds have in common; each part with a comma before it.
func frame(f *farmfile.Frame) string {
	var text string
	for _, part := range []struct {
		n    int
		what string
	}{{len(f.Templates), "template"}, {len(f.Programs), "program"}, {len(f.Health), "health check"}} {
		switch part.n {
		case 0:
		case 1:
			text += ", 1 " + part.what
		default:
			text += fmt.Sprintf(", %d %ss", part.n, part.what)
		}
	}
	return text
}

// describeScaling prints nothing of a farm that does not scale.
func describeScaling(row func(...string), f *farmfile.Farm, names []string) {
	head := heading(row, "ROLE", "SCALES BY", "OUT ABOVE", "IN BELOW", "OVER", "OUT", "IN")
	for _, name := range names {
		for _, m := range f.Roles[name].Scaling {
			head()
			out, in := m.ScaleOut.String(), m.ScaleIn.String()
			if m.Kind == farmfile.QueueMetric {
				out = fmt.Sprintf("%d messages a server", m.PerServer)
			}
			row(name, m.Name(), out, in, m.Window.String(),
				fmt.Sprintf("+%d, then %v", m.OutStep, m.OutCooldown), fmt.Sprintf("-%d, then %v", m.InStep, m.InCooldown))
		}
	}
	head = heading(row, "ROLE", "AT LEAST", "FROM")
	for _, name := range names {
		for _, s := range f.Roles[name].Schedule {
			head()
			row(name, strconv.Itoa(s.AtLeast), fmt.Sprintf("%v (%v)", s, f.TimeZone))
		}
	}
}

// heading returns a function that prints the head of a table when it is called
// first.
func heading(row func(...string), columns ...string) func() {
	return sync.OnceFunc(func() {
		row()
		row(columns...)
	})
}

// describeHooks prints nothing of a farm that has none.
func describeHooks(row func(...string), f *farmfile.Farm, names []string) {
	head := heading(row, "ROLE", "HOOKS IN", "WITHIN", "WAITED FOR")
	for _, name := range names {
		h := f.Roles[name].Hooks
		if h.Directory == "" {
			continue
		}
		head()
		var waited []string
		for _, event := range h.Waited() {
			text := string(event)
			if limit := h.Of(event).TimeLimit; limit != h.TimeLimit {
				text += fmt.Sprintf(" (%v)", limit)
			}
			waited = append(waited, text)
		}
		row(name, h.Directory, h.TimeLimit.String(), strings.Join(waited, ", "))
	}
}

func failover(f *farmfile.Farm) string {
	v := f.Policies.Failover
	role, ok := f.Roles[v.Role]
	switch {
	case !ok:
		return "none: the farm has no database"
	case role.Count.Max == 1:
		return fmt.Sprintf("none: %s has no replica", v.Role)
	}
	text := fmt.Sprintf("%s, for %s: suspect after %d failed probes every %v, if %d or more replicas answer, within %v",
		v.Mode, v.Role, v.Failures, v.Interval, v.MinReplicas, v.Deadline)
	if v.Mode == farmfile.Manual {
		text = fmt.Sprintf("manual, for %s: if %d or more replicas answer, within %v", v.Role, v.MinReplicas, v.Deadline)
	}
	if v.Quiet > 0 {
		text += fmt.Sprintf(", then none for %v", v.Quiet)
	}
	return text
}

func windows(f *farmfile.Farm) string {
	var list []string
	for _, w := range f.Policies.Maintenance.Windows {
		list = append(list, w.String())
	}
	if len(list) == 0 {
		return "at any time"
	}
	return strings.Join(list, "; ") + " (" + f.TimeZone.String() + ")"
}

// backupPolicy is what the file says of backups, in a line.
func backupPolicy(f *farmfile.Farm) string {
	b := f.Backups
	if b.Store == "" {
		return "none: backups.store is empty"
	}
	text := "in " + b.Store + ": a full one "
	switch {
	case b.Schedule.Never():
		text += "when asked"
	case strings.Contains(b.Schedule.String(), " "):
		text += fmt.Sprintf("at %q (%v)", b.Schedule, f.TimeZone)
	default:
		text += "every " + b.Schedule.String()
	}
	text += fmt.Sprintf(", the binlog every %v", b.Archive.Every)
	if len(b.EncryptTo) > 0 {
		text += ", encrypted"
	}
	if !b.Drills.Schedule.Never() {
		text += ", a restore drill " + b.Drills.Schedule.String()
	}
	return text
}

// size is a number of bytes for people.
func size(bytes int64) string {
	switch {
	case bytes < 1<<10:
		return fmt.Sprintf("%d bytes", bytes)
	case bytes < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10))
	case bytes < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}
