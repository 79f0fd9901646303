package farmfile

import (
	"cmp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/farm"
	"farmhand/internal/service"
)

// EventKind is a [farm.EventKind] as a key of the file.
type EventKind farm.EventKind

func (EventKind) choices() []string {
	var names []string
	for _, kind := range farm.EventKinds() {
		names = append(names, string(kind))
	}
	return names
}

// HookMode is whether the farm waits for the hooks of an event.
type HookMode string

// The modes.
const (
	Sync  HookMode = "sync"  // it waits until they have ended
	Async HookMode = "async" // it goes on
)

func (HookMode) choices() []string { return []string{string(Sync), string(Async)} }

// Hooks is what is run when something happens.
type Hooks struct {
	Directory string   `yaml:"directory" is:"path?" about:"its EVENT/NN-name are run in the order of their names; \"\" for no hooks"`
	TimeLimit Duration `yaml:"time_limit" is:"1s..1h" about:"how long each hook may take"`
	Wait      Duration `yaml:"wait" is:"0..24h" about:"how long a server that is to be terminated is kept at most for the hooks of before-host-terminate, of all servers together; 0 for not at all"`
	Events    Events   `yaml:"events" about:"what differs for single events, by the event's name"`
}

// Events is how the hooks of single events are run.
type Events map[EventKind]Hook

// Hook is how the hooks of one event are run.
type Hook struct {
	Mode      HookMode `yaml:"mode" about:"whether the farm waits until its hooks have ended; if not given, sync for before-… and host-init, async for others"`
	TimeLimit Duration `yaml:"time_limit" is:"0..1h" about:"how long each of its hooks may take; 0 for the time limit of all hooks"`
}

// Waited returns the events for whose hooks the farm waits.
func (h Hooks) Waited() []EventKind {
	var list []EventKind
	for _, kind := range farm.EventKinds() {
		if event := EventKind(kind); h.Of(event).Mode == Sync {
			list = append(list, event)
		}
	}
	return list
}

// Of returns how the hooks of an event are run.
func (h Hooks) Of(event EventKind) Hook {
	hook, ok := h.Events[event]
	if !ok {
		hook = Hook{Mode: event.mode()}
	}
	hook.TimeLimit = cmp.Or(hook.TimeLimit, h.TimeLimit)
	return hook
}

// mode is whether the farm waits for an event's hooks if nothing is said.
func (e EventKind) mode() HookMode {
	if strings.HasPrefix(string(e), "before-") || e == "host-init" {
		return Sync
	}
	return Async
}

// UnmarshalYAML reads the hooks of single events over what is usual for each.
func (v *Events) UnmarshalYAML(n ast.Node) error {
	keys, ok := n.(*ast.MappingNode)
	if !ok {
		return service.ErrorAt(n, "expected keys and values")
	}
	*v = Events{}
	for _, pair := range keys.Values {
		event := EventKind(pair.Key.GetToken().Value)
		if !slices.Contains(event.choices(), string(event)) {
			continue // as unknownKeys says
		}
		hook := Hook{Mode: event.mode()}
		if err := over(pair.Value, &hook); err != nil {
			return err
		}
		(*v)[event] = hook
	}
	return nil
}
