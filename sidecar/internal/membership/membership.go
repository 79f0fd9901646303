// Package membership is who belongs to the farm, as this node knows it: where
// that comes from (a Source), what a change of it means in events, and which
// membership is not to be believed.
//
// It decides nothing about the farm and acts on nothing. A source that fails
// keeps what was known last and says so.
package membership

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"farmhand/internal/farm"
)

// State is how far a host is in the farm's life.
type State string

// The states of a host.
const (
	Joining State = "joining" // it is there, but not in service yet
	Up      State = "up"      // it is in service
	Leaving State = "leaving" // it will be taken away and takes nothing new
	Down    State = "down"    // it belongs to the farm and does not work
)

// States lists the states of a host.
func States() []State { return []State{Joining, Up, Leaving, Down} }

// Host is one member of the farm.
type Host struct {
	Name string `yaml:"name" json:"name"`
	// Role is what the host does. Those of database servers are farm.Primary and
	// farm.Replica; any other is the operator's own word.
	Role string `yaml:"role" json:"role"`
	// Address is a host, host:port or the path of a unix socket; of a database
	// server not the first.
	Address string `yaml:"address" json:"address"`
	State   State  `yaml:"state" json:"state,omitempty"` // empty in a file means up
	// Weight and Attributes of a database server go into the topology file; of other hosts
	// the attributes are what they say of themselves.
	Weight     int               `yaml:"weight" json:"weight,omitempty"`
	Attributes map[string]string `yaml:"attributes" json:"attributes,omitempty"`
}

// Database reports whether the host is a database server.
func (h Host) Database() bool {
	return h.Role == string(farm.Primary) || h.Role == string(farm.Replica)
}

// RoleName is what the farm file calls the host's role; its Role if that is not known.
func (h Host) RoleName() string { return cmp.Or(h.Attributes[farm.RoleAttribute], h.Role) }

// Slot is the host's place among those of its role, which a host in its place takes over;
// 0 if it has none.
func (h Host) Slot() int { return h.number(farm.SlotAttribute) }

// Slots is how many hosts its role has at the least, as far as it knows.
func (h Host) Slots() int { return h.number(farm.SlotsAttribute) }

func (h Host) number(attribute string) int {
	n, err := strconv.Atoi(h.Attributes[attribute])
	if err != nil || n < 0 || n > farm.MaxSlot {
		return 0
	}
	return n
}

// Healthy reports whether the host works, as far as it says itself.
func (h Host) Healthy() bool {
	return h.State != Down && h.Attributes[farm.HealthAttribute] != farm.HealthUnwell
}

// Draining reports whether the host takes nothing new.
func (h Host) Draining() bool { return h.State == Leaving }

// Number is the number in the host's name: of two hosts of a role the newer has the higher.
func (h Host) Number() int {
	digits := strings.TrimLeft(h.Name[strings.LastIndexFunc(h.Name, func(c rune) bool { return c < '0' || c > '9' })+1:], "0")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

// serves reports whether the host does what its role says.
func (h Host) serves() bool { return h.State == Up || h.State == Leaving }

func (h Host) event(kind farm.EventKind) farm.Event {
	return farm.Event{Kind: kind, Host: farm.EventHost{Name: h.Name, Role: h.Role, Address: h.Address}}
}

// Snapshot is the whole membership at one time. Values are shared and not
// changed after they were made.
type Snapshot struct {
	// Epoch counts the changes of primary; 0 if the source does not know it.
	Epoch farm.Epoch `yaml:"epoch" json:"epoch"`
	// Hosts are sorted by name.
	Hosts []Host `yaml:"hosts" json:"hosts"`
	// Cluster is what the proxies are to know, where the source says it itself; nil
	// where it follows from the hosts. Serial is that of the assignment it is from.
	Cluster *farm.Cluster `yaml:"-" json:"-"`
	Serial  uint64        `yaml:"-" json:"-"`
}

// Primary returns the host that takes the writes.
func (s Snapshot) Primary() (Host, bool) {
	for _, h := range s.Hosts {
		if h.Role == string(farm.Primary) {
			return h, true
		}
	}
	return Host{}, false
}

// canonical returns s sorted, with defaults, and with nobody called the primary
// who does not serve.
func canonical(s Snapshot) Snapshot {
	s.Hosts = slices.Clone(s.Hosts)
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if h.State == "" {
			h.State = Up
		}
		if h.Role == string(farm.Primary) && !h.serves() {
			h.Role = string(farm.Replica)
		}
	}
	slices.SortFunc(s.Hosts, func(a, b Host) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// Same reports whether two snapshots have the same epoch and hosts.
func Same(a, b Snapshot) bool {
	return a.Epoch == b.Epoch && slices.EqualFunc(a.Hosts, b.Hosts, func(a, b Host) bool {
		return a.Name == b.Name && a.Role == b.Role && a.Address == b.Address && a.State == b.State && a.Weight == b.Weight &&
			maps.Equal(a.Attributes, b.Attributes)
	})
}

// Observer is told what a source sees. Its methods are called one at a time and
// hold up the source while they run.
type Observer interface {
	// Changed says what the membership is now. It may be what it was.
	Changed(Snapshot)
	// Trouble says that the source cannot tell any more; what it told last is
	// all that is known. The next Changed ends it.
	Trouble(error)
}

// Source is where the membership comes from.
type Source interface {
	// Run tells the observer of the membership and then of its changes until
	// ctx ends, which is no error.
	Run(context.Context, Observer) error
}

// Leaves reports whether the host with the name is on its way out.
func (s Snapshot) Leaves(name string) bool {
	return slices.ContainsFunc(s.Hosts, func(h Host) bool { return h.Name == name && h.State == Leaving })
}
