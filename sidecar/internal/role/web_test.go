package role

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/report"
	"farmhand/internal/service"
	"farmhand/internal/topology"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/membership"
)

// scripted is a source that says what a test wants it to.
type scripted chan any

func (s scripted) Run(ctx context.Context, o membership.Observer) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case next := <-s:
			switch next := next.(type) {
			case membership.Snapshot:
				o.Changed(next)
			case error:
				o.Trouble(next)
			}
		}
	}
}

// webWorld is a web role with everything around it in a test's hands.
type webWorld struct {
	source  scripted
	config  config.Config
	reports chan report.Report
	events  chan farm.Event
	refuse  chan error // what the next call of Event returns
	unheard error      // what Report returns
	farm    Farm       // nil for none
	stop    func()
	done    chan error
}

func newWebWorld(t *testing.T) *webWorld {
	t.Helper()
	dir := t.TempDir()
	w := &webWorld{source: make(scripted), config: config.Default(), events: make(chan farm.Event, 100), refuse: make(chan error, 1)}
	w.config.Role, w.config.Name, w.config.State = "web", "web1", dir
	w.config.Web.Topology = filepath.Join(dir, "topology.json")
	return w
}

func (w *webWorld) start(t *testing.T) {
	t.Helper()
	reports := make(chan report.Report, 10_000) // nothing of the node before, if this is its next life
	w.reports = reports
	held, err := Kinds[w.config.Role](w.config, Tools{
		Log:    zap.NewNop(),
		Report: func(r report.Report) error { reports <- r; return w.unheard },
		Event: func(e farm.Event) error {
			select {
			case err := <-w.refuse:
				return err
			default:
				w.events <- e
				return nil
			}
		},
		Output: os.Stderr, Farm: w.farm,
	})
	must(t, err)
	held.(*node).source = w.source
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- held.Run(ctx, context.Background()) }()
	w.stop, w.done = stop, done
	t.Cleanup(stop)
}

func (w *webWorld) end(t *testing.T) {
	t.Helper()
	w.stop()
	must(t, <-w.done)
}

func (w *webWorld) event(t *testing.T) farm.Event {
	t.Helper()
	select {
	case e := <-w.events:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no event")
		return farm.Event{}
	}
}

func (w *webWorld) await(t *testing.T, what string, wanted func(report.Report) bool) {
	t.Helper()
	var last report.Report
	limit := time.After(20 * time.Second)
	for {
		select {
		case r := <-w.reports:
			if last = r; wanted(r) {
				return
			}
		case <-limit:
			t.Fatalf("no report of %s; the last: %+v", what, last)
		}
	}
}

func fine(r report.Report) bool { return r.State == report.Running && r.Detail == "" }

// TestEventsThatCannotBePut are put later, and those that could not again.
func TestEventsThatCannotBePut(t *testing.T) {
	w := newWebWorld(t)
	w.start(t)
	db1, db2 := host("db1", "primary", "1", membership.Up), host("db2", "replica", "2", membership.Up)
	w.source <- members(7, db1)
	first := []farm.Event{w.event(t), w.event(t)}
	if first[0].Kind != farm.HostUp || first[1].Kind != farm.NewPrimary || first[0].ID == first[1].ID {
		t.Errorf("told %+v", first)
	}
	w.await(t, "all well", fine)
	w.refuse <- errors.New("the disk is full")
	w.source <- members(7, db1, db2)
	w.await(t, "the failure", func(r report.Report) bool {
		return strings.Contains(r.Detail, "tell the hooks of host-up db2: the disk is full")
	})
	if e := w.event(t); e.Kind != farm.HostUp || e.Host.Name != "db2" {
		t.Errorf("told %+v", e)
	}
	w.await(t, "all well", fine)
	w.end(t)

	// The next one knows what was told.
	w.start(t)
	w.source <- members(7, db1, db2)
	w.source <- members(7, db1)
	if e := w.event(t); e.Kind != farm.HostDown || e.Host.Name != "db2" || e.Check() != nil {
		t.Errorf("told %+v, %v", e, e.Check())
	}
	w.end(t)
}

