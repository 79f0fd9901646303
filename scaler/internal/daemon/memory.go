package daemon

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// memory is what one leader leaves to the next: what a person has decided, and
// what was begun. It is a record in the registry, written under the term.
type memory struct {
	// Paused is why nothing new is begun; empty if it is.
	Paused string `json:"paused,omitempty"`
	// Pinned is the size of a role that a person has asked for in the place of the
	// farm file's.
	Pinned map[string]int `json:"pinned,omitempty"`
	// Wanted is how many servers the last decision wanted of a role.
	Wanted map[string]int `json:"wanted,omitempty"`
	// LastIn is when the last server that was to go was gone, by role.
	LastIn map[string]time.Time `json:"last_in,omitempty"`
	// Leaving are the instances that are to go, by name.
	Leaving map[string]leaving `json:"leaving,omitempty"`
}

// leaving is how far an instance is on its way out.
type leaving struct {
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
	// Drained is when it was known to take no new reads; zero before.
	Drained time.Time `json:"drained,omitzero"`
	// Stays is set for one that is drained only.
	Stays bool `json:"stays,omitempty"`
	// Lost is set for one that nobody waits for: there is nothing to be drained.
	Lost bool `json:"lost,omitempty"`
}

func readMemory(data []byte) (memory, error) {
	m := memory{}
	if data != nil {
		if err := json.Unmarshal(data, &m); err != nil {
			return m, fmt.Errorf("what the leader before has left cannot be read: %w", err)
		}
	}
	return m.clone(), nil
}

// clone returns a copy that may be changed; its maps are there.
func (m memory) clone() memory {
	m.Pinned, m.Wanted, m.LastIn, m.Leaving = cloned(m.Pinned), cloned(m.Wanted), cloned(m.LastIn), cloned(m.Leaving)
	return m
}

func cloned[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return maps.Clone(m)
}
