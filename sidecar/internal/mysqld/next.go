package mysqld

import (
	"time"

	"farmhand/internal/cluster"
)

// step is one thing to do.
type step int

const (
	rest        step = iota // nothing, until something changes or the wait is over
	makeData                // make an empty server's data
	copyData                // copy another server's data
	restoreData             // make data of a backup
	start                   // start the process
	stop                    // shut the process down
	kill                    // end the process at once
	confirm                 // read the assignment again, to learn whether a crashed primary still leads
	carryOut                // have the running server do its task
)

func (s step) String() string {
	return [...]string{"rest", "make data", "copy data", "restore data", "start", "stop", "kill", "confirm", "carry out"}[s]
}

const (
	// leadAgain is for how long a primary that has crashed leaves its place to
	// others. Longer than a failover takes, shorter than people wait.
	leadAgain = 5 * time.Second
	// tellFirst is how long a process that has crashed waits, before it is started
	// again, for a report of that to be sent.
	tellFirst = 300 * time.Millisecond
	// verifyEvery is how often what is carried out is looked at again.
	verifyEvery = time.Second
)

// next is the one transition function: what is to be done in the picture, and if
// that is to rest, for how long at most.
func next(p picture, now time.Time) (step, time.Duration) {
	alive := p.process == cluster.Running
	if p.order == nil || !p.order.heard {
		return rest, verifyEvery // a server that runs goes on as it is
	}
	if left := p.notBefore.Sub(now); left > 0 {
		return rest, left
	}
	task := p.order.part.Task
	switch task {
	case "":
		return rest, verifyEvery
	case cluster.Fence:
		if alive {
			return kill, 0
		}
		return rest, verifyEvery
	case cluster.Retire:
		if alive {
			return stop, 0
		}
		return rest, verifyEvery
	case cluster.Lead:
		if r := p.order.part.Restore; r != nil && r.ID != p.restored {
			if alive {
				return kill, 0 // its data is replaced
			}
			return restoreData, 0
		}
	case cluster.Clone:
		if !p.copied && alive {
			return kill, 0 // its data is thrown away
		}
		if !p.copied {
			return copyData, 0
		}
	}
	switch {
	case alive && p.deposed:
		return kill, 0 // as Fence: started again it gives up what nobody has acknowledged
	case alive && sameWork(p.carried, p.order):
		if left := p.verified.Add(verifyEvery).Sub(now); left > 0 {
			return rest, left
		}
		return carryOut, 0
	case alive:
		return carryOut, 0
	case p.empty && (task == cluster.Lead || task == cluster.Follow):
		return makeData, 0
	case p.empty:
		return rest, verifyEvery // there is nothing to hold or to yield
	case task == cluster.Lead && p.process == cluster.Crashed && !p.order.alone() && p.confirmed != p.order.assignment.Epoch:
		if left := p.since.Add(leadAgain).Sub(now); left > 0 {
			return rest, left
		}
		return confirm, 0
	}
	if left := p.since.Add(tellFirst).Sub(now); p.process == cluster.Crashed && !p.told && left > 0 {
		return rest, left
	}
	return start, 0
}
