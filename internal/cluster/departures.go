package cluster

import (
	"errors"
	"fmt"
	"time"

	"farmhand/internal/farm"
)

// DeparturesRecord is the name, among a cluster's records, of the one that says who
// is on its way out of the farm: its database servers, and the web nodes that use
// them.
const DeparturesRecord = "departures"

// Departures are the hosts that leave. Each node that finds one there has its hooks
// for before-host-terminate run, and says in its [HooksReport] when they have ended.
type Departures struct {
	// Term is the leader's that wrote it.
	Term int64 `json:"term"`
	// Hosts are sorted by name.
	Hosts []Departure `json:"hosts"`
}

// Departure is one host that leaves.
type Departure struct {
	// Event is the id of the event that it is, the same whoever leads and whoever is
	// told; empty if the host is drained only, which is no event.
	Event string         `json:"event,omitempty"`
	Host  farm.EventHost `json:"host"`
	Since time.Time      `json:"since"` // by the leader's clock
	Why   string         `json:"why"`
}

// Encode returns the record's value.
func (d *Departures) Encode() ([]byte, error) {
	return encoded(d, "departures")
}

// DecodeDepartures reads the record's value; of no record it is that nobody leaves.
func DecodeDepartures(data []byte) (*Departures, error) {
	if data == nil {
		return &Departures{}, nil
	}
	d, err := decoded[Departures](data, "departures")
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, one := range d.Hosts {
		if err := farm.CheckName(one.Host.Name); err != nil {
			errs = append(errs, err)
		}
		if one.Event != "" {
			errs = append(errs, one.BeforeTerminate().Check())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("read departures: %w", err)
	}
	return d, nil
}

// BeforeTerminate is the event that the departure is.
func (d Departure) BeforeTerminate() farm.Event {
	return farm.Event{
		ID: d.Event, Kind: farm.BeforeHostTerminate, Time: d.Since, Host: d.Host, Fields: map[string]string{"reason": farm.FieldText(d.Why)},
	}
}

// Leaves reports whether a host is on its way out.
func (d *Departures) Leaves(name string) bool {
	if d != nil {
		for _, one := range d.Hosts {
			if one.Host.Name == name {
				return true
			}
		}
	}
	return false
}

// HooksReportName is the name, among what nodes report, of the report about their
// hooks.
const HooksReportName = "hooks"

// HooksReport is what a node says of the hooks of the departures that it has found.
type HooksReport struct {
	Name string `json:"name"`
	// Ended are the events whose hooks on this node have ended, those without a hook
	// at once. A hook that nobody waits for may still run.
	Ended []EndedHooks `json:"ended"`
}

// EndedHooks is what became of an event's hooks.
type EndedHooks struct {
	Event string `json:"event"`
	// Failed counts the hooks that did not end well, those included that were refused
	// or took too long.
	Failed int `json:"failed,omitempty"`
}

// Encode returns the report's value in the registry.
func (r *HooksReport) Encode() ([]byte, error) {
	return encoded(r, "a report about hooks")
}

// DecodeHooksReport reads a report's value.
func DecodeHooksReport(data []byte) (*HooksReport, error) {
	return decoded[HooksReport](data, "a report about hooks")
}

// Of returns what became of an event's hooks; false while they have not ended.
func (r *HooksReport) Of(event string) (EndedHooks, bool) {
	if r != nil {
		for _, e := range r.Ended {
			if e.Event == event {
				return e, true
			}
		}
	}
	return EndedHooks{}, false
}
