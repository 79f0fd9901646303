package render

import (
	"cmp"
	"slices"

	"farmhand/sidecar/internal/membership"
)

// members returns the hosts of a role, as the farm file calls it: those with a slot in the
// order of these, then the others by name. Who takes the place of a host that leaves or
// was lost has its slot; while both are there, the newer one is first.
func (v View) members(role string) []membership.Host {
	var list []membership.Host
	for _, h := range v.Hosts {
		if h.RoleName() == role {
			list = append(list, h)
		}
	}
	slices.SortStableFunc(list, func(a, b membership.Host) int {
		if (a.Slot() == 0) != (b.Slot() == 0) {
			return cmp.Compare(b.Slot(), a.Slot())
		}
		return cmp.Or(cmp.Compare(a.Slot(), b.Slot()), cmp.Compare(b.Number(), a.Number()), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// slots returns the hosts of a role as a list in which each keeps its place: one for each
// slot, up to the highest that is taken or the least number of the role's servers. The place
// of one that is not there, is leaving or is not well is held by the next one that is,
// so that clients which choose by the place go on finding the others where they were.
// Everybody who knows the same members makes the same list of them.
func (v View) slots(role string) []membership.Host {
	bySlot, most := map[int]membership.Host{}, 0
	for _, h := range v.members(role) {
		if h.Slot() == 0 {
			continue
		}
		most = max(most, h.Slot(), h.Slots())
		if _, newer := bySlot[h.Slot()]; !newer && h.Healthy() && !h.Draining() {
			bySlot[h.Slot()] = h
		}
	}
	if len(bySlot) == 0 {
		return nil
	}
	list := make([]membership.Host, 0, most)
	for slot := 1; slot <= most; slot++ {
		at := slot
		for _, there := bySlot[at]; !there; _, there = bySlot[at] {
			at = at%most + 1
		}
		list = append(list, bySlot[at])
	}
	return list
}
