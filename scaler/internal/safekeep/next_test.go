package safekeep

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"farmhand/internal/backup"
	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/schedule"
)

var start = time.Date(2026, 11, 28, 17, 0, 0, 0, time.UTC)

// world is a farm that is only thought of: what servers do of a plan, in the order in
// which time goes by.
type world struct {
	now    time.Time
	policy Policy
	view   View
	memory Memory
	ids    int
	stock  Assessment
	known  bool // what the store has
	events []farm.Event
	whys   []string
}

func parse(text string) schedule.Schedule {
	s, err := schedule.Parse(text)
	if err != nil {
		panic(err)
	}
	return s
}

func newWorld(text string) *world {
	w := &world{now: start, stock: Assessment{Newest: -1}, known: true, policy: Policy{
		Store: "/backups", ArchiveEvery: 3 * time.Second, ArchiveSize: 8 << 20, Full: parse(text), FromPrimary: true,
	}}
	w.view = View{Term: 1, Servers: map[string]Server{}, Assignment: &cluster.Assignment{Epoch: 1, Serial: 1, Primary: "db1", SemiSync: true, Durable: true}}
	for i := range 3 {
		name := fmt.Sprintf("db%d", i+1)
		s := cluster.Server{Name: name, Address: fmt.Sprintf("10.0.0.%d:3306", i+1), ID: uint32(i + 1), Task: cluster.Follow, Source: "db1", State: farm.Serving, Weight: 1}
		if i == 0 {
			s.Task, s.Source, s.State = cluster.Lead, "", ""
		}
		w.view.Assignment.Servers = append(w.view.Assignment.Servers, s)
		w.healthy(name)
	}
	return w
}

func (w *world) healthy(name string) {
	beat := 100 * time.Millisecond
	w.view.Servers[name] = Server{Member: true, Database: &cluster.Report{
		Name: name, Flavor: farm.MariaDB, Answers: true, Process: cluster.Running, Beat: &beat, SemiSync: true,
		Replication: &cluster.Replication{Receiver: "Yes", Applier: "Yes"},
	}, Backup: &cluster.BackupReport{Name: name}}
}

// change changes how a server is seen.
func (w *world) change(name string, f func(*Server)) {
	s := w.view.Servers[name]
	f(&s)
	w.view.Servers[name] = s
}

// round lets time go by and makes a step.
func (w *world) round(by time.Duration) Step {
	w.now = w.now.Add(by)
	w.ids++
	v := w.view
	v.NewID = fmt.Sprintf("%s-%06d", w.now.UTC().Format("20060102T150405Z"), w.ids)
	if w.known {
		stock := w.stock
		v.Stock = &stock
	}
	step := Next(v, w.policy, w.memory, w.now)
	w.memory = step.Memory
	w.events = append(w.events, step.Events...)
	if step.Plan != nil {
		w.view.Plan = step.Plan
		w.whys = append(w.whys, step.Why)
	}
	return step
}

func (w *world) full() *cluster.FullTask { return w.view.Plan.Full }

// report says how the full backup that is wanted stands.
func (w *world) report(state cluster.WorkState, why string) {
	t := w.full()
	w.change(t.Node, func(s *Server) {
		s.BackupAge = 0
		s.Backup = &cluster.BackupReport{Name: t.Node, Full: &cluster.FullReport{ID: t.ID, State: state, Began: t.Since, Error: why}}
	})
	if state == cluster.Done {
		w.stock.Fulls = append(w.stock.Fulls, Full{ID: t.ID, Began: t.Since, Ended: w.now, Node: t.Node})
		w.stock.Newest = len(w.stock.Fulls) - 1
		w.stock.At = w.now
	}
}

func TestTheFirstBackupIsTakenAtOnceAndOfAReplica(t *testing.T) {
	w := newWorld("24h")
	w.policy.Windows = []decide.Schedule{{From: 3 * 60, To: 4 * 60}} // it does not wait for that
	w.round(0)
	if f := w.full(); f == nil || f.Node != "db2" || w.view.Plan.Archive == nil || w.view.Plan.Archive.Node != "db1" {
		t.Fatalf("the plan is %+v", w.view.Plan)
	}
	w.report(cluster.Working, "")
	if s := w.round(time.Second); s.Plan != nil {
		t.Errorf("the plan changes: %s", s.Why)
	}
	w.report(cluster.Done, "")
	if s := w.round(time.Second); w.full() != nil || !s.Look {
		t.Errorf("after it: %+v, look %v", w.view.Plan, s.Look)
	}
	if s := w.round(23 * time.Hour); w.full() != nil || !strings.Contains(strings.Join(s.Reasons, ";"), "due at") {
		t.Errorf("it is taken too early: %v", s.Reasons)
	}
	if s := w.round(2 * time.Hour); w.full() != nil || !strings.Contains(strings.Join(s.Reasons, ";"), "window") {
		t.Errorf("outside of the window: %+v, %v", w.full(), s.Reasons)
	}
	if w.round(9 * time.Hour); w.full() == nil {
		t.Error("in the window none is taken")
	}
}

