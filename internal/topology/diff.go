package topology

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"farmhand/internal/farm"
)

// Diff says in words what changed from old to now, such as
// "primary db1 -> db2, epoch 7 -> 8, added db4, draining db3"; it returns an
// empty string if nothing did.
func Diff(old, now farm.Cluster) string {
	var changes []string
	note := func(format string, args ...any) { changes = append(changes, fmt.Sprintf(format, args...)) }

	if was, is := primaryName(old), primaryName(now); was != is {
		note("primary %s -> %s", was, is)
	}
	if old.Epoch != now.Epoch {
		note("epoch %d -> %d", old.Epoch, now.Epoch)
	}
	before, after := members(old), members(now)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		server := after[name]
		was, known := before[name]
		switch {
		case !known && server.State != "" && server.State != farm.Serving:
			note("added %s (%s)", name, server.State)
			continue
		case !known:
			note("added %s", name)
			continue
		// A change of role says so by itself: the state that comes or goes with
		// it is no news.
		case was.State != server.State && was.State != "" && server.State != "":
			note("%s %s", server.State, name)
		}
		if was.Address != server.Address {
			note("%s moved %s -> %s", name, was.Address, server.Address)
		}
		if was.Weight != server.Weight {
			note("weight of %s %d -> %d", name, was.Weight, server.Weight)
		}
		if !maps.Equal(was.Attributes, server.Attributes) {
			note("attributes of %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, still := after[name]; !still {
			note("removed %s", name)
		}
	}
	return strings.Join(changes, ", ")
}

func primaryName(c farm.Cluster) string {
	if c.Primary == nil {
		return "none"
	}
	return c.Primary.Name
}

// members returns all servers of c by name.
func members(c farm.Cluster) map[string]farm.Server {
	all := make(map[string]farm.Server, len(c.Replicas)+1)
	for _, r := range c.Replicas {
		all[r.Name] = r
	}
	if c.Primary != nil {
		all[c.Primary.Name] = *c.Primary
	}
	return all
}
