package checker

import (
	"fmt"
	"time"
)

// Problem is a way in which a farm's answers are wrong.
type Problem string

// The problems. The first four are of reads and are held against the farm only
// where the level that it ran at promises otherwise.
const (
	OwnMissed    Problem = "a session missed its own write"
	WentBack     Problem = "a session's reads went back in time"
	FarmMissed   Problem = "a session missed what was committed before its first read"
	StrictMissed Problem = "a read missed what was committed before it"

	// Undone: a read had shown a write, nobody had been told that the write was
	// committed, and a later read of another session does not show it. Counted,
	// not held against any level: none promises what nobody was told.
	Undone Problem = "a read missed what another session had been shown before"

	Phantom    Problem = "a read shows what was never written"
	Forked     Problem = "two reads show states of which neither came before the other"
	WrongSum   Problem = "money was made or lost"
	Lost       Problem = "an acknowledged write is lost"
	Duplicated Problem = "a write happened twice"
	Raised     Problem = "a write that failed has happened"
	Diverged   Problem = "servers differ in the end"
)

// Violation is one wrong answer, with what shows that it is wrong.
type Violation struct {
	Problem Problem `json:"problem"`
	Text    string  `json:"text"`
	// Op is the operation that is wrong; Against the one that it contradicts, if
	// there is one.
	Op      *Op `json:"op,omitempty"`
	Against *Op `json:"against,omitempty"`
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s", v.Problem, v.Text) }

// Report is what a history shows.
type Report struct {
	// Level is what the farm was to keep.
	Level Level
	// Reads and Writes count operations, of whatever outcome.
	Reads, Writes int
	// ByServer counts the reads that each server answered.
	ByServer map[uint32]int
	// Stale counts, for each level, the reads that are older than it allows.
	Stale [levels]int
	// Oldest is, for each level, the longest time between the moment from which a
	// read had to see something that it missed and the read's beginning.
	Oldest [levels]time.Duration
	// Undone counts the reads of that problem.
	Undone int
	// Failed and Unknown count operations by outcome.
	Failed, Unknown int
	// Lost and Duplicated count writes.
	Lost, Duplicated int
	// Violations are the answers that are wrong at Level, the first maxKept of
	// each problem; Wrong counts them all.
	Violations []Violation
	Wrong      map[Problem]int
}

// maxKept bounds the violations of one problem that a report keeps.
const maxKept = 5

func (r *Report) add(v Violation) {
	if r.Wrong == nil {
		r.Wrong = map[Problem]int{}
	}
	r.Wrong[v.Problem]++
	if r.Wrong[v.Problem] <= maxKept {
		r.Violations = append(r.Violations, v)
	}
}

// Add adds another report of a farm at the same level.
func (r *Report) Add(o *Report) {
	r.Reads += o.Reads
	r.Writes += o.Writes
	if r.ByServer == nil {
		r.ByServer = map[uint32]int{}
	}
	for server, n := range o.ByServer {
		r.ByServer[server] += n
	}
	for l := range r.Stale {
		r.Stale[l] += o.Stale[l]
		r.Oldest[l] = max(r.Oldest[l], o.Oldest[l])
	}
	r.Undone += o.Undone
	r.Failed += o.Failed
	r.Unknown += o.Unknown
	r.Lost += o.Lost
	r.Duplicated += o.Duplicated
	r.Violations = append(r.Violations, o.Violations...)
	if r.Wrong == nil {
		r.Wrong = map[Problem]int{}
	}
	for p, n := range o.Wrong {
		r.Wrong[p] += n
	}
}