func TestAfterAnAbsenceOneIsTakenAndNotMany(t *testing.T) {
	w := newWorld("0 3 * * *")
	w.stock = Assessment{At: start, Newest: 0, Fulls: []Full{{ID: "x", Began: start.Add(-100 * time.Hour), Ended: start.Add(-99 * time.Hour)}}}
	w.round(0)
	if w.full() == nil {
		t.Fatal("what is overdue is not taken")
	}
	w.report(cluster.Done, "")
	w.round(time.Second)
	if w.round(time.Second); w.full() != nil {
		t.Errorf("another one: %s", w.full().Why)
	}
}

func TestNothingIsTakenWhileItIsNotKnownWhatThereIs(t *testing.T) {
	w := newWorld("24h")
	w.known = false
	w.view.StockError = "it is away"
	s := w.round(0)
	if w.full() != nil || !strings.Contains(strings.Join(s.Reasons, ";"), "it is away") {
		t.Errorf("%+v, %v", w.full(), s.Reasons)
	}
	if w.view.Plan.Archive == nil {
		t.Error("the archive waits for that, too")
	}
}

func TestAFailedOneIsTriedElsewhereAndLater(t *testing.T) {
	w := newWorld("24h")
	w.round(0)
	first := *w.full()
	w.report(cluster.Failed, "the disk is full")
	w.round(time.Second)
	if w.full() != nil {
		t.Fatal("it is tried again at once")
	}
	if len(w.events) != 0 {
		t.Errorf("the node has told that already: %v", w.events)
	}
	w.round(firstPause)
	if f := w.full(); f == nil || f.Node == first.Node || f.ID == first.ID {
		t.Fatalf("the second attempt is %+v", f)
	}
	w.report(cluster.Failed, "here, too")
	w.round(time.Second)
	if w.round(firstPause + time.Second); w.full() != nil {
		t.Error("the pause does not grow")
	}
	if w.round(firstPause); w.full() == nil {
		t.Error("the third attempt is not made")
	}
}

func TestAServerThatIsLostMeanwhile(t *testing.T) {
	w := newWorld("24h")
	w.round(0)
	node := w.full().Node
	w.report(cluster.Working, "")
	w.round(time.Second)
	w.change(node, func(s *Server) { s.BackupAge, s.DatabaseAge, s.Member = 2*time.Minute, 2*time.Minute, false })
	w.round(2 * time.Minute)
	if len(w.events) != 1 || w.events[0].Kind != farm.BackupFailed || w.events[0].Host.Name != node {
		t.Errorf("events are %+v", w.events)
	}
	w.round(firstPause)
	if f := w.full(); f == nil || f.Node == node {
		t.Errorf("then: %+v", f)
	}
}

// TestABackupThatWasCompleteWhenItsServerWasLost is in the store.
func TestABackupThatWasCompleteWhenItsServerWasLost(t *testing.T) {
	w := newWorld("24h")
	w.round(0)
	node := w.full().Node
	w.report(cluster.Done, "")
	w.change(node, func(s *Server) { s.Backup, s.BackupAge = nil, time.Hour })
	w.round(2 * time.Minute)
	if len(w.events) != 0 || w.full() != nil || w.memory.Full.Last == nil {
		t.Errorf("events %v, plan %+v, memory %+v", w.events, w.full(), w.memory.Full)
	}
}

