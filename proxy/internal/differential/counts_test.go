package differential

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// counts are how often each kind of step ran, and how it ended.
type counts struct {
	mu    sync.Mutex
	kinds map[string]*outcome
	total int64
}

type outcome struct{ ok, failed, excused int }

func newCounts() *counts { return &counts{kinds: map[string]*outcome{}} }

func (c *counts) add(s *step, r *response) {
	if r.silent {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.kinds[s.kind]
	if o == nil {
		o = &outcome{}
		c.kinds[s.kind] = o
	}
	if r.failed() || r.broken != nil {
		o.failed++
	} else {
		o.ok++
	}
	c.total++
}

// excused counts a session that ended early at a step of a kind.
func (c *counts) excused(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds[kind].excused++
}

// ran is how many steps ran.
func (c *counts) ran() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

func (c *counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for n := range c.kinds {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(c.kinds[b].ok+c.kinds[b].failed, c.kinds[a].ok+c.kinds[a].failed), cmp.Compare(a, b))
	})
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "  %-28s %8d ok %8d errors", n, c.kinds[n].ok, c.kinds[n].failed)
		if e := c.kinds[n].excused; e > 0 {
			fmt.Fprintf(&b, ", %d of them excused", e)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
