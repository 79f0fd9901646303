package role

import (
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/report"
	"farmhand/sidecar/internal/hook"
)

// told is what the hooks know of the node's own database server. A sidecar that
// starts has told nothing yet.
type told struct {
	up, crashed, broken bool
}

// kinds are the events that a report makes of what was told before. What a
// report does not say (the server could not be asked) makes none.
func (t told) kinds(r report.Report) []farm.EventKind {
	var kinds []farm.EventKind
	switch {
	case r.State == report.Running && r.Detail == "" && !t.up:
		kinds = append(kinds, farm.HostUp)
	case r.State == report.Failed && !t.crashed:
		kinds = append(kinds, farm.HostCrash)
	}
	if c := r.Replication; c != nil {
		switch {
		case c.Error != "" && !t.broken:
			kinds = append(kinds, farm.ReplicationBroken)
		case c.Error == "" && c.Receiver == "Yes" && c.Applier == "Yes" && t.broken:
			kinds = append(kinds, farm.ReplicationRecovered)
		}
	}
	return kinds
}

// after is what the hooks know once they were told of an event.
func (t told) after(kind farm.EventKind) told {
	switch kind {
	case farm.HostUp:
		t.up, t.crashed = true, false
	case farm.HostCrash:
		t.up, t.crashed = false, true
	case farm.ReplicationBroken:
		t.broken = true
	case farm.ReplicationRecovered:
		t.broken = false
	}
	return t
}

// tell puts before the hooks what a report means; what cannot be put is tried
// again with the next report.
func (m *mysql) tell(r report.Report) {
	for _, kind := range m.told.kinds(r) {
		e := farm.Event{
			ID: hook.NewID(), Kind: kind, Time: r.Time, Host: farm.EventHost{Name: r.Name, Role: string(r.Role), Address: r.Address},
			Fields: map[string]string{},
		}
		if kind == farm.HostCrash {
			e.Fields["reason"] = farm.FieldText(r.Detail)
		}
		if kind == farm.ReplicationBroken {
			e.Fields["reason"] = farm.FieldText(r.Replication.Error)
		}
		if err := m.tools.Event(e); err != nil {
			m.tools.Log.Error("the hooks cannot be told; tried again soon", zap.Error(err), zap.String("kind", string(kind)), zap.Duration("after", time.Second))
			return
		}
		m.told = m.told.after(kind)
	}
}