func TestWhoTakesIt(t *testing.T) {
	for what, x := range map[string]struct {
		change func(*world)
		want   string // empty: nobody
	}{
		"the first of two alike":          {func(*world) {}, "db2"},
		"not one that is far behind":      {func(w *world) { w.change("db2", func(s *Server) { d := time.Minute; s.Database.Beat = &d }) }, "db3"},
		"not one that is to leave":        {func(w *world) { w.change("db2", func(s *Server) { s.Leaving = true }) }, "db3"},
		"not one that does not follow":    {func(w *world) { w.change("db2", func(s *Server) { s.Database.Replication.Applier = "No" }) }, "db3"},
		"not one of unknown lag":          {func(w *world) { w.change("db2", func(s *Server) { s.Database.Beat = nil }) }, "db3"},
		"nobody while a replica may come": {func(w *world) { w.change("db2", gone); w.change("db3", gone) }, ""},
		"the primary if there is no one": {func(w *world) {
			w.change("db2", gone)
			w.change("db3", gone)
			w.round(0)
			w.now = w.now.Add(comes)
		}, "db1"},
		"the primary at once if there is to be no one": {func(w *world) {
			w.policy.Alone = true
			w.change("db2", gone)
			w.change("db3", gone)
		}, "db1"},
		"nobody if that is not allowed": {func(w *world) {
			w.policy.FromPrimary = false
			w.change("db2", gone)
			w.change("db3", gone)
		}, ""},
		"nobody while the primary changes": {func(w *world) { w.view.Assignment.Phase = cluster.Electing }, ""},
		"nobody on a paused farm":          {func(w *world) { w.view.Paused = true }, ""},
		"whom a person names":              {func(w *world) { w.view.Request = &Request{By: "1", Node: "db3"} }, "db3"},
		"the primary if a person says so":  {func(w *world) { w.view.Request = &Request{By: "1", Node: "db1"} }, "db1"},
	} {
		w := newWorld("24h")
		x.change(w)
		w.round(0)
		got := ""
		if f := w.full(); f != nil {
			got = f.Node
		}
		if got != x.want {
			t.Errorf("%s: %q, want %q", what, got, x.want)
		}
	}
}

func gone(s *Server) { s.Member, s.DatabaseAge = false, time.Hour }

func TestARequestIsFollowed(t *testing.T) {
	w := newWorld("")
	if w.round(0); w.full() != nil {
		t.Fatal("without a schedule one is taken")
	}
	w.view.Request = &Request{By: "op1"}
	if s := w.round(time.Second); w.full() == nil || s.Answer.Done || s.Answer.Refused {
		t.Fatalf("%+v, %+v", w.full(), s.Answer)
	}
	w.report(cluster.Done, "")
	if s := w.round(time.Second); !s.Answer.Done {
		t.Errorf("the answer is %+v", s.Answer)
	}
	w.view.Request = &Request{By: "op2", Node: "db9"}
	if s := w.round(time.Second); !s.Answer.Refused {
		t.Errorf("of no server: %+v", s.Answer)
	}
	w.view.Request = &Request{By: "op3"}
	w.round(time.Second)
	w.report(cluster.Failed, "no room")
	if s := w.round(time.Second); !s.Answer.Refused || !strings.Contains(s.Answer.Text, "no room") {
		t.Errorf("after a failure: %+v", s.Answer)
	}
}

func TestAGapWantsAnotherFullBackup(t *testing.T) {
	w := newWorld("24h")
	w.round(0)
	w.report(cluster.Done, "")
	w.round(time.Second)
	w.stock.Open, w.stock.At = true, w.now
	w.round(time.Second)
	if f := w.full(); f == nil || !strings.Contains(f.Why, "gap") {
		t.Errorf("%+v", f)
	}
}

func TestDrillsAndWhatTheyProve(t *testing.T) {
	w := newWorld("24h")
	w.policy.Drill = parse("48h")
	w.round(0)
	if w.view.Plan.Drill != nil {
		t.Fatal("there is nothing to restore")
	}
	w.report(cluster.Done, "")
	w.round(time.Second)
	d := w.view.Plan.Drill
	if d == nil || d.Node == "db1" {
		t.Fatalf("the drill is %+v", d)
	}
	id := w.stock.Fulls[0].ID
	w.change(d.Node, func(s *Server) {
		s.Backup = &cluster.BackupReport{Drill: &cluster.DrillReport{ID: d.ID, State: cluster.Done, Backup: id, Position: "0-1-9", Began: w.now}}
	})
	w.round(time.Second)
	if w.memory.Proven[id].Position != "0-1-9" || w.view.Plan.Drill != nil {
		t.Errorf("proven: %+v; plan %+v", w.memory.Proven, w.view.Plan.Drill)
	}
	w.stock.At = w.now.Add(time.Minute)
	w.stock.Fulls, w.stock.Newest = nil, -1
	w.round(2 * time.Minute)
	if len(w.memory.Proven) != 0 {
		t.Errorf("of a backup that is gone: %v", w.memory.Proven)
	}
}

