package membership

import (
	"fmt"
	"slices"

	"farmhand/internal/farm"
	"farmhand/internal/service"
)

// maxHosts bounds a membership.
const maxHosts = 10_000

// document is a membership as it stands in a file.
type document Snapshot

// Validate says what is wrong with it.
func (d *document) Validate() service.Problems {
	var p service.Problems
	p.Join(check(Snapshot(*d)))
	databases := slices.ContainsFunc(d.Hosts, Host.Database)
	if databases && (d.Epoch < 1 || d.Epoch > farm.MaxEpoch) {
		p.Add("epoch", "%d is out of bounds; with database servers it must be 1 to %d, and rise with every change of primary", d.Epoch, farm.MaxEpoch)
	}
	return p
}

// check says what is wrong with a membership, wherever it is from.
func check(s Snapshot) service.Problems {
	var p service.Problems
	if len(s.Hosts) == 0 {
		p.Add("hosts", "there are none; a farm without a host is more likely a mistake")
	}
	if len(s.Hosts) > maxHosts {
		p.Add("hosts", "there are %d; expected at most %d", len(s.Hosts), maxHosts)
		return p
	}
	names, addresses, primary := map[string]bool{}, map[string]string{}, ""
	for i, h := range s.Hosts {
		path := fmt.Sprintf("hosts[%d]", i)
		if err := farm.CheckName(h.Name); err != nil {
			p.Add(path+".name", "%v", err)
		} else if names[h.Name] {
			p.Add(path+".name", "another host is called %s", h.Name)
		}
		names[h.Name] = true
		checkHost(&p, path, h)
		if !h.Database() {
			continue
		}
		if address, err := farm.CanonicalAddress(h.Address); err != nil {
			p.Add(path+".address", "%v", err)
		} else if other := addresses[address]; other != "" {
			p.Add(path+".address", "%s is already the address of %s", h.Address, other)
		} else {
			addresses[address] = h.Name
		}
		if h.Role == string(farm.Primary) && (h.State == "" || h.serves()) {
			if primary != "" {
				p.Add(path+".role", "%s is the primary already; there cannot be two", primary)
			}
			primary = h.Name
		}
	}
	return p
}

func checkHost(p *service.Problems, path string, h Host) {
	if h.State != "" && !slices.Contains(States(), h.State) {
		p.Add(path+".state", "%q is not possible; expected joining, up, leaving, down", h.State)
	}
	// What an event cannot say could not be told to the hooks.
	if err := farm.CheckName(h.Role); err != nil {
		p.Add(path+".role", "%v", err)
	} else if err := farm.CheckEventAddress(h.Address); err != nil {
		p.Add(path+".address", "%v", err)
	}
	if h.Weight < 0 || h.Weight > farm.MaxWeight {
		p.Add(path+".weight", "%d is out of bounds; expected 0 to %d", h.Weight, farm.MaxWeight)
	}
	if h.Database() {
		return
	}
	if h.Weight != 0 {
		p.Add(path+".weight", "only database servers have a weight")
	}
	if err := farm.CheckAttributes(h.Attributes); err != nil {
		p.Add(path+".attributes", "%v", err)
	}
}
