package gtid

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"farmhand/internal/farm"
)

// Stream is what one MariaDB server has written in one domain.
type Stream struct{ Domain, Server uint32 }

// Streams are the sequence numbers up to which servers have written: what MariaDB
// calls a binlog state, and of one stream a domain, a position.
// https://mariadb.com/kb/en/gtid/#gtid_binlog_state
type Streams map[Stream]uint64

// ParseStreams reads the text of a gtid_binlog_state or a MariaDB position.
func ParseStreams(text string) (Streams, error) {
	s := Streams{}
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		var n [3]uint64
		parts := strings.Split(one, "-")
		if len(parts) != len(n) {
			return nil, fmt.Errorf("GTID %q is not domain-server-number", clip(one))
		}
		for i, bits := range [3]int{32, 32, 64} {
			var err error
			if n[i], err = strconv.ParseUint(parts[i], 10, bits); err != nil {
				return nil, fmt.Errorf("GTID %q: %w", clip(one), err)
			}
		}
		s[Stream{uint32(n[0]), uint32(n[1])}] = n[2]
	}
	return s, nil
}

// Domains are the highest number of each domain.
func (s Streams) Domains() map[uint32]uint64 {
	highest := map[uint32]uint64{}
	for stream, n := range s {
		highest[stream.Domain] = max(highest[stream.Domain], n)
	}
	return highest
}

// String is the text, by domain, in it by number. Numbers rise in a domain: there
// the last is what was written last.
func (s Streams) String() string {
	order := slices.SortedFunc(maps.Keys(s), func(a, b Stream) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(s[a], s[b]), cmp.Compare(a.Server, b.Server))
	})
	parts := make([]string, len(order))
	for i, stream := range order {
		parts[i] = fmt.Sprintf("%d-%d-%d", stream.Domain, stream.Server, s[stream])
	}
	return strings.Join(parts, ",")
}

// InDomain is the MariaDB position of a domain whose last transaction a server has
// written under a number.
func InDomain(domain, server uint32, number uint64) Position {
	if number == 0 {
		return Position{}
	}
	return Position{flavor: farm.MariaDB, one: [1]run{{source: source{lo: uint64(domain)}, first: 1, last: number, server: server}}}
}