// TestWhateverHappens: with servers that work, fail, vanish and change the primary at
// random, one full backup at a time is wanted, of a server that exists, under a name that none
// had, and not sooner than the pause after failures; and in the end one succeeds.
func TestWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.SampledFrom([]string{"1h", "*/30 * * * *"}).Draw(t, "schedule"))
		used := map[string]bool{}
		var last *cluster.FullTask
		for range rapid.IntRange(1, 60).Draw(t, "rounds") {
			name := rapid.SampledFrom([]string{"db1", "db2", "db3"}).Draw(t, "server")
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0:
				w.change(name, gone)
			case 1:
				w.healthy(name)
			case 2:
				if w.view.Plan != nil && w.full() != nil {
					w.report(cluster.Failed, "by chance")
				}
			case 3:
				if w.view.Plan != nil && w.full() != nil {
					w.report(cluster.Done, "")
				}
			case 4:
				w.known = !w.known
			case 5:
				for i := range w.view.Assignment.Servers {
					s := &w.view.Assignment.Servers[i]
					s.Task, s.State = cluster.Follow, farm.Serving
					if s.Name == name {
						s.Task, s.State = cluster.Lead, ""
					}
				}
				w.view.Assignment.Epoch++
			}
			by := time.Duration(rapid.IntRange(1, 900).Draw(t, "seconds")) * time.Second
			failures := w.memory.Full.Failures
			notBefore := w.memory.Full.NotBefore
			w.round(by)
			f := w.full()
			if f != nil && (last == nil || f.ID != last.ID) {
				if used[f.ID] {
					t.Fatalf("%s is wanted twice", f.ID)
				}
				used[f.ID] = true
				if _, ok := w.view.Servers[f.Node]; !ok {
					t.Fatalf("%s is no server", f.Node)
				}
				if failures > 0 && w.memory.Full.Failures == failures && w.now.Before(notBefore) {
					t.Fatalf("tried again at %v, before %v", w.now, notBefore)
				}
			}
			last = f
			leader, _ := w.view.Assignment.Leader()
			if a := w.view.Plan.Archive; a == nil || a.Node != leader.Name || a.Epoch != w.view.Assignment.Epoch {
				t.Fatalf("%+v archives, and %s leads in epoch %d", a, leader.Name, w.view.Assignment.Epoch)
			}
		}
		w.known = true
		w.healthy("db1")
		w.healthy("db2")
		w.healthy("db3")
		for range 10 {
			w.round(2 * time.Hour)
			if w.full() != nil {
				w.report(cluster.Done, "")
				w.round(time.Second)
				if w.full() != nil && w.memory.Full.Last == nil {
					t.Fatal("it does not end")
				}
				return
			}
			w.stock.At = w.now
		}
		t.Fatalf("no backup is taken any more: %v", w.whys)
	})
}

func TestWhatWouldBeLost(t *testing.T) {
	w := newWorld("24h")
	w.round(0)
	w.report(cluster.Done, "")
	w.round(time.Second)
	unstored := 2 * time.Second
	measure := func() Meter {
		v := w.view
		stock := w.stock
		v.Stock = &stock
		return Measure(v, w.policy)
	}
	if m := measure(); m.Everything.Known || !m.Primary.Known || m.Primary.Seconds != 0 {
		t.Errorf("before the archiver reports: %+v", m)
	}
	w.change("db1", func(s *Server) {
		s.Database.Executed = "0-1-120"
		s.Backup = &cluster.BackupReport{Archive: &cluster.ArchiveReport{Epoch: 1, Position: "0-1-100", Unstored: &unstored}}
		s.BackupAge = time.Second
	})
	if m := measure(); !m.Everything.Known || m.Everything.Seconds != 3 || m.Everything.Transactions != 20 {
		t.Errorf("with an archive: %+v", m.Everything)
	}
	w.view.Assignment.SemiSync = false
	late := 4 * time.Second
	w.change("db2", func(s *Server) { s.Database.Received, s.Database.ReceivedAge = "0-1-115", &late })
	w.change("db3", func(s *Server) { s.Database.Received = "0-1-90" })
	if m := measure(); !m.Primary.Known || m.Primary.Transactions != 5 || m.Primary.Seconds != 4 || !strings.Contains(m.Primary.Text, "db2") {
		t.Errorf("without acknowledgements: %+v", m.Primary)
	}
	w.stock.Open = true
	if m := measure(); !m.Everything.Known || !strings.Contains(m.Everything.Text, "gap") {
		t.Errorf("with a gap: %+v", m.Everything)
	}
	w.stock = Assessment{Newest: -1}
	if m := measure(); m.Everything.Seconds != -1 {
		t.Errorf("without a full backup: %+v", m.Everything)
	}
	w.change("db1", gone)
	if m := measure(); m.Primary.Known {
		t.Errorf("of a primary that is not heard: %+v", m.Primary)
	}
}

