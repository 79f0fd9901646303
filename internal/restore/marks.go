package restore

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"farmhand/internal/gtid"
)

// marks are a MariaDB position, by replication domain.
type marks map[uint32]mark

// mark is the last transaction of a domain, and who wrote it.
type mark struct {
	server uint32
	number uint64
}

func marksOf(p gtid.Position) (marks, error) {
	m := marks{}
	if p.IsZero() {
		return m, nil
	}
	for one := range strings.SplitSeq(p.String(), ",") {
		var domain uint32
		var k mark
		if n, err := fmt.Sscanf(one, "%d-%d-%d", &domain, &k.server, &k.number); n != 3 {
			return nil, fmt.Errorf("position %q is not MariaDB's: %w", p, err)
		}
		m[domain] = k
	}
	return m, nil
}

func (m marks) String() string {
	var all []string
	for _, domain := range slices.Sorted(maps.Keys(m)) {
		all = append(all, fmt.Sprintf("%d-%d-%d", domain, m[domain].server, m[domain].number))
	}
	return strings.Join(all, ",")
}

// reached: m is at or past what to says.
func (m marks) reached(to marks) bool {
	for domain, k := range to {
		if m[domain].number < k.number {
			return false
		}
	}
	return true
}
