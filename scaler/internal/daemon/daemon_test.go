package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/pki"
	"farmhand/internal/registry"
	"farmhand/internal/service"
	"farmhand/scaler/internal/control"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

func TestMain(m *testing.M) {
	os.Exit(farmtest.Leakless{M: m, Patience: farmtest.EtcdPatience}.Run())
}

const file = `
name: shop
roles:
  db:
    kind: mysql
    count: {min: 3, max: 5}
    schedule: [{from: 00:00, to: 00:01, at_least: 5}]
    storage: {keep: false}
  web:
    kind: web
    count: 1
    parameters: {proxy: {unix: ""}}
policies: {failover: {quiet: 0}}
`

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// farmOf is a farm of n control nodes whose instances are nodes.
type farmOf struct {
	t     *testing.T
	dirs  []control.Dir
	nodes *nodes
	beats atomic.Int64
	stops []func() error
	kept  map[string]*kept // the passwords of each control node
}

// kept are the passwords that a control node keeps.
type kept struct {
	mu sync.Mutex
	p  provider.Passwords
}

func (k *kept) Passwords() (provider.Passwords, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.p, nil
}

func (k *kept) KeepPasswords(p provider.Passwords) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.p = p
	return nil
}

func newFarm(t *testing.T, n int) *farmOf { return newFarmOf(t, n, file) }

// newFarmOf is newFarm by another farm file.
func newFarmOf(t *testing.T, n int, text string) *farmOf {
	c := control.Default()
	c.Farm = "shop"
	c.Etcd.Heartbeat, c.Etcd.Election = service.Duration(50*time.Millisecond), service.Duration(500*time.Millisecond)
	for i := range n {
		first := farmtest.FreePort(t)
		m := control.Member{Name: string(rune('a' + i)), Address: first.Addr().String(), ClientPort: first.Port()}
		m.PeerPort, m.JoinPort = farmtest.FreePort(t).Port(), farmtest.FreePort(t).Port()
		c.Members = append(c.Members, m)
	}
	dirs, err := control.Init(control.Dir{Path: filepath.Join(t.TempDir(), "control")}, c, time.Now())
	must(t, err)
	f := &farmOf{t: t, dirs: dirs, kept: map[string]*kept{}}
	for _, d := range dirs {
		f.kept[d.Path] = &kept{}
	}
	f.kept[dirs[0].Path].p.Replication = "of before" // a farm whose passwords were files only
	started := make(chan struct{}, n)
	for _, d := range dirs {
		f.stops = append(f.stops, f.start(d, started))
	}
	f.nodes = newNodes(t) // ends before the registry does
	for range n {
		select {
		case <-started:
		case <-time.After(time.Minute):
			t.Fatal("the registry is not ready")
		}
	}
	f.with(func(client *registry.Client) error {
		return Apply(t.Context(), client, File{Path: "/farm.yaml", Text: text, By: "test", At: time.Now()}, nil)
	})
	return f
}

func (f *farmOf) start(d control.Dir, started chan<- struct{}) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{
			Dir: d, Log: zap.NewNop(), Lease: 2 * time.Second, Beat: func() { f.beats.Add(1) },
			Provide: func(*farmfile.Farm) (Provided, error) {
				return Provided{Provider: f.nodes, Passwords: f.kept[d.Path], Images: f.nodes}, nil
			},
			Ready: func(control.Running) { started <- struct{}{} },
		})
	}()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	f.t.Cleanup(func() {
		if err := stop(); err != nil {
			f.t.Error(err)
		}
	})
	return stop
}

func (f *farmOf) with(do func(*registry.Client) error) {
	f.t.Helper()
	must(f.t, f.dirs[len(f.dirs)-1].With(func(c *registry.Client, _ control.Config) error { return do(c) }))
}

// await returns what the leader shows once it is as wanted.
func (f *farmOf) await(what string, is func(*View) bool) (v *View) {
	f.t.Helper()
	f.with(func(client *registry.Client) error {
		found := errors.New("found")
		ctx, cancel := context.WithTimeoutCause(f.t.Context(), time.Minute, fmt.Errorf("not %s", what))
		defer cancel()
		err := WatchView(ctx, client, func(now *View, _ error) error {
			if v = now; v != nil && is(v) {
				return found
			}
			return nil
		})
		if !errors.Is(err, found) {
			return fmt.Errorf("%w: %+v, assignment %+v", err, v, v.Assignment)
		}
		return nil
	})
	return v
}

