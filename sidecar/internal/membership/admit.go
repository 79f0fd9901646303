package membership

import (
	"fmt"

	"farmhand/internal/farm"
)

// Term is the newest epoch that was seen and the primary that it had; empty
// until it has had one.
type Term struct {
	Epoch   farm.Epoch `json:"epoch"`
	Primary string     `json:"primary,omitempty"`
}

// Admit decides whether a membership may follow what was seen before, as readers
// of the topology file do with it: an older epoch is refused, and so is a second
// primary in one epoch.
//
// A source that knows no epochs has them counted here: each change of primary is
// a new one. The snapshot returned has its epoch, 0 only if there has never been
// a primary.
func Admit(seen Term, s Snapshot) (Snapshot, Term, error) {
	primary, has := s.Primary()
	next := Term{s.Epoch, primary.Name}
	if s.Epoch == 0 {
		next.Epoch = seen.Epoch
		if has && primary.Name != seen.Primary {
			next.Epoch++
		}
		s.Epoch = next.Epoch
	}
	switch {
	case next.Epoch < seen.Epoch:
		return s, seen, fmt.Errorf("epoch %d is older than %d, which was seen already", next.Epoch, seen.Epoch)
	case next.Epoch > seen.Epoch:
	case !has:
		next.Primary = seen.Primary
	case seen.Primary != "" && seen.Primary != next.Primary:
		return s, seen, fmt.Errorf("epoch %d has %s for its primary already; a change to %s needs a higher epoch", next.Epoch, seen.Primary, next.Primary)
	}
	return s, next, nil
}
