package steer

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
)

// world is a cluster that is only thought of, in ticks of 100 ms: servers that
// replicate, sidecars that carry out assignments, clients that write, and links
// that fail. It keeps what was acknowledged to clients.
type world struct {
	policy     Policy
	tick       int
	assignment *cluster.Assignment
	servers    map[string]*server
	cut        map[[2]string]bool // links that are down, both ways; "scaler" is one end
	request    *Request
	answer     Answer
	paused     bool
	reasons    []string
	acked      []int // transactions that a client was told have been committed
	ackers     map[int]string
	nextWrite  int
	leaders    map[farm.Epoch]string
	failovers  int
	probeFails int
	fault      string // the first broken invariant
	story      []string
	// restoredTo is how many transactions a backup has; notRestored is why none can be used.
	restoredTo  int
	notRestored string
	stored      *Stored
}

const tick = 100 * time.Millisecond

// server is one server and its sidecar.
type server struct {
	name string
	id   uint32
	// up is the process; node is the machine with the sidecar.
	up, node, frozen bool
	data             bool // there is any
	inherits         bool // its disk was another's
	log              []int
	relay            []int
	// waiting are transactions of clients that nobody has acknowledged yet.
	waiting      []int
	writable     bool
	semiSync     bool
	source       string
	receives     bool
	acks         bool
	intact       bool
	crashed      bool
	errant       bool // it has a transaction of its own
	missing      bool // it lacks something that its position has
	rotten       bool // its process ends whenever it is started
	unstarted    int  // ticks for which it has done so
	copied       bool // since it was told to clone
	restored     string
	restoreError string
	unrestored   string // the restore that it is of
	copiedBefore *cluster.Copied
	// recovering: it was started again and gives up what it told nobody.
	recovering bool
	slow       int // ticks that it takes to apply one transaction more
	// known is the assignment that the sidecar has; left is how many ticks it needs yet.
	known      *cluster.Assignment
	obeyed     *cluster.Assignment // the one that was acted on
	left       int
	lastCommit int
	lastHeard  int // tick of the registry's last answer
	lastGot    int
	asked      bool // something has come by the connection by which it acknowledges: what came by another before is acknowledged with that
	report     *cluster.Report
	reportedAt int
}

func newWorld(n int) *world {
	w := &world{policy: DefaultPolicy(), servers: map[string]*server{}, cut: map[[2]string]bool{}, ackers: map[int]string{}, leaders: map[farm.Epoch]string{}}
	w.policy.Deadline, w.policy.Quiet, w.policy.AvailableAfter = 10*time.Second, time.Minute, 20*time.Second
	for i := range n {
		w.add(fmt.Sprintf("db%d", i+1))
	}
	return w
}

func (w *world) add(name string) {
	w.servers[name] = &server{name: name, node: true, reportedAt: -1000, lastGot: -1000}
}

func (w *world) linked(a, b string) bool { return !w.cut[[2]string{a, b}] && !w.cut[[2]string{b, a}] }

func (w *world) broken(format string, args ...any) {
	if w.fault == "" {
		w.fault = fmt.Sprintf("tick %d: ", w.tick) + fmt.Sprintf(format, args...)
	}
}

// run lets n ticks pass.
func (w *world) run(n int) {
	for range n {
		w.tick++
		w.replicate()
		w.write()
		for _, name := range slices.Sorted(maps.Keys(w.servers)) {
			w.sidecar(w.servers[name])
		}
		w.lead()
	}
}

// until lets ticks pass until ok, at most limit of them.
func (w *world) until(limit int, ok func() bool) bool {
	for range limit {
		if ok() {
			return true
		}
		w.run(1)
	}
	return ok()
}

func (s *server) working() bool { return s.node && s.up && !s.frozen }

// replicate moves transactions from sources to followers, and acknowledges them.
func (w *world) replicate() {
	for _, f := range w.servers {
		if !f.working() {
			continue
		}
		if src := w.servers[f.source]; f.receives && src != nil && src.working() && w.linked(f.name, src.name) {
			have := len(f.log) + len(f.relay)
			f.intact = true
			if have <= len(src.log) {
				f.relay = append(f.relay, src.log[have:]...)
				f.asked = f.asked || f.acks && have < len(src.log)
				// Heartbeats are commits: they wait as others do.
				if w.tick-src.lastCommit <= 1 {
					f.lastGot = w.tick
				}
			}
			if f.acks && w.tick-src.lastCommit > 10 { // its sidecar says again what it has
				f.asked = true
			}
			if f.acks && f.asked {
				w.acknowledge(src, f)
			}
		}
		if len(f.relay) > 0 && (f.slow == 0 || w.tick%f.slow == 0) {
			f.log, f.relay = append(f.log, f.relay[0]), f.relay[1:]
			if f.slow == 0 {
				f.log, f.relay = append(f.log, f.relay...), nil
			}
		}
	}
}

