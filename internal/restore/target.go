package restore

import (
	"fmt"
	"time"

	"farmhand/internal/gtid"
)

// Target is the moment to which a cluster is restored. The zero value is the newest
// that there is. At most one field is set.
type Target struct {
	// Time: everything is restored that comes before the first transaction that the
	// binlog dates later. It dates transactions in whole seconds, a statement that is
	// a transaction of its own by its beginning.
	Time time.Time
	// Position is a GTID position, as the servers write it: of MariaDB the last transaction
	// of each domain, of MySQL the whole set, as @@gtid_executed says it.
	Position string
}

// ParseTarget reads "latest", a time as of RFC 3339, or a GTID position.
func ParseTarget(text string) (Target, error) {
	if text == "latest" || text == "" {
		return Target{}, nil
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return Target{Time: at}, nil
	}
	_, day := time.Parse(time.DateOnly, text) // it could be a GTID as well
	if p, err := gtid.Read(text); err == nil && !p.IsZero() && day != nil {
		return Target{Position: p.String()}, nil
	}
	return Target{}, fmt.Errorf("%q is no moment to restore to; expected \"latest\", a time with its zone such as 2026-11-28T17:04:05Z or 2026-11-28T18:04:05+01:00, or a GTID position such as 0-1-1234 of MariaDB or, whole, 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-1234 of MySQL", text)
}

func (t Target) position() (gtid.Position, error) { return gtid.Read(t.Position) }

func (t Target) String() string {
	switch {
	case !t.Time.IsZero():
		return t.Time.UTC().Format(time.RFC3339Nano)
	case t.Position != "":
		return t.Position
	}
	return "latest"
}
