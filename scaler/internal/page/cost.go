package page

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"farmhand/internal/registry"
	"farmhand/scaler/internal/daemon"
)

// RoleCost is what a role's instances have cost, and will. Money is price times hours,
// and 0 without a price.
type RoleCost struct {
	Role string `json:"role"`
	// Price is an instance's for an hour; nil if nobody has said one.
	Price *float64 `json:"price,omitempty"`
	// Hours are what its instances have run since Since, in instance-hours.
	Hours float64 `json:"hours"`
	// Day is what a day costs at the size wanted now, Least and Most at the smallest and
	// the largest size, in instance-hours.
	Day   float64 `json:"day"`
	Least float64 `json:"least"`
	Most  float64 `json:"most"`
}

// Cost is what the farm's instances have cost, and will.
type Cost struct {
	// Since is the beginning of what is counted: that of the journal, or of the instance
	// that is the oldest.
	Since time.Time  `json:"since,omitzero"`
	Roles []RoleCost `json:"roles"` // by name
}

// Count counts instance-hours: those of instances that run from when they were
// launched, those of instances that are gone from the journal. One that is gone and
// whose launch the journal has forgotten counts from the journal's first entry.
func Count(journal []registry.Entry, v *daemon.View, prices map[string]float64, now time.Time) Cost {
	c := Cost{Roles: []RoleCost{}}
	hours := map[string]float64{}
	note := func(role string, from, to time.Time) {
		if from.IsZero() || to.Before(from) {
			return
		}
		if c.Since.IsZero() || from.Before(c.Since) {
			c.Since = from
		}
		hours[role] += to.Sub(from).Hours()
	}
	there := map[string]bool{}
	for _, n := range v.Nodes {
		there[n.Name] = true
		note(n.RoleName, n.Launched, now)
	}
	type launch struct {
		at   time.Time
		role string
	}
	launched := map[string]launch{}
	for _, e := range journal {
		name := e.Fields["instance"]
		if e.Node || e.Kind != registry.Decision || name == "" {
			continue
		}
		switch e.Fields[daemon.ActionField] {
		case daemon.LaunchAction:
			if launched[name].at.IsZero() {
				launched[name] = launch{e.Time, e.Fields["role"]}
			}
		case daemon.TerminateAction:
			from, ok := launched[name]
			if !ok {
				from = launch{journal[0].Time, strings.TrimRight(name, "0123456789")}
			}
			delete(launched, name)
			if !there[name] {
				note(from.role, from.at, e.Time)
			}
		}
	}
	for role := range v.Roles {
		if _, ok := hours[role]; !ok {
			hours[role] = 0
		}
	}
	for role, h := range hours {
		size := v.Roles[role]
		r := RoleCost{Role: role, Hours: h, Day: 24 * float64(max(size.Wanted, size.Live)), Least: 24 * float64(size.Min), Most: 24 * float64(size.Max)}
		if price, ok := prices[role]; ok {
			r.Price = &price
		}
		c.Roles = append(c.Roles, r)
	}
	slices.SortFunc(c.Roles, func(a, b RoleCost) int { return cmp.Compare(a.Role, b.Role) })
	return c
}