func (w *world) acknowledge(src, f *server) {
	src.waiting = slices.DeleteFunc(src.waiting, func(x int) bool {
		if !slices.Contains(f.log, x) && !slices.Contains(f.relay, x) {
			return false
		}
		w.commit(src, x)
		return true
	})
	src.lastCommit = w.tick
}

// commit tells a client that x is committed.
func (w *world) commit(s *server, x int) {
	w.acked = append(w.acked, x)
	if other, ok := w.ackers[w.tick]; ok && other != s.name {
		w.broken("%s and %s both acknowledge writes", other, s.name)
	}
	w.ackers[w.tick] = s.name
}

// write is a client whose proxy knows the primary.
func (w *world) write() {
	if w.assignment == nil || w.assignment.Primary == "" {
		return
	}
	// And one whose proxy is late, for all it knows.
	for _, s := range w.servers {
		if s.working() && s.writable && len(s.waiting) < 3 {
			w.nextWrite++
			s.log = append(s.log, w.nextWrite)
			if s.semiSync {
				s.waiting = append(s.waiting, w.nextWrite)
			} else {
				w.commit(s, w.nextWrite)
				s.lastCommit = w.tick
			}
		}
	}
}

// sidecar takes up the newest assignment, carries it out and reports.
func (w *world) sidecar(s *server) {
	if !s.node {
		return
	}
	connected := w.linked(s.name, "scaler")
	if connected {
		s.lastHeard = w.tick
		if w.assignment != nil && w.assignment.Newer(s.known) {
			s.known, s.left = w.assignment, 1
		}
	}
	me, member := s.known.Server(s.name)
	if s.left > 0 {
		s.left--
	} else if member {
		w.obey(s, me)
		s.obeyed = s.known
	}
	// A lease of 6 s.
	if member && me.Task == cluster.Lead && s.up && w.tick-s.lastHeard > 60 && len(s.known.Servers) > 1 && (!s.semiSync || w.tick-s.lastCommit > 20) {
		w.kill(s)
	}
	// Reports do not come at the same time: what the primary had written when it
	// said so, others have a moment later.
	if connected && (!s.writable || w.tick%2 == 0 || s.left > 0) {
		w.tell(s, me, member)
	}
}

func (w *world) kill(s *server) {
	s.up, s.writable, s.crashed, s.waiting, s.relay, s.intact, s.frozen, s.receives = false, false, true, nil, nil, false, false, false
}

// start begins the process. For how long it hears nothing counts from then on.
func (w *world) start(s *server) {
	switch {
	case s.up:
	case s.rotten:
		s.crashed = true
		s.unstarted++
	default:
		s.lastGot = w.tick
		s.up, s.crashed, s.writable, s.receives, s.recovering = true, false, false, false, true
	}
}