// TestNothingThatIsNeededGoes: whatever backups and pieces there are and whatever the
// policy is, all that lies between the first moment that is to be kept and the last
// piece stays.
func TestNothingThatIsNeededGoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stock Stock
		stock.At = start
		n := rapid.IntRange(0, 8).Draw(t, "backups")
		for i := range n {
			at := start.Add(-time.Duration(n-i) * 24 * time.Hour)
			e := backup.Entry{ID: fmt.Sprintf("b%d", i), Changed: at, Manifest: &backup.Manifest{Began: at, Ended: at, Position: fmt.Sprintf("0-1-%d", 10*(i+1)), Flavor: "mariadb"}}
			if rapid.IntRange(0, 4).Draw(t, "damaged") == 0 {
				e.Fault = &backup.FaultError{Key: "x", Reason: "is missing"}
			}
			if rapid.IntRange(0, 5).Draw(t, "pinned") == 0 {
				e.Pin = &backup.Pin{}
			}
			stock.Entries = append(stock.Entries, e)
		}
		for i := range 30 {
			first, last := uint64(3*i+1), uint64(3*i+3)
			stock.Segments = append(stock.Segments, backup.Segment{
				Key: fmt.Sprintf("s%02d", i), Epoch: 1, After: fmt.Sprintf("0-1-%d", first-1), Position: fmt.Sprintf("0-1-%d", last),
				Lines: []backup.Line{{Server: 1, First: first, Last: last}},
			})
		}
		stock.Segments[0].After = ""
		p := Policy{Retain: backup.Policy{Last: rapid.IntRange(0, 4).Draw(t, "last"), For: time.Duration(rapid.IntRange(0, 100).Draw(t, "hours")) * time.Hour}}
		p.KeepArchive = time.Duration(rapid.IntRange(0, 200).Draw(t, "archive")) * time.Hour
		a, err := Assess(stock, p, nil, start)
		if err != nil {
			t.Fatal(err)
		}
		goes := map[string]bool{}
		for _, v := range a.Prune.Verdicts {
			goes[v.ID] = !v.Keep
		}
		old := map[string]bool{}
		for _, key := range a.OldSegments {
			old[key] = true
		}
		var good, kept []backup.Entry
		for _, e := range stock.Entries {
			if e.Good() {
				good = append(good, e)
				if !goes[e.ID] {
					kept = append(kept, e)
				}
			}
		}
		if len(good) > 0 && goes[good[len(good)-1].ID] {
			t.Fatal("the newest good one goes")
		}
		if len(kept) == 0 {
			if len(old) > 0 {
				t.Fatal("pieces go, and nothing is kept")
			}
			return
		}
		// From here on any moment must be restorable.
		first := kept[0]
		for _, e := range kept {
			if p.KeepArchive > 0 && start.Sub(e.Manifest.Ended) > p.KeepArchive {
				first = e
			}
		}
		var left []backup.Segment
		for _, s := range stock.Segments {
			if !old[s.Key] {
				left = append(left, s)
			}
		}
		stock.Segments, stock.Entries = left, nil
		for _, e := range kept {
			if !e.Manifest.Ended.Before(first.Manifest.Ended) {
				stock.Entries = append(stock.Entries, e)
			}
		}
		after, err := Assess(stock, p, nil, start)
		if err != nil || len(after.Gaps) > 0 || after.Open || after.Reached != "0-1-90" {
			t.Fatalf("after that: %+v, %v", after, err)
		}
	})
}

// TestAFullBackupAfterARestore is taken at once: the older ones lead to it only as far
// as the archive has no gap there.
func TestAFullBackupAfterARestore(t *testing.T) {
	w := newWorld("24h")
	w.round(0)
	w.report(cluster.Done, "")
	a := *w.view.Assignment
	a.Restored, a.NotRestored = "1", "there is no such moment"
	w.view.Assignment = &a
	w.round(time.Minute)
	a.RestoredAt = w.now
	if s := w.round(time.Minute); w.full() != nil {
		t.Errorf("after a restore that was given up: %v", s.Reasons)
	}
	a.NotRestored = ""
	if s := w.round(time.Minute); w.full() == nil || !strings.Contains(w.full().Why, "taken back") {
		t.Errorf("%v", s.Reasons)
	}
	w.report(cluster.Done, "")
	if s := w.round(time.Minute); w.full() != nil {
		t.Errorf("after that one: %v", s.Reasons)
	}
	w.policy.Logical = true
	if w.round(25 * time.Hour); w.full() == nil || !w.full().Logical {
		t.Errorf("%+v", w.full())
	}
}
