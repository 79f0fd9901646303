package membership

import (
	"maps"
	"slices"
	"strconv"

	"farmhand/internal/farm"
)

// Diff returns the events that make the membership old into now, without their
// ID and Time, in the order in which they are to be told: first what is lost,
// then who comes, then who takes the writes; within that by name. A change of a
// weight or of attributes is no event.
func Diff(old, now Snapshot) []farm.Event {
	before, after := byName(old), byName(now)
	var gone, terminating, coming, up []farm.Event
	tell := func(h Host) {
		switch h.State {
		case Joining:
			coming = append(coming, h.event(farm.BeforeHostUp))
		case Up:
			up = append(up, h.event(farm.HostUp))
		case Leaving:
			terminating = append(terminating, h.event(farm.BeforeHostTerminate))
		case Down:
			gone = append(gone, h.event(farm.HostCrash))
		}
	}
	all := maps.Clone(before)
	maps.Copy(all, after)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		was, known := before[name]
		is, still := after[name]
		// Between primary and replica a host does not come and go.
		other := was.Address != is.Address || was.Role != is.Role && !(was.Database() && is.Database())
		switch {
		case !still:
			gone = append(gone, was.event(farm.HostDown))
		case !known:
			tell(is)
		case other:
			if was.serves() {
				gone = append(gone, was.event(farm.HostDown))
			}
			tell(is)
		case was.State != is.State:
			tell(is)
		}
	}
	lost, chosen := primaryEvents(old, now)
	return slices.Concat(lost, gone, terminating, coming, up, chosen)
}

func primaryEvents(old, now Snapshot) (lost, chosen []farm.Event) {
	was, had := old.Primary()
	is, has := now.Primary()
	fields := map[string]string{}
	if now.Epoch > 0 {
		fields["epoch"] = strconv.FormatUint(uint64(now.Epoch), 10)
	}
	if had {
		fields["previous"] = was.Name
	}
	switch {
	case had && !has:
		e := was.event(farm.PrimaryLost)
		delete(fields, "previous")
		e.Fields = fields
		return []farm.Event{e}, nil
	case has && (!had || was.Name != is.Name || was.Address != is.Address):
		e := is.event(farm.NewPrimary)
		e.Fields = fields
		return nil, []farm.Event{e}
	}
	return nil, nil
}

// Apply returns the hosts, by name, after events that [Diff] returned: their
// meaning, in other words. Weights and attributes are none of it.
func Apply(hosts map[string]Host, events []farm.Event) map[string]Host {
	hosts = maps.Clone(hosts)
	for _, e := range events {
		h := Host{Name: e.Host.Name, Role: e.Host.Role, Address: e.Host.Address}
		switch e.Kind {
		case farm.HostDown:
			delete(hosts, h.Name)
			continue
		case farm.BeforeHostUp:
			h.State = Joining
		case farm.HostUp:
			h.State = Up
		case farm.BeforeHostTerminate:
			h.State = Leaving
		case farm.HostCrash:
			h.State = Down
		case farm.PrimaryLost, farm.NewPrimary:
			for name, other := range hosts {
				if other.Role == string(farm.Primary) {
					other.Role = string(farm.Replica)
					hosts[name] = other
				}
			}
			if e.Kind == farm.PrimaryLost {
				continue
			}
			h.State = hosts[h.Name].State
		}
		hosts[h.Name] = h
	}
	return hosts
}

func byName(s Snapshot) map[string]Host {
	hosts := make(map[string]Host, len(s.Hosts))
	for _, h := range s.Hosts {
		hosts[h.Name] = h
	}
	return hosts
}