func (w *world) obey(s *server, me cluster.Server) {
	s.id = me.ID
	s.copied = s.copied && me.Task == cluster.Clone
	if s.frozen && me.Task != cluster.Fence {
		return // nothing answers the sidecar
	}
	if r := me.Restore; r != nil && s.restored != r.ID {
		if w.notRestored != "" {
			s.up, s.writable, s.waiting, s.restoreError, s.unrestored = false, false, nil, w.notRestored, r.ID
			return
		}
		if me.Task == cluster.Lead {
			w.restore(s, r.ID)
			return
		}
	}
	switch me.Task {
	case cluster.Lead:
		if s.crashed {
			// Only after the leader has had its time.
			if w.tick-s.reportedAt < 0 || w.tick%50 != 0 || !w.linked(s.name, "scaler") && len(s.known.Servers) > 1 {
				return
			}
		}
		fresh := !s.up || s.source != "" || !s.writable
		if w.start(s); !s.up {
			return
		}
		if s.missing {
			w.broken("%s is promoted and lacks something", s.name)
		}
		s.data, s.intact, s.source, s.receives = true, true, "", false
		if s.semiSync = s.known.SemiSync; fresh {
			if len(s.relay) > 0 {
				w.broken("%s is promoted with %d transactions unapplied", s.name, len(s.relay))
			}
			s.writable, s.lastCommit = true, w.tick
		}
		if !s.semiSync {
			for _, x := range s.waiting {
				w.commit(s, x)
			}
			s.waiting = nil
		}
		w.leads(s)
	case cluster.Yield:
		s.writable = false
	case cluster.Hold:
		w.demote(s)
		s.receives = false
	case cluster.Follow:
		if w.demote(s); !s.up {
			return
		}
		src := w.servers[me.Source]
		if len(s.relay) > 0 && s.source != me.Source {
			return // applied first
		}
		// Semi-synchronous recovery of one that led: the tail that nobody acknowledged goes.
		if s.recovering && src != nil && src.data {
			s.log = s.log[:common(s.log, src.log)]
		}
		s.recovering = false
		if s.source != me.Source || s.acks != me.Acknowledges {
			s.asked = false
		}
		s.source, s.receives, s.acks = me.Source, true, me.Acknowledges
	case cluster.Clone:
		if src := w.servers[me.Source]; src != nil && src.working() && w.linked(s.name, src.name) {
			s.rotten, s.unstarted = false, 0
			w.start(s)
			s.missing, s.copied = src.missing, true
			s.log, s.relay, s.source, s.receives, s.data, s.acks, s.writable = slices.Clone(src.log), nil, me.Source, true, true, false, false
			s.errant = false
		}
	case cluster.Fence:
		if s.up {
			w.kill(s)
		}
		s.crashed = false
	case cluster.Retire:
		s.up, s.writable, s.receives = false, false, false
	}
}

// restore gives a server the data of a backup, which is what clients were told from
// then on.
func (w *world) restore(s *server, id string) {
	w.kill(s)
	s.rotten, s.unstarted = false, 0
	w.restoredTo = min(w.restoredTo, len(s.log))
	if len(s.log) > 0 {
		s.log = slices.Clone(s.log[:w.restoredTo])
	} else {
		for len(s.log) < w.restoredTo {
			w.nextWrite++
			s.log = append(s.log, w.nextWrite)
		}
	}
	s.crashed, s.data, s.restored = false, true, id
	w.acked = slices.DeleteFunc(w.acked, func(x int) bool { return !slices.Contains(s.log, x) })
}

// demote makes a replica of what may have led. One that led is started again,
// and gives up the transactions that it has told nobody.
func (w *world) demote(s *server) {
	if s.writable {
		s.up, s.writable, s.waiting = false, false, nil
	}
	if !s.up {
		s.intact = false
		w.start(s)
	}
}

func common(a, b []int) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func prefix(a, b []int) bool { return common(a, b) == len(a) }

func (w *world) leads(s *server) {
	if who, ok := w.leaders[s.known.Epoch]; ok && who != s.name {
		w.broken("%s and %s both lead in epoch %d", who, s.name, s.known.Epoch)
	}
	w.leaders[s.known.Epoch] = s.name
}

