package console

import (
	"cmp"
	"slices"
	"strconv"
	"sync"

	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/session"
)

// shards spread the digests' counters over several locks.
const shards = 16

// Digests counts statements by their normalised text, up to a number of
// different ones; the rest is counted together.
type Digests struct {
	max   int // per shard
	shard [shards]digestShard
}

type digestShard struct {
	mu     sync.Mutex
	counts map[uint64]*digest
	other  uint64
}

type digest struct {
	text             string
	primary, replica uint64
}

// NewDigests returns counters for up to about max different statements.
func NewDigests(max int) *Digests {
	d := &Digests{max: (max + shards - 1) / shards}
	for i := range d.shard {
		d.shard[i].counts = map[uint64]*digest{}
	}
	return d
}

// Count implements session.Digests.
func (d *Digests) Count(print uint64, sql []byte, mode classify.Mode, onReplica bool) {
	s := &d.shard[print%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts[print]
	if c == nil {
		if len(s.counts) >= d.max {
			s.other++
			return
		}
		c = &digest{text: string(classify.Digest(nil, sql, mode))}
		s.counts[print] = c
	}
	if onReplica {
		c.replica++
	} else {
		c.primary++
	}
}

// table lists the digests, the most frequent first.
func (d *Digests) table() *session.Table {
	t := &session.Table{Columns: []string{"Digest", "Count", "Primary", "Replica", "Text"}}
	type row struct {
		print uint64
		digest
	}
	var rows []row
	other := uint64(0)
	for i := range d.shard {
		s := &d.shard[i]
		s.mu.Lock()
		for print, c := range s.counts {
			rows = append(rows, row{print, *c})
		}
		other += s.other
		s.mu.Unlock()
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.primary+b.replica, a.primary+a.replica), cmp.Compare(a.text, b.text))
	})
	for _, r := range rows {
		t.Rows = append(t.Rows, []string{
			strconv.FormatUint(r.print, 16), strconv.FormatUint(r.primary+r.replica, 10),
			strconv.FormatUint(r.primary, 10), strconv.FormatUint(r.replica, 10), r.text,
		})
	}
	if other > 0 {
		t.Rows = append(t.Rows, []string{"", strconv.FormatUint(other, 10), "", "", "(statements beyond digests.max)"})
	}
	return t
}