// ask asks for an operation and returns it when it has ended.
func (f *farmOf) ask(kind string, args map[string]string) (o registry.Operation) {
	f.t.Helper()
	var asked registry.Operation
	f.with(func(client *registry.Client) (err error) {
		asked, err = client.Ask(f.t.Context(), registry.Operation{Kind: kind, Args: args, By: "test"})
		return err
	})
	return f.ended(asked.ID)
}

// serving reports whether so many servers have a part that is carried out.
func serving(n int) func(*View) bool {
	return func(v *View) bool {
		if v.Assignment == nil || v.Assignment.Primary == "" || len(v.Assignment.Servers) != n || !v.Assignment.SemiSync {
			return false
		}
		for _, s := range v.Assignment.Servers {
			if s.Task != cluster.Lead && s.State != farm.Serving {
				return false
			}
		}
		return true
	}
}

func (f *farmOf) names(v *View) string {
	var names []string
	for _, n := range v.Nodes {
		names = append(names, n.Name)
	}
	return strings.Join(names, " ")
}

func TestAFarmComesUpAndDoesWhatItsOperatorAsks(t *testing.T) {
	f := newFarm(t, 1)
	v := f.await("that the farm has come up", func(v *View) bool { return serving(3)(v) && len(v.Nodes) == 4 && v.Nodes[3].Report != nil })
	if names := f.names(v); names != "db1 db2 db3 web1" || v.Assignment.Primary != "db1" {
		t.Errorf("there are %s, and %s leads", names, v.Assignment.Primary)
	}
	if beats := f.beats.Load(); beats == 0 {
		t.Error("nobody says that the loop goes round")
	}

	// A switchover, and what cannot be.
	if o := f.ask("switchover", map[string]string{"to": "db2"}); o.State != registry.OperationDone || len(o.Steps) == 0 {
		t.Errorf("switchover: %+v", o)
	}
	for _, wrong := range []struct {
		kind string
		args map[string]string
	}{
		{"switchover", map[string]string{"to": "db9"}},
		{"scale", map[string]string{"role": "cache", "servers": "2"}},
		{"scale", map[string]string{"role": "db", "servers": "0"}},
		{"terminate", map[string]string{"name": "db2"}},
		{"terminate", map[string]string{"name": "db9"}},
		{"fly", nil},
	} {
		if o := f.ask(wrong.kind, wrong.args); o.State != registry.OperationFailed || o.Error == "" {
			t.Errorf("%+v: %+v", wrong, o)
		}
	}

	if o := f.ask("failover", map[string]string{"to": "db3"}); o.State != registry.OperationDone {
		t.Errorf("failover: %+v", o)
	}
	if o := f.ask("switchover", map[string]string{"to": "db2"}); o.State != registry.OperationDone {
		t.Errorf("switchover after the failover: %+v", o)
	}
	if o := f.ask("ack", nil); o.State != registry.OperationDone {
		t.Errorf("ack: %+v", o)
	}

	// Sizes.
	if o := f.ask("scale", map[string]string{"role": "db", "servers": "4"}); o.State != registry.OperationDone {
		t.Errorf("scale: %+v", o)
	}
	if o := f.ask("pause", map[string]string{"why": "a test"}); o.State != registry.OperationDone {
		t.Errorf("pause: %+v", o)
	}
	f.nodes.crash("db3")
	if o := f.ask("resume", nil); o.State != registry.OperationDone {
		t.Errorf("resume: %+v", o)
	}
	if o := f.ask("drain", map[string]string{"name": "db4"}); o.State != registry.OperationDone {
		t.Errorf("drain: %+v", o)
	}
	if o := f.ask("drain", map[string]string{"name": "db4", "undo": "true"}); o.State != registry.OperationDone {
		t.Errorf("drain --undo: %+v", o)
	}
	f.await("that db4 takes reads again", serving(4))
	if o := f.ask("terminate", map[string]string{"name": "db1", "shrink": "true"}); o.State != registry.OperationDone {
		t.Errorf("terminate: %+v", o)
	}
	v = f.await("that db1 is forgotten", func(v *View) bool { return len(v.Assignment.Servers) == 3 })
	if names := f.names(v); names != "db2 db3 db4 web1" {
		t.Errorf("there are %s", names)
	}
	f.with(func(client *registry.Client) error {
		nodes, err := client.Nodes(t.Context())
		if err == nil && (nodes[0].Name != "db1" || nodes[0].Expelled.IsZero()) {
			t.Errorf("the terminated node is %+v", nodes[0])
		}
		return err
	})
}

