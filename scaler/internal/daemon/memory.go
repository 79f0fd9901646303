package daemon

import (
	"encoding/json"
	"fmt"
	"maps"

	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/roles"
)

// memory is what one leader leaves to the next: what a person has decided, and
// what was begun. It is a record in the registry, written under the term.
type memory struct {
	// Paused is why nothing new is begun; empty if it is.
	Paused string `json:"paused,omitempty"`
	// Pinned is the size of a role that a person has asked for in the place of the
	// farm file's.
	Pinned map[string]int `json:"pinned,omitempty"`
	// Roles are what is known of each role's servers.
	Roles map[string]roles.State `json:"roles,omitempty"`
	// Gone are the nodes whose instance is gone and whose rights are still to be taken
	// away, with their roles.
	Gone map[string]string `json:"gone,omitempty"`
	// Rebundle is the one that goes on, or the last; nil if there never was one.
	Rebundle *rebundle `json:"rebundle,omitempty"`
	// Releases are the versions of each role's code.
	Releases map[string]*roleReleases `json:"releases,omitempty"`
}

func readMemory(data []byte) (memory, error) {
	m := memory{}
	if data != nil {
		if err := json.Unmarshal(data, &m); err != nil {
			return m, fmt.Errorf("what the leader before has left cannot be read: %w", err)
		}
	}
	m.Pinned, m.Roles, m.Gone, m.Releases = cloned(m.Pinned), cloned(m.Roles), cloned(m.Gone), cloned(m.Releases)
	return m, nil
}

// take goes on with a role's state. Who is not in it any more is gone.
func (m *memory) take(role string, next roles.State) {
	for name := range m.Roles[role].Servers {
		if _, there := next.Servers[name]; !there {
			m.Gone[name] = role
		}
	}
	m.Roles[role] = next
}

// spend keeps names from being given again that nodes of the role have or had.
func (m *memory) spend(role string, names []string) {
	state := m.Roles[role]
	for _, name := range names {
		if n, ok := provider.Number(role, name); ok {
			state.Last = max(state.Last, n)
		}
	}
	m.Roles[role] = state
}

// steps are how far each server is on its way out.
func (m *memory) steps() map[string]roles.Step {
	steps := map[string]roles.Step{}
	for _, state := range m.Roles {
		maps.Copy(steps, state.Steps())
	}
	return steps
}

func cloned[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return maps.Clone(m)
}
