package safekeep

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
)

// How long is waited for what.
const (
	// fresh is the age to which a server's report says how it is.
	fresh = 5 * time.Second
	// lost is for how long nothing may be heard of an attempt.
	lost = time.Minute
	// The pause after a failure, doubled with each.
	firstPause, longestPause = 30 * time.Second, time.Hour
	// grudge is how long a server that failed comes after the others.
	grudge = 6 * time.Hour
	// tooLate is how far behind a replica may be and give a backup.
	tooLate = 10 * time.Minute
	// comes is how long is waited for a replica before the primary gives a backup.
	comes = 5 * time.Minute
)

// decision is one call of Next.
type decision struct {
	View
	policy Policy
	now    time.Time
	step   Step
	plan   cluster.BackupPlan // the next
	whys   []string
}

// Next makes the next plan.
func Next(v View, p Policy, m Memory, now time.Time) Step {
	d := &decision{View: v, policy: p, now: now, step: Step{Memory: m.clone()}}
	if p.Store == "" {
		return d.none()
	}
	d.plan = cluster.BackupPlan{
		Store: p.Store, EncryptTo: p.EncryptTo, Throttle: p.Throttle, Every: p.ArchiveEvery, Size: p.ArchiveSize,
	}
	if v.Plan != nil {
		d.plan.Term, d.plan.Serial, d.plan.Full, d.plan.Drill = v.Plan.Term, v.Plan.Serial, v.Plan.Full, v.Plan.Drill
	}
	d.archive()
	d.full()
	d.drill()
	if v.Plan == nil || !reflect.DeepEqual(d.plan, *v.Plan) {
		next := d.plan
		next.Term, next.Serial = v.Term, d.plan.Serial+1
		d.step.Plan = &next
		d.step.Minor = len(d.whys) == 0
		d.step.Why = cmp.Or(strings.Join(d.whys, "; "), "the plan of backups is another one")
	}
	return d.step
}

// none is the step of a cluster without backups: what was planned is taken back.
func (d *decision) none() Step {
	if r := d.Request; r != nil {
		d.step.Answer = Answer{Refused: true, Text: "the farm file has no store for backups (backups.store)"}
	}
	d.say("the farm file has no store for backups")
	return d.step
}

func (d *decision) say(format string, args ...any) {
	d.step.Reasons = append(d.step.Reasons, fmt.Sprintf(format, args...))
}

// decide notes what is decided, for the journal and for people.
func (d *decision) decide(format string, args ...any) {
	d.whys = append(d.whys, fmt.Sprintf(format, args...))
	d.say(format, args...)
}

func (m Memory) clone() Memory {
	m.Proven = maps.Clone(m.Proven)
	m.Full.Failed, m.Drill.Failed = maps.Clone(m.Full.Failed), maps.Clone(m.Drill.Failed)
	return m
}

// archive has the server that leads archive its binlog. A server that was replaced
// stops by itself: the assignment does not let it lead.
func (d *decision) archive() {
	leader, ok := d.Assignment.Leader()
	if !ok {
		d.say("nobody leads, and nobody archives")
		return
	}
	d.plan.Archive = &cluster.ArchiveTask{Node: leader.Name, Epoch: d.Assignment.Epoch}
	if r := d.Servers[leader.Name].Backup; r != nil && r.Archive != nil && r.Archive.Error != "" {
		d.say("%s does not archive at the moment: %s", leader.Name, r.Archive.Error)
	}
}

// full goes on with a full backup, or has one begun.
func (d *decision) full() {
	work := &d.step.Memory.Full
	if t := d.plan.Full; t != nil {
		s := d.Servers[t.Node]
		var r *cluster.FullReport
		if s.Backup != nil && s.Backup.Full != nil && s.Backup.Full.ID == t.ID {
			r = s.Backup.Full
		}
		switch ended := d.attempt(t.Node, t.Since); {
		case r != nil && r.State == cluster.Done:
			work.succeeded(Attempt{ID: t.ID, Node: t.Node, Began: r.Began, Ended: d.now})
			d.plan.Full, d.step.Look = nil, true
			d.decide("full backup %s of %s is complete", t.ID, t.Node)
		case r != nil && r.State == cluster.Failed:
			d.failed(work, Attempt{ID: t.ID, Node: t.Node, Began: t.Since, Error: r.Error}, "full backup")
			d.plan.Full, d.step.Look = nil, true
		case r != nil && s.BackupAge < lost:
			d.say("full backup %s of %s: %s", t.ID, t.Node, percent(r.Bytes, r.Total))
		case ended == "":
			d.say("full backup %s is to be taken of %s: %s", t.ID, t.Node, t.Why)
		case d.inStock(t.ID):
			work.succeeded(Attempt{ID: t.ID, Node: t.Node, Began: t.Since, Ended: d.now})
			d.plan.Full = nil
			d.decide("full backup %s of %s is complete, though nothing is heard of the server", t.ID, t.Node)
		default:
			d.failed(work, Attempt{ID: t.ID, Node: t.Node, Began: t.Since, Error: ended}, "full backup")
			d.tell(farm.BackupFailed, t.Node, map[string]string{"backup": t.ID, "reason": ended})
			d.plan.Full, d.step.Look = nil, true
		}
	}
	request := d.request(false)
	if d.plan.Full == nil {
		if why := d.fullDue(request); why != "" {
			d.begin(work, request, why, func(node string) {
				d.plan.Full = &cluster.FullTask{
					ID: d.NewID, Node: node, Since: d.now.UTC(), Why: why, Logical: d.policy.Logical || request != nil && request.Logical,
				}
				d.decide("a full backup of %s is taken: %s", node, why)
			})
		}
	}
	if request != nil {
		d.answer(work, request, d.plan.Full != nil)
	}
}