// TestATerminationWaitsForHooks: until those of every node have ended, or for as long
// as the farm file allows.
func TestATerminationWaitsForHooks(t *testing.T) {
	f := newFarm(t, 1)
	f.await("that the farm has come up", func(v *View) bool { return serving(3)(v) && len(v.Nodes) == 4 && v.Nodes[3].Report != nil })
	if o := f.ask("drain", map[string]string{"name": "web1"}); o.State != registry.OperationDone {
		t.Errorf("drain a web node: %+v", o)
	}
	if d := f.departures(); len(d.Hosts) != 1 || d.Hosts[0].Host.Name != "web1" || d.Hosts[0].Event != "" {
		t.Errorf("the departures are %+v", d)
	}
	if o := f.ask("drain", map[string]string{"name": "web1", "undo": "true"}); o.State != registry.OperationDone {
		t.Errorf("drain --undo: %+v", o)
	}
	f.nodes.stick("web1", true)
	f.with(func(client *registry.Client) error {
		_, err := client.Ask(t.Context(), registry.Operation{Kind: "terminate", Args: map[string]string{"name": "db3", "shrink": "true"}, By: "test"})
		return err
	})
	v := f.await("that db3 waits for hooks", func(v *View) bool {
		for _, n := range v.Nodes {
			if n.Name == "db3" && strings.Contains(n.Step, "waits for hooks of before-host-terminate on web1") {
				s, _ := v.Assignment.Server("db3")
				return s.State == farm.Draining
			}
		}
		return false
	})
	d := f.departures()
	if len(d.Hosts) != 1 || d.Hosts[0].Host != (farm.EventHost{Name: "db3", Role: "replica", Address: v.Nodes[2].Address.String() + ":3306"}) || d.Hosts[0].BeforeTerminate().Check() != nil {
		t.Fatalf("the departures are %+v", d)
	}
	// What hangs ends, or is given up: here a later departure has it look again.
	f.nodes.stick("web1", false)
	if o := f.ask("drain", map[string]string{"name": "db2"}); o.State != registry.OperationDone {
		t.Errorf("drain: %+v", o)
	}
	f.await("that db3 is gone", func(v *View) bool { return len(v.Assignment.Servers) == 2 })
	f.journaled("the hooks before the end of db3 have ended")
	farmtest.Eventually(t, "only db2 is on the way out", func() error {
		if d := f.departures(); len(d.Hosts) != 1 || d.Hosts[0].Host.Name != "db2" {
			return fmt.Errorf("the departures are %+v", d)
		}
		return nil
	})
	if o := f.ask("drain", map[string]string{"name": "db2", "undo": "true"}); o.State != registry.OperationDone {
		t.Errorf("drain --undo: %+v", o)
	}

	f.nodes.stick("db1", true)
	f.apply(strings.Replace(file, "storage: {keep: false}", "storage: {keep: false}\n    hooks: {wait: 2s}", 1))
	if o := f.ask("terminate", map[string]string{"name": "db2"}); o.State != registry.OperationDone {
		t.Errorf("terminate: %+v", o)
	}
	f.journaled("the hooks before the end of db2 have not ended within 2s on db1: it goes on its way without them")
}

func (f *farmOf) departures() (d *cluster.Departures) {
	f.t.Helper()
	f.with(func(client *registry.Client) error {
		record, err := registry.ClusterRecord("db", cluster.DeparturesRecord)
		if err != nil {
			return err
		}
		data, err := client.Read(f.t.Context(), record)
		if err != nil {
			return err
		}
		d, err = cluster.DecodeDepartures(data)
		return err
	})
	return d
}

