package decide

// Decision is what is to be done about a role, and why.
type Decision struct {
	// Wanted is the number of servers that there are to be, for the next picture.
	// More are there if it is not safe yet that some go.
	Wanted  int
	Actions []Action
	Reasons []Reason
}

// ActionKind is what is to be done.
type ActionKind string

// The actions.
const (
	Launch    ActionKind = "launch"
	Terminate ActionKind = "terminate"
)

// Action is one thing to do.
type Action struct {
	Kind   ActionKind
	Count  int    // Launch: how many
	Server string // Terminate: which
	Why    string
}

// ReasonKind is what a reason is about.
type ReasonKind string

// The kinds of reason. The first three say what is; the others what held
// something back, or what brought it about.
const (
	Seen       ReasonKind = "seen"       // what the servers do
	Asked      ReasonKind = "asked"      // what a metric asks for
	Chosen     ReasonKind = "chosen"     // why this server goes
	Replaced   ReasonKind = "replaced"   // servers were lost, or are back
	Bound      ReasonKind = "bound"      // min or max of the role
	Scheduled  ReasonKind = "schedule"   // the least number at this time
	Cooldown   ReasonKind = "cooldown"   // too soon after the last change
	Step       ReasonKind = "step"       // not so many at a time
	Window     ReasonKind = "window"     // the window has samples from before the last change
	Unknown    ReasonKind = "unknown"    // a metric is missing
	Pending    ReasonKind = "pending"    // an earlier decision is not done yet
	Projection ReasonKind = "projection" // what is left would have too much to do
	LastOne    ReasonKind = "last"       // the last replica
	Sources    ReasonKind = "source"     // somebody copies from it
)

// Reason is one line for people.
type Reason struct {
	Kind ReasonKind
	Text string
}
