package roles

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"farmhand/scaler/internal/decide"
)

// State is what is known of a role. The zero value knows nothing. A new leader goes
// on from what Encode has written; what is left out there is about the looking
// itself.
type State struct {
	// Wanted is the number of servers of the last decision.
	Wanted int `json:"wanted"`
	// LastIn is when the last server that was to go was gone.
	LastIn time.Time `json:"last_in,omitzero"`
	// Last is the highest number that a server's name ever had.
	Last int `json:"last"`
	// Servers are those that there are, by name.
	Servers map[string]Server `json:"servers"`

	// since is when the looking began that has had no break yet, looked when it was last.
	since, looked time.Time
}

// Server is what is known of one server: facts, from which its state follows.
type Server struct {
	// Launched is when the instance was asked for.
	Launched time.Time `json:"launched"`
	// Slot is its place among the role's servers, 1 or more: a new one takes the lowest that
	// nobody has, so also that of one that was lost. 0 if it was never given one.
	Slot int `json:"slot,omitempty"`
	// Appeared says that the provider has had it; Missing is since when it has it no
	// more, or not yet.
	Appeared bool      `json:"appeared,omitempty"`
	Missing  time.Time `json:"missing,omitzero"`
	// Heard is when it was heard of for the first time, Silent since when it is not.
	Heard  time.Time `json:"heard,omitzero"`
	Silent time.Time `json:"silent,omitzero"`
	// Ready is when it was ready for the first time, or again after it was lost;
	// Trouble since when it is not.
	Ready   time.Time `json:"ready,omitzero"`
	Trouble time.Time `json:"trouble,omitzero"`
	// Lost is when it was given up, zero if it was not, and Why is why.
	Lost time.Time `json:"lost,omitzero"`
	Why  string    `json:"why,omitempty"`
	// Leaving is how far it is on its way out; nil if it stays.
	Leaving *Leaving `json:"leaving,omitempty"`
}

// Encode returns the state to be kept. It is the same text while nothing has changed
// that another leader had to know.
func (s State) Encode() ([]byte, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode a role's state: %w", err)
	}
	return data, nil
}

// Decode reads what Encode has returned; of nothing it is the zero value.
func Decode(data []byte) (State, error) {
	var s State
	if len(data) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, fmt.Errorf("read a role's state: %w", err)
	}
	return s, nil
}

// Names returns the servers' names, sorted.
func (s State) Names() []string { return slices.Sorted(maps.Keys(s.Servers)) }

// Steps are the servers on their way out and their next step.
func (s State) Steps() map[string]Step {
	steps := map[string]Step{}
	for name, server := range s.Servers {
		if step := server.Leaving.step(); step != Stay {
			steps[name] = step
		}
	}
	return steps
}

// clone returns a copy that may be changed.
func (s State) clone() State {
	s.Servers = maps.Clone(s.Servers)
	if s.Servers == nil {
		s.Servers = map[string]Server{}
	}
	for name, server := range s.Servers {
		if server.Leaving != nil {
			leaving := *server.Leaving
			server.Leaving = &leaving
			s.Servers[name] = server
		}
	}
	return s
}

// phase is the server's state for deciding.
func (s *Server) phase() decide.State {
	switch {
	case s.Leaving != nil && s.Leaving.Stays:
		return decide.Unwell // it is one of the role's, without load for a while
	case s.Leaving != nil && !s.Leaving.Lost:
		return decide.Draining
	case !s.Lost.IsZero():
		return decide.Lost
	case !s.Trouble.IsZero():
		return decide.Unwell
	case !s.Ready.IsZero():
		return decide.Ready
	case !s.Heard.IsZero():
		return decide.Warming
	}
	return decide.Launching
}
