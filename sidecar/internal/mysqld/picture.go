package mysqld

import (
	"context"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
)

// picture is what is wanted of the server and how it is, as far as that is not
// asked of the server itself. It is a value: who looks has a copy.
type picture struct {
	order *order // the newest; nil before the first

	// process is one of:
	//   Absent   nothing runs, and nothing has died unasked
	//   Starting the process was started and does not answer yet
	//   Running  server is set
	//   Crashed  the process has ended unasked
	//   Copying  there is no process; data is being made
	process cluster.Process
	since   time.Time        // when process became that
	server  *dbserver.Server // nil unless Running
	life    context.Context  // ends with the server's process
	asked   bool             // the process is being ended by us
	told    bool             // a report has said that it crashed

	// deposed: the process was to lead, and another server is to now. Nobody has told it
	// to yield: it may have commits that nobody has acknowledged.
	deposed bool

	// unstarted counts how often the server's process has ended before it answered, from
	// unstartedSince on. tried is when one was last tried on empty data, broken how its own
	// ends once that has shown that the data is why.
	unstarted             int
	unstartedSince, tried time.Time
	broken                string

	empty  bool // there is no data
	copied bool // the task is Clone, and the data is that of the source
	// restored is the ID of the last restore that was done. restoreTries counts how often
	// restoring has failed; restoreError is set once there is no use in another try.
	restored     string
	restoring    string
	restoreTries int
	restoreError string
	aside        string // where data from before restores is kept
	// confirmed is the epoch in which a primary that has crashed was told, after the
	// time for a failover, that it still leads.
	confirmed farm.Epoch
	// notBefore: something has failed, and is tried again then.
	notBefore time.Time

	// carried is the order that is carried out, nil if none is; verified is when
	// that was last seen to.
	carried  *order
	verified time.Time
	// lead ends when the server is no longer to lead; nil while it does not.
	lead   context.Context
	detail string // what is being done, or why it cannot be
}

// done reports whether the newest order is carried out, as far as the process and
// the loop know.
func (p picture) done() bool {
	switch p.order.task() {
	case "":
		return false
	case cluster.Fence, cluster.Retire:
		return p.process == cluster.Absent || p.process == cluster.Crashed
	}
	return p.process == cluster.Running && sameWork(p.carried, p.order)
}

// look returns the picture as it is now.
func (a *Agent) look() picture {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.picture
}

// change changes the picture. The loop and the reporter look at it again.
func (a *Agent) change(how func(*picture)) {
	a.mu.Lock()
	was := a.picture.process
	how(&a.picture)
	if a.picture.process != was {
		a.picture.since, a.picture.told = time.Now(), false
	}
	a.mu.Unlock()
	wake(a.news)
	wake(a.tell)
}

// say is change of the detail only, which the loop need not look at.
func (a *Agent) say(detail string) {
	a.mu.Lock()
	same := a.picture.detail == detail
	a.picture.detail = detail
	a.mu.Unlock()
	if !same {
		wake(a.tell)
	}
}

// wake fills a channel of one slot.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