// tell is the sidecar's report.
func (w *world) tell(s *server, me cluster.Server, member bool) {
	r := &cluster.Report{Name: s.name, Flavor: farm.MariaDB, CloneAt: s.name + ":1", Empty: !s.data, Answers: s.working(), Process: cluster.Absent, Intact: s.intact, Lease: true}
	switch {
	case s.up:
		r.Process = cluster.Running
	case s.crashed:
		r.Process = cluster.Crashed
	}
	if s.known != nil {
		r.Epoch, r.Serial = s.known.Epoch, s.known.Serial
	}
	if member {
		r.Task = me.Task
	}
	gtid := func(n int) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf("0-1-%d", n)
	}
	r.Executed, r.Received = gtid(len(s.log)), gtid(len(s.log)+len(s.relay))
	r.Writable, r.SemiSync = s.writable, s.semiSync
	if s.writable && len(s.waiting) > 0 {
		r.Stalled = time.Duration(w.tick-s.lastCommit) * tick
	}
	src := w.servers[s.source]
	receiving := s.receives && src != nil && src.node && src.up && w.linked(s.name, s.source)
	if s.source != "" {
		r.Replication = &cluster.Replication{Receiver: "No", Applier: "Yes", Acknowledges: s.acks && receiving}
		if receiving {
			r.Replication.Receiver = "Yes"
		} else if s.receives {
			r.Replication.Receiver = "Connecting"
		}
		age := time.Duration(w.tick-s.lastGot) * tick
		r.ReceivedAge = &age
		beat := age + time.Duration(len(s.relay))*tick
		r.Beat = &beat
	}
	for _, f := range w.servers {
		if f.receives && f.source == s.name && f.working() && w.linked(f.name, s.name) {
			r.Receivers = append(r.Receivers, f.id)
		}
	}
	if member && s.obeyed == s.known {
		switch me.Task {
		case cluster.Lead:
			r.Done = s.up && s.writable
		case cluster.Yield:
			r.Done = !s.writable
		case cluster.Hold:
			r.Done = s.up && !s.receives
		case cluster.Follow, cluster.Clone:
			r.Done = s.up && receiving && s.source == me.Source && (s.copied || me.Task == cluster.Follow)
			if src != nil && receiving && !prefix(s.log, src.log) || s.errant {
				r.Errant = "0-9-9"
			}
		case cluster.Fence, cluster.Retire:
			r.Done = !s.up
		}
	}
	if s.missing {
		r.Missing = "0-8-8"
	}
	if s.unstarted > 100 {
		r.Broken = "it ends"
	}
	r.Copied = s.copiedBefore
	if r.Restored = s.restored; me.Restore != nil && me.Restore.ID == s.unrestored {
		r.RestoreError = s.restoreError
	}
	s.report, s.reportedAt = r, w.tick
}

// lead is the scaler.
func (w *world) lead() {
	v := View{Term: 1, Assignment: w.assignment, Servers: map[string]Seen{}, Request: w.request, Paused: w.paused, Stored: w.stored}
	for name, s := range w.servers {
		v.Servers[name] = Seen{Address: fmt.Sprintf("127.0.0.%s:3306", name[2:]), Report: s.report, Age: time.Duration(w.tick-s.reportedAt) * tick, Member: w.tick-s.lastHeard < 80, Inherits: s.inherits}
	}
	if leader, ok := w.assignment.Leader(); ok {
		if s := w.servers[leader.Name]; s != nil && s.working() && w.linked(s.name, "scaler") {
			w.probeFails = 0
		} else if w.tick%5 == 0 {
			w.probeFails++
		}
		v.Probe = Probe{Failed: w.probeFails, Why: "no answer"}
	} else {
		w.probeFails = 0
	}
	step := Next(v, w.policy, time.Unix(0, 0).Add(time.Duration(w.tick)*tick))
	w.reasons = step.Reasons
	if step.Answer.Text != "" {
		if w.answer = step.Answer; step.Answer.Done || step.Answer.Refused {
			w.request = nil
		}
	}
	a := step.Assignment
	if a == nil {
		return
	}
	if err := a.Check(); err != nil {
		w.broken("%v", err)
	}
	if old := w.assignment; old != nil {
		if !a.Newer(old) || a.Epoch > old.Epoch+1 {
			w.broken("epoch %d, serial %d after epoch %d, serial %d", a.Epoch, a.Serial, old.Epoch, old.Serial)
		}
		if a.Phase == cluster.Electing && old.Phase != cluster.Electing {
			w.failovers++
		}
	}
	w.assignment = a
	w.story = append(w.story, fmt.Sprintf("%5d epoch %d: %s", w.tick, a.Epoch, a.Why))
}

// steadyState reports whether everybody does what the assignment says and serves.
func (w *world) steadyState() bool {
	a := w.assignment
	if a == nil || a.Phase != cluster.Steady || a.Primary == "" || len(a.Servers) != len(w.servers) {
		return false
	}
	for _, s := range a.Servers {
		r := w.servers[s.Name].report
		if r == nil || w.servers[s.Name].reportedAt < w.tick-1 || !r.Done || r.Serial != a.Serial || !whole(r) {
			return false
		}
		if s.Name != a.Primary && (s.Task != cluster.Follow || s.Source != a.Primary || s.State != farm.Serving || s.Weight != farm.DefaultWeight || !s.Acknowledges) {
			return false
		}
	}
	return len(a.Servers) == 1 || a.Durable
}

// lost are the acknowledged transactions that the primary has not.
func (w *world) lost() []int {
	p := w.servers[w.assignment.Primary]
	return slices.DeleteFunc(slices.Clone(w.acked), func(x int) bool { return slices.Contains(p.log, x) })
}
