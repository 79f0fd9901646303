package roles

import (
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
)

// Inputs are what there is to see of a role. Nothing in them is changed.
type Inputs struct {
	// Instances are all of the role's that the provider has.
	Instances []Instance
	// Members are the nodes that hold their membership in the registry, by name.
	Members map[string]bool
	// Reports are the nodes' last ones, by name.
	Reports map[string]Report
	// Assignment is the newest of a role of kind mysql; nil if there is none yet, and
	// for other roles.
	Assignment *cluster.Assignment
	// Proxies are the web nodes through which a role of kind mysql is used.
	Proxies []Proxy
	// Hooks are how far the hooks of before-host-terminate are of the servers that leave,
	// by their names; of one that is missing none is waited for.
	Hooks map[string]Hooks
	// Sources are servers that somebody else copies from, such as a backup.
	Sources map[string]bool
	// Elsewhere says that servers of other roles are heard of: if nothing is heard of any of this
	// one, it is not us. False is not known.
	Elsewhere bool
	// Paused keeps what is not under way from being begun.
	Paused bool
}

// Instance is a machine.
type Instance struct {
	Name     string
	Launched time.Time
	Slot     int  // as it was launched with
	Runs     bool // false: it has stopped, though it is there
}

// Report is what a node said last.
type Report struct {
	Heard time.Time // when it came, by our clock; zero if nobody knows
	// Well says that the node's service works.
	Well bool
	// Clients is the number of client sessions; nil is unknown.
	Clients *float64
	// Jobs is how many it works on, where that is another question than who uses it; nil
	// is unknown.
	Jobs *float64
	// Retired says that the server has shut down because it was told to.
	Retired bool
}

// busy reports whether its end would cut something short, as far as is known.
func (r Report) busy() bool {
	does := r.Jobs
	if does == nil {
		does = r.Clients
	}
	return does == nil || *does > 0
}

// DatabaseReport is what a database server's report, which came at heard, says here.
func DatabaseReport(r *cluster.Report, heard time.Time) Report {
	report := Report{
		Heard:   heard,
		Well:    r.Process == cluster.Running && r.Answers,
		Retired: r.Task == cluster.Retire && r.Done && (r.Process == cluster.Absent || r.Process == cluster.Crashed),
	}
	if clients, ok := r.Load[cluster.LoadClients]; ok && r.Answers {
		report.Clients = &clients
	}
	return report
}

// Hooks are those of the farm's nodes that run before one server's end.
type Hooks struct {
	Told    bool     // a node has been told
	Pending []string // the nodes on which they have not ended
	Failed  []string // the nodes on which not all ended well
}

// Proxy is a web node's.
type Proxy struct {
	Serial uint64 // of the assignment that it goes by
	Heard  time.Time
}

// sight is one server as it is seen at one time.
type sight struct {
	there  bool // the provider has it
	runs   bool
	heard  bool // its node is a member, or has said something just now
	ready  bool // it has its share of the load
	report Report
	fresh  bool // the report is from just now
	// part is its part in the assignment.
	part     cluster.Server
	assigned bool
	leads    bool // it is the primary or becomes it
}

// see looks at one server.
func (n *next) see(name string) sight {
	s := sight{report: n.in.Reports[name]}
	if i, ok := n.instances[name]; ok {
		s.there, s.runs = true, i.Runs
	}
	s.fresh = n.now.Sub(s.report.Heard) <= n.limits.Fresh
	s.heard = s.fresh || n.in.Members[name]
	s.part, s.assigned = n.in.Assignment.Server(name)
	s.ready = s.runs && s.fresh && s.report.Well
	if n.policy.Primary {
		s.leads = s.assigned && (s.part.Task == cluster.Lead || n.in.Assignment.Primary == name || n.in.Assignment.Target == name)
		s.ready = s.ready && (s.assigned && n.in.Assignment.Primary == name || s.part.Task == cluster.Follow && s.part.State == farm.Serving)
	}
	return s
}