// request is what a person asks for of the kind.
func (d *decision) request(drill bool) *Request {
	if r := d.Request; r != nil && r.Drill == drill {
		return r
	}
	return nil
}

// fullDue says why a full backup is to be taken now; empty if it is not.
func (d *decision) fullDue(request *Request) string {
	work := &d.step.Memory.Full
	if request != nil && work.By != request.By {
		return "somebody asks for it"
	}
	if d.Stock == nil {
		d.say("it is not known yet what the store has%s", because(d.StockError))
		return ""
	}
	var last time.Time // the beginning of the newest
	if d.Stock.Newest >= 0 {
		last = d.Stock.Fulls[d.Stock.Newest].Began
	}
	unseen := work.Last != nil && work.Last.Ended.After(d.Stock.At) // it ended after the store was looked at
	if unseen && work.Last.Began.After(last) {
		last = work.Last.Began
	}
	if d.policy.Full.Never() {
		d.say("full backups are taken when somebody asks: the farm file has no schedule")
		return ""
	}
	if last.IsZero() {
		return "there is none yet"
	}
	if a := d.Assignment; a != nil && a.Restored != "" && a.NotRestored == "" && last.Before(a.RestoredAt) {
		return "the cluster was taken back since the last one"
	}
	if !unseen && d.Stock.Open {
		return "the archive has a gap since the last one"
	}
	if lead := d.plan.Archive; lead != nil && !unseen {
		if r := d.Servers[lead.Node].Backup; r != nil && r.Archive != nil && r.Archive.Epoch == lead.Epoch && r.Archive.Lost != "" && d.Stock.Newest >= 0 && d.lostSince(r, last) {
			return "the archive has lost transactions"
		}
	}
	due := d.policy.Full.Next(last, d.policy.zone())
	switch {
	case due.IsZero() || due.After(d.now):
		d.say("the next full backup is due at %s", due.In(d.policy.zone()).Format(time.DateTime))
	case !d.policy.inWindow(d.now):
		d.say("a full backup is due since %s; it waits for its window", due.In(d.policy.zone()).Format(time.DateTime))
	default:
		return "it is due since " + due.In(d.policy.zone()).Format(time.DateTime)
	}
	return ""
}

// lostSince reports whether an archiver that lost something has told so after a
// backup was begun: the report is newer, and the store does not show the gap yet.
func (d *decision) lostSince(r *cluster.BackupReport, began time.Time) bool {
	return r.Time.After(began) && r.Archive.Segments == 0 && d.Stock.At.Before(r.Time)
}

// begin gives a task to the best server, if nothing speaks against it.
func (d *decision) begin(work *Work, request *Request, why string, give func(node string)) {
	asked := request != nil && work.By != request.By
	switch {
	case d.Assignment == nil || d.Assignment.Phase != cluster.Steady:
		d.say("%s, and waits until the change of primary is over", why)
		return
	case d.Paused && !asked:
		d.say("%s, but the farm is paused", why)
		return
	case d.now.Before(work.NotBefore) && !asked:
		d.say("%s; after %d failures it is tried again at %s", why, work.Failures, work.NotBefore.In(d.policy.zone()).Format(time.TimeOnly))
		return
	}
	only := ""
	if asked {
		only = request.Node
	}
	node, reason := d.choose(work, only)
	if node == "" {
		d.say("%s, but %s", why, reason)
		if work.Waits.IsZero() {
			work.Waits = d.now
		}
		if asked && only != "" {
			d.step.Answer = Answer{Refused: true, Text: reason}
		}
		return
	}
	work.By, work.Waits = "", time.Time{}
	if request != nil {
		work.By = request.By
	}
	give(node)
}

