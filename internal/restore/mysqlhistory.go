package restore

import (
	"fmt"

	"farmhand/internal/binlog"
	"farmhand/internal/gtid"
)

// set is a MySQL server's history: a set of transactions, whose names are theirs alone.
// One that is asked for must be what the cluster had at a moment: in the order in which
// they were committed nothing is left out before its last one.
type set struct {
	base, at gtid.Position
	to       gtid.Position // empty: none is asked for
	passed   string        // the first one that is not in to; empty for none
}

func (s *set) had(x *binlog.Transaction) (bool, error) { return s.at.Contains(x.Position), nil }
func (s *set) original(x *binlog.Transaction) bool     { return s.base.Contains(x.Position) }

func (s *set) wanted(x *binlog.Transaction) (bool, error) {
	if !s.to.Contains(x.Position) {
		if s.passed == "" {
			s.passed = x.String()
		}
		return false, nil
	}
	if s.passed != "" {
		return false, fmt.Errorf("%s was committed after %s, which the position that is asked for leaves out: the cluster never was there", x, s.passed)
	}
	return true, nil
}

func (s *set) add(x *binlog.Transaction) error {
	s.at = s.at.Merge(x.Position)
	return nil
}

func (s *set) reached() bool { return s.at.Contains(s.to) }

func (s *set) ended() error {
	if !s.at.Equal(s.to) {
		return fmt.Errorf("there is no such moment as %s; what there is leads to %s", s.to, s.at)
	}
	return nil
}

func (s *set) position() string    { return s.at.String() }
func (s *set) wrote() gtid.Streams { return nil }