// TestEventsOfACrashHaveTheirIDsAgain: who was told of them knows.
func TestEventsOfACrashHaveTheirIDsAgain(t *testing.T) {
	w := newWebWorld(t)
	var ids []string
	for range 2 {
		w.start(t)
		w.source <- members(7, host("db1", "primary", "1", membership.Up))
		ids = append(ids, w.event(t).ID, w.event(t).ID)
		w.await(t, "all well", fine)
		w.end(t)
		// As if it had been killed before it kept what it had told.
		kept, err := readSeen(w.config.State)
		must(t, err)
		kept.Generation, kept.Term, kept.Members = 0, membership.Term{}, membership.Snapshot{}
		must(t, kept.keep(w.config.State))
	}
	if ids[0] != ids[2] || ids[1] != ids[3] || ids[0] == ids[1] {
		t.Errorf("ids %v", ids)
	}
}

// TestTopologyKnowsMore: a membership that is older than the topology file is
// refused, also by a node that has never seen another.
func TestTopologyKnowsMore(t *testing.T) {
	w := newWebWorld(t)
	_, err := publish(w.config.Web.Topology, "main", clusterOf(members(9, host("db2", "primary", "2", membership.Up))), time.Now())
	must(t, err)
	before, err := os.ReadFile(w.config.Web.Topology)
	must(t, err)
	w.start(t)
	w.source <- members(8, host("db1", "primary", "1", membership.Up))
	w.await(t, "the refusal", func(r report.Report) bool { return strings.Contains(r.Detail, "epoch 8 is older than 9") })
	w.source <- errors.New("the source is gone")
	w.await(t, "the trouble", func(r report.Report) bool { return strings.Contains(r.Detail, "the source is gone") })
	w.end(t)
	if after, err := os.ReadFile(w.config.Web.Topology); err != nil || string(after) != string(before) || len(w.events) > 0 {
		t.Errorf("%v, %d events, the file has %s", err, len(w.events), after)
	}
}

// TestStateThatIsSpoilt is not taken for none: every host would be told of anew.
func TestStateThatIsSpoilt(t *testing.T) {
	w := newWebWorld(t)
	must(t, os.WriteFile(seenPath(w.config.State), []byte("{"), 0o600))
	w.start(t)
	if err := <-w.done; err == nil || !strings.Contains(err.Error(), seenPath(w.config.State)) {
		t.Errorf("ended with %v", err)
	}
}

// TestProgramThatDoesNotEnd is told twice and then killed.
func TestProgramThatDoesNotEnd(t *testing.T) {
	pids := make(chan int, 1)
	p := &program{
		args: []string{"/bin/sh", "-c", `trap "" TERM; echo ready >&2; while :; do sleep 0.1; done`}, stopAfter: time.Millisecond, stopSignal: syscall.SIGTERM,
		output: os.Stderr, log: zap.NewNop(), told: func(pid int, _ error) { pids <- pid },
	}
	read, write, err := os.Pipe()
	must(t, err)
	p.output = write
	finish, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.keep(finish, context.Background()) }()
	<-pids
	must(t, write.Close())
	_, err = read.Read(make([]byte, 10)) // it ignores the signal by now
	must(t, err)
	stop()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "did not end cleanly: signal: killed") {
		t.Errorf("got %v", err)
	}
	must(t, read.Close())
}