// apply makes text the farm file in the place of the one that there is.
func (f *farmOf) apply(text string) {
	f.t.Helper()
	f.with(func(client *registry.Client) error {
		was, raw, err := Applied(f.t.Context(), client)
		if err != nil {
			return err
		}
		was.Text = text
		return Apply(f.t.Context(), client, *was, raw)
	})
}

// journaled wants an entry with that text.
func (f *farmOf) journaled(text string) {
	f.t.Helper()
	farmtest.Eventually(f.t, "the journal has: "+text, func() error {
		var all []string
		f.with(func(client *registry.Client) error {
			entries, err := client.Entries(f.t.Context(), 0)
			for _, e := range entries {
				all = append(all, e.Text)
			}
			return err
		})
		for _, one := range all {
			if strings.Contains(one, text) {
				return nil
			}
		}
		return errors.New(strings.Join(all, "\n"))
	})
}

func TestALostPrimaryIsReplaced(t *testing.T) {
	f := newFarm(t, 1)
	v := f.await("that the farm has come up", serving(3))
	epoch := v.Assignment.Epoch
	f.nodes.crash("db1") // nothing listens where the probes go, and never did
	v = f.await("that another leads", func(v *View) bool { return v.Assignment.Primary != "" && v.Assignment.Primary != "db1" })
	if v.Assignment.Epoch <= epoch {
		t.Errorf("the epoch was %d and is %d", epoch, v.Assignment.Epoch)
	}
	f.with(func(client *registry.Client) error {
		entries, err := client.Entries(t.Context(), 0)
		var kinds []string
		for _, e := range entries {
			kinds = append(kinds, e.Kind)
		}
		all := strings.Join(kinds, " ")
		for _, want := range []string{"leader", registry.Decision, string(farm.PrimaryLost), string(farm.NewPrimary), string(farm.HostUp)} {
			if !strings.Contains(all, want) {
				t.Errorf("the journal has no %s: %s", want, all)
			}
		}
		return err
	})
}

func TestAnotherScalerTakesOver(t *testing.T) {
	f := newFarm(t, 3)
	f.await("that the farm has come up", serving(3))
	if o := f.ask("scale", map[string]string{"role": "db", "servers": "4"}); o.State != registry.OperationDone {
		t.Errorf("scale: %+v", o)
	}
	v := f.await("that there are four", serving(4))
	first := v.Leader
	// Wherever a scaler runs, it has the farm's passwords.
	f.with(func(client *registry.Client) error {
		p, err := readPasswords(t.Context(), client)
		if err != nil || !p.Whole() {
			t.Errorf("the registry's passwords: %v", err)
		}
		for path, k := range f.kept {
			farmtest.Eventually(t, path+" has the passwords", func() error {
				if got, _ := k.Passwords(); got != p {
					return errors.New("it has others")
				}
				return nil
			})
		}
		return nil
	})
	must(t, f.stops[v.Leader[0]-'a']())
	if v.Leader == "c" { // whom with asks
		f.dirs = f.dirs[:2]
	}
	f.await("that another leads", func(v *View) bool { return v.Leader != first && serving(4)(v) && v.Roles["db"].Pinned == 4 })
	if o := f.ask("switchover", nil); o.State != registry.OperationDone {
		t.Errorf("switchover in the second term: %+v", o)
	}
}

func TestTheFarmFileCanBeReplaced(t *testing.T) {
	f := newFarm(t, 1)
	f.await("that the farm has come up", serving(3))
	f.with(func(client *registry.Client) error {
		was, raw, err := Applied(t.Context(), client)
		if err != nil {
			return err
		}
		again := *was
		again.Text = strings.Replace(file, "min: 3, max: 5", "min: 4, max: 6", 1)
		if err := Apply(t.Context(), client, again, raw); err != nil {
			return err
		}
		if err := Apply(t.Context(), client, *was, raw); !errors.Is(err, registry.ErrChanged) {
			t.Errorf("in the place of what is there no more: %v", err)
		}
		return nil
	})
	f.await("that there are four", serving(4))
}

