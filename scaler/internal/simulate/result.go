package simulate

import (
	"time"

	"farmhand/scaler/internal/decide"
)

// Result is what a replay showed.
type Result struct {
	From  time.Time    `json:"from"`
	To    time.Time    `json:"to"`
	Roles []RoleResult `json:"roles"`
	// LeftOut are roles and metrics that the trace says nothing about.
	LeftOut []string `json:"left_out"`
}

// RoleResult is what became of a role.
type RoleResult struct {
	Name       string `json:"name"`
	Fewest     int    `json:"fewest"`
	Most       int    `json:"most"`
	Launched   int    `json:"launched"`
	Terminated int    `json:"terminated"`
	Fleet      Fleet  `json:"scaled"`
	Fixed      Fleet  `json:"fixed"` // of as many servers as the peak and half of it need
	Count      int    `json:"fixed_servers"`
	// AtMax is how long they were overloaded with as many servers as are allowed.
	AtMax  float64 `json:"overloaded_at_max_seconds"`
	Steps  []Step  `json:"steps"`
	Points []Point `json:"-"`
	Unit   string  `json:"unit"`
}

// Fleet is what servers cost, and whether they were enough.
type Fleet struct {
	Hours float64 `json:"server_hours"`
	Cost  float64 `json:"cost"`
	// Overloaded is how long the servers had more to do than they can.
	Overloaded float64 `json:"overloaded_seconds"`
	Worst      float64 `json:"worst_use"` // 1 is all that a server can do
	NotServed  float64 `json:"not_served"`
}

// Step is a decision that did something, or the one at the beginning of an
// overload, whose reasons tell what held it back.
type Step struct {
	At      time.Time `json:"at"`
	What    string    `json:"what"`
	Why     string    `json:"why"`
	Reasons []Line    `json:"reasons"`
}

// Line is a reason of a decision.
type Line struct {
	Kind decide.ReasonKind `json:"kind"`
	Text string            `json:"text"`
}

// Point is what was at a time, for a plot.
type Point struct {
	At       time.Time
	Load     float64 // that the servers share, per second
	Capacity float64 // what the ready ones can do of it beside the writes
	Servers  int     // that are paid for
	Ready    int     // that do their part, a primary included
}

func (p *Point) overloaded() bool { return p.Load > p.Capacity }

// fleet counts what a fleet costs.
type fleet struct {
	hours, seconds, worst float64
	asked, excess         float64
}

// add counts a time in which n servers were paid for and carriers shared the load.
func (f *fleet) add(d time.Duration, n, carriers int, l load, capacity float64) {
	f.hours += float64(n) * d.Hours()
	use := l.use(carriers, capacity)
	if use > 1 {
		f.seconds += d.Seconds()
	}
	f.worst = max(f.worst, use)
	f.asked += l.shared * d.Seconds()
	f.excess += l.excess(carriers, capacity) * d.Seconds()
}

func (f *fleet) result(price float64) Fleet {
	r := Fleet{Hours: f.hours, Cost: f.hours * price, Overloaded: f.seconds, Worst: f.worst}
	if f.asked > 0 {
		r.NotServed = f.excess / f.asked
	}
	return r
}