// choose returns the server that is to do something, or why there is none.
func (d *decision) choose(work *Work, only string) (node, reason string) {
	type candidate struct {
		name   string
		failed bool
		late   time.Duration
	}
	var found []candidate
	var not []string
	for _, s := range d.Assignment.Servers {
		if only != "" && s.Name != only {
			continue
		}
		seen := d.Servers[s.Name]
		if s.Task == cluster.Lead {
			if only == s.Name && d.answers(seen) == "" {
				return s.Name, ""
			}
			continue
		}
		if why := d.gives(s, seen); why != "" {
			not = append(not, s.Name+" "+why)
			continue
		}
		c := candidate{name: s.Name, late: seen.Database.Beat.Truncate(10 * time.Second)}
		if at, ok := work.Failed[s.Name]; ok && d.now.Sub(at) < grudge {
			c.failed = true
		}
		found = append(found, c)
	}
	leader, leads := d.Assignment.Leader()
	if len(found) == 0 {
		switch seen := d.Servers[leader.Name]; {
		case only != "" && len(not) == 0:
			return "", "there is no server " + only
		case only == "" && leads && d.policy.FromPrimary && d.answers(seen) == "" && work == &d.step.Memory.Full:
			if d.policy.Alone || !work.Waits.IsZero() && d.now.Sub(work.Waits) >= comes {
				return leader.Name, ""
			}
			return "", fmt.Sprintf("there is no replica that can give it; the primary does after %v", comes)
		case len(not) == 0:
			return "", "there is no replica"
		}
		return "", "no replica can do it: " + strings.Join(not, "; ")
	}
	best := slices.MinFunc(found, func(a, b candidate) int {
		return cmp.Or(boolean(a.failed)-boolean(b.failed), cmp.Compare(a.late, b.late), cmp.Compare(a.name, b.name))
	})
	return best.name, ""
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// answers says why a server cannot be asked anything.
func (d *decision) answers(s Server) string {
	switch {
	case !s.Member || s.Database == nil || s.DatabaseAge > fresh:
		return "is not heard"
	case !s.Database.Answers:
		return "does not answer"
	case s.Leaving:
		return "is to leave"
	}
	return ""
}

// gives says why a replica cannot give a backup.
func (d *decision) gives(s cluster.Server, seen Server) string {
	if why := d.answers(seen); why != "" {
		return why
	}
	r := seen.Database.Replication
	switch {
	case s.Task != cluster.Follow || s.State != farm.Serving && s.State != farm.Warming:
		return "does not serve"
	case r == nil || r.Receiver != "Yes" || r.Applier != "Yes" || seen.Database.Errant != "" || seen.Database.Missing != "":
		return "does not replicate"
	case seen.Database.Beat == nil || *seen.Database.Beat > tooLate:
		return "is too far behind"
	}
	return ""
}

// attempt says why one that nobody reports has failed; empty while it may not have.
func (d *decision) attempt(node string, since time.Time) string {
	s := d.Servers[node]
	switch {
	case d.now.Sub(since) < lost:
		return ""
	case s.Backup == nil || s.BackupAge >= lost:
		return "nothing is heard of " + node
	}
	return node + " does not take it up"
}

func (d *decision) inStock(id string) bool {
	return d.Stock != nil && slices.ContainsFunc(d.Stock.Fulls, func(f Full) bool { return f.ID == id && f.Fault == "" })
}

func (w *Work) succeeded(a Attempt) {
	*w = Work{Last: &a, By: w.By}
}

// failed notes a failure and when the next try may be.
func (d *decision) failed(w *Work, a Attempt, what string) {
	a.Ended = d.now
	w.Failure = &a
	w.Failures++
	w.NotBefore = d.now.Add(pause(w.Failures))
	if w.Failed == nil {
		w.Failed = map[string]time.Time{}
	}
	w.Failed[a.Node] = d.now
	maps.DeleteFunc(w.Failed, func(_ string, at time.Time) bool { return d.now.Sub(at) >= grudge })
	d.decide("%s %s of %s has failed: %s", what, a.ID, a.Node, a.Error)
}

// pause is how long to wait after so many failures.
func pause(failures int) time.Duration {
	p := firstPause
	for range failures - 1 {
		if p *= 2; p >= longestPause {
			return longestPause
		}
	}
	return p
}

// tell has an event told of a node that cannot tell it by itself.
func (d *decision) tell(kind farm.EventKind, node string, fields map[string]string) {
	role, address := string(farm.Replica), "unknown"
	if s, ok := d.Assignment.Server(node); ok {
		address = s.Address
		if s.Task == cluster.Lead {
			role = string(farm.Primary)
		}
	}
	d.step.Events = append(d.step.Events, farm.Event{
		Kind: kind, Time: d.now, Host: farm.EventHost{Name: node, Role: role, Address: address}, Fields: fields,
	})
}

// answer says how a request stands.
func (d *decision) answer(work *Work, request *Request, running bool) {
	if d.step.Answer.Refused {
		return
	}
	text := ""
	if n := len(d.step.Reasons); n > 0 {
		text = d.step.Reasons[n-1]
	}
	switch {
	case work.By != request.By || running:
		d.step.Answer = Answer{Text: text}
	case work.Failure != nil && (work.Last == nil || work.Failure.Ended.After(work.Last.Ended)):
		d.step.Answer = Answer{Refused: true, Text: fmt.Sprintf("%s of %s: %s", work.Failure.ID, work.Failure.Node, work.Failure.Error)}
	case work.Last != nil:
		d.step.Answer = Answer{Done: true, Text: fmt.Sprintf("%s, of %s", work.Last.ID, work.Last.Node)}
	}
}

// drill goes on with a restore drill, or has one begun.
func (d *decision) drill() {
	work := &d.step.Memory.Drill
	if t := d.plan.Drill; t != nil {
		s := d.Servers[t.Node]
		var r *cluster.DrillReport
		if s.Backup != nil && s.Backup.Drill != nil && s.Backup.Drill.ID == t.ID {
			r = s.Backup.Drill
		}
		switch ended := d.attempt(t.Node, t.Since); {
		case r != nil && r.State == cluster.Done:
			if d.step.Memory.Proven == nil {
				d.step.Memory.Proven = map[string]Proof{}
			}
			d.step.Memory.Proven[r.Backup] = Proof{At: d.now.UTC(), Position: r.Position, Until: r.Until, Node: t.Node}
			work.succeeded(Attempt{ID: t.ID, Node: t.Node, Began: r.Began, Ended: d.now})
			d.plan.Drill = nil
			d.decide("a restore of backup %s is proven up to %s", r.Backup, r.Position)
		case r != nil && r.State == cluster.Failed:
			d.failed(work, Attempt{ID: t.ID, Node: t.Node, Began: t.Since, Error: cmp.Or(r.Error, r.Differs)}, "restore drill")
			d.plan.Drill = nil
		case r != nil && s.BackupAge < lost:
			d.say("restore drill %s on %s: %s", t.ID, t.Node, percent(r.Done, r.Total))
		case ended == "":
			d.say("restore drill %s is to be made on %s", t.ID, t.Node)
		default:
			d.failed(work, Attempt{ID: t.ID, Node: t.Node, Began: t.Since, Error: ended}, "restore drill")
			d.tell(farm.DrillFailed, t.Node, map[string]string{"drill": t.ID, "reason": ended})
			d.plan.Drill = nil
		}
	}
	if d.Stock != nil { // what is gone needs no proof
		maps.DeleteFunc(d.step.Memory.Proven, func(id string, p Proof) bool {
			return p.At.Before(d.Stock.At) && !slices.ContainsFunc(d.Stock.Fulls, func(f Full) bool { return f.ID == id })
		})
	}
	request := d.request(true)
	if d.plan.Drill == nil && d.plan.Full == nil {
		if why := d.drillDue(request); why != "" {
			d.begin(work, request, why, func(node string) {
				d.plan.Drill = &cluster.DrillTask{ID: "drill-" + d.NewID, Node: node, Since: d.now.UTC(), IdentityFile: d.policy.IdentityFile}
				d.decide("a restore is tried out on %s: %s", node, why)
			})
		}
	}
	if request != nil {
		d.answer(work, request, d.plan.Drill != nil)
	}
}

func (d *decision) drillDue(request *Request) string {
	work := &d.step.Memory.Drill
	asked := request != nil && work.By != request.By
	if d.Stock == nil || d.Stock.Newest < 0 {
		if asked && d.Stock != nil {
			d.step.Answer = Answer{Refused: true, Text: "there is no good backup that could be restored"}
		} else if asked {
			d.say("it is not known yet what could be restored%s", because(d.StockError))
		}
		return ""
	}
	if asked {
		return "somebody asks for it"
	}
	if d.policy.Drill.Never() {
		return ""
	}
	var last time.Time
	if work.Last != nil {
		last = work.Last.Began
	}
	for _, p := range d.step.Memory.Proven {
		if p.At.After(last) {
			last = p.At
		}
	}
	if last.IsZero() {
		return "no restore has been proven yet"
	}
	if due := d.policy.Drill.Next(last, d.policy.zone()); due.After(d.now) {
		d.say("the next restore drill is due at %s", due.In(d.policy.zone()).Format(time.DateTime))
		return ""
	}
	return "a restore drill is due"
}

// percent is how far something is, in tens: each of its texts is a step of the
// operation that asked for it.
func percent(n, of int64) string {
	if of <= 0 {
		return "begun"
	}
	return fmt.Sprintf("%d %% of about %d MiB", min(10, 10*n/of)*10, of>>20)
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}