// TestInstancesThatRunAreBroughtUpToDate: what they can take while they run, they take one
// by one; for the rest others take their place when a person asks for it, the
// primary's last.
func TestInstancesThatRunAreBroughtUpToDate(t *testing.T) {
	f := newFarm(t, 1)
	f.await("that the farm has come up", func(v *View) bool { return serving(3)(v) && len(v.Nodes) == 4 && v.Nodes[3].Report != nil })
	text := strings.Replace(file, "storage: {keep: false}", "storage: {keep: false, size: 20GiB}\n    hooks: {time_limit: 7s}\n    parameters: {buffer_pool: 256MiB}", 1)
	text = strings.Replace(text, `{proxy: {unix: ""}}`, `{proxy: {unix: "", max_lag: 3s}}`, 1)
	f.apply(text)
	const key = "storage.size: 10GiB -> 20GiB"
	v := f.await("that what is live was taken", func(v *View) bool {
		for _, n := range v.Nodes {
			if want := map[farmfile.RoleKind]string{farmfile.MySQLKind: key}[n.Kind]; strings.Join(n.Drift, ", ") != want {
				return false
			}
		}
		return len(v.Roles["db"].Outdated) == 3
	})
	if r := v.Roles["db"]; strings.Join(r.OutdatedKeys, " ") != "storage.size" || len(v.Roles["web"].Outdated) != 0 {
		t.Errorf("the roles are %+v", v.Roles)
	}
	for _, n := range v.Nodes {
		f.journaled(n.Name + " takes what the farm file says now: ")
	}
	if o := f.ask("renew", map[string]string{"role": "cache"}); o.State != registry.OperationFailed {
		t.Errorf("renew a role that there is not: %+v", o)
	}
	farm, err := farmfile.Parse("farm.yaml", []byte(text))
	must(t, err)
	digest, err := RolesDigest(farm)
	must(t, err)
	o := f.ask("renew", map[string]string{"roles": digest})
	if o.State != registry.OperationDone {
		t.Fatalf("renew: %+v", o)
	}
	v = f.await("that there are three others", serving(3))
	if names := f.names(v); names != "db4 db5 db6 web1" || len(v.Roles["db"].Outdated) != 0 {
		t.Errorf("there are %s, outdated %v", names, v.Roles["db"].Outdated)
	}
	// Never two at a time, and the primary last.
	var told []string
	for _, step := range o.Steps {
		told = append(told, step.Text)
	}
	all := strings.Join(told, "\n")
	for _, want := range []string{"3 instances are left to be replaced; db2 is to leave", "2 instances are left to be replaced; db3 is to leave", "db1 hands its part over to db", "1 instance is left to be replaced; db1 is to leave"} {
		if !strings.Contains(all, want) {
			t.Errorf("nobody was told %q:\n%s", want, all)
		}
	}
}

// TestPasswordsOfAFarmThatHadFilesOnly: these become the registry's; and while that does not
// answer, they will do.
func TestPasswordsOfAFarmThatHadFilesOnly(t *testing.T) {
	f := newFarm(t, 1)
	f.await("that somebody leads", func(*View) bool { return true })
	got, err := f.kept[f.dirs[0].Path].Passwords()
	must(t, err)
	if got.Replication != "of before" || !got.Whole() {
		t.Error("the password that there was is another one")
	}
	f.with(func(client *registry.Client) error {
		p, err := readPasswords(t.Context(), client)
		if p != got {
			t.Error("the registry has others")
		}
		return err
	})
	client, err := registry.Open(registry.Options{Farm: "shop", Endpoints: []string{"127.0.0.1:1"}, Files: pki.In(f.dirs[0].Path, "control")})
	must(t, err)
	defer func() { must(t, client.Close()) }()
	away := &following{o: Options{Log: zap.NewNop()}, client: client}
	if p, err := away.passwords(t.Context(), &kept{p: got}, true); err != nil || p != got {
		t.Errorf("without the registry: %v", err)
	}
	if _, err := away.passwords(t.Context(), &kept{}, true); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("without any: %v", err)
	}
}