// TestProgramThatHasJustBegun hears of new files, though it does not listen at first: whether
// they changed while it was started or when it had begun.
func TestProgramThatHasJustBegun(t *testing.T) {
	for name, when := range map[string]string{"while it is started": "start", "when it has begun": "begun"} {
		t.Run(name, func(t *testing.T) {
			read, write, err := os.Pipe()
			must(t, err)
			p := &program{
				// A shell does not listen to what was ignored when it began, as SIGHUP is by nohup.
				args:       []string{"/bin/sh", "-c", `trap "" USR1; echo begun; sleep 0.5; trap "echo told" USR1; while :; do sleep 0.1; done`},
				stopSignal: syscall.SIGKILL, reloadSignal: syscall.SIGUSR1, stopAfter: time.Minute,
				output: write, log: zap.NewNop(), told: func(int, error) {},
			}
			if when == "start" {
				p.prepare = p.reload
			}
			finish, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- p.keep(finish, context.Background()) }()
			must(t, read.SetReadDeadline(time.Now().Add(time.Minute)))
			lines := bufio.NewScanner(read)
			for _, line := range []string{"begun", "told"} {
				if !lines.Scan() || lines.Text() != line {
					t.Fatalf("it says %q, %v", lines.Text(), lines.Err())
				}
				if line == "begun" && when == "begun" {
					must(t, p.reload())
				}
			}
			stop()
			<-done // it was killed
			must(t, errors.Join(write.Close(), read.Close()))
		})
	}
}

// nowhere is a farm of which nothing is heard.
type nowhere struct{ Farm }

// TestSourcesOfTheConfiguration: each that can be configured is there.
func TestSourcesOfTheConfiguration(t *testing.T) {
	for name, source := range sources {
		c := config.Default()
		c.Role, c.Name, c.Membership.Source = "web", "web1", name
		c.Farm.Directory, c.Membership.Registry.Cluster = "/var/lib/farmhand/node", "db"
		c.Membership.EC2.Tags = map[string]string{"farm": "shop"}
		c.Membership.DNS.Records = map[string]string{"web": "web.farm.example"}
		if problems := c.Validate(); len(problems) > 0 {
			t.Errorf("%s: %v", name, problems)
		}
		if source, err := source(c.Membership, Tools{Log: zap.NewNop(), Farm: nowhere{}}); err != nil || source == nil {
			t.Errorf("%s: there is none: %v", name, err)
		}
	}
}

// TestReportsThatNobodyHears stop nothing: the node goes on serving.
func TestReportsThatNobodyHears(t *testing.T) {
	w := newWebWorld(t)
	w.unheard = errors.New("broken pipe")
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1", membership.Up))
	w.event(t)
	w.await(t, "all well", fine)
	w.await(t, "the next one", fine)
	w.end(t)
}

// TestTopologyDoesNotWaitForTemplates whose commands take their time.
func TestTopologyDoesNotWaitForTemplates(t *testing.T) {
	w := newWebWorld(t)
	dir := filepath.Dir(w.config.Web.Topology)
	source := filepath.Join(dir, "a.tmpl")
	must(t, os.WriteFile(source, []byte("{{.Epoch}}"), 0o644))
	begun, goOn := filepath.Join(dir, "begun"), filepath.Join(dir, "go-on")
	must(t, syscall.Mkfifo(begun, 0o600))
	must(t, syscall.Mkfifo(goOn, 0o600))
	w.config.Web.Templates = []config.Template{{
		Template: source, Destination: filepath.Join(dir, "a"), Reload: []string{"/bin/sh", "-c", "echo >" + begun + "; read x <" + goOn},
		TimeLimit: service.Duration(20 * time.Second),
	}}
	w.start(t)
	say := func(epoch farm.Epoch, primary string) {
		s := members(epoch, host(primary, "primary", "1", membership.Up))
		c := clusterOf(s)
		s.Cluster, s.Serial = &c, uint64(epoch)
		w.source <- s
	}
	say(7, "db1")
	_, err := os.ReadFile(begun)
	must(t, err)
	say(8, "db2")
	w.source <- errors.New("heard after that") // so it was written by now
	got, err := topology.Read(w.config.Web.Topology)
	must(t, err)
	if c := got.Clusters["main"]; c.Epoch != 8 || c.Primary.Name != "db2" {
		t.Errorf("the topology is %+v", c)
	}
	must(t, os.WriteFile(goOn, []byte("\n"), 0))
	_, err = os.ReadFile(begun)
	must(t, err)
	must(t, os.WriteFile(goOn, []byte("\n"), 0))
	w.end(t)
}
