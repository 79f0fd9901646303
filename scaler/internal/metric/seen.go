package metric

import (
	"math"
	"time"

	"farmhand/internal/cluster"
	"farmhand/scaler/internal/decide"
)

// Stale is the age from which a report says nothing any more. Reports come twice a
// second.
const Stale = 5 * time.Second

// Node is what one node reported last. One that never did has its name only.
type Node struct {
	Name  string
	Heard time.Time // when the report came, by the scaler's clock
	Load  map[string]float64
	// Beat is, on a database server, the age of the newest heartbeat that can be read
	// there, in seconds; nil is unknown.
	Beat *float64
}

// DatabaseNode is a database server's report, which came at heard. A server that
// does not answer says nothing.
func DatabaseNode(r *cluster.Report, heard time.Time) Node {
	n := Node{Name: r.Name, Heard: heard}
	if !r.Answers {
		return n
	}
	n.Load = r.Load
	if r.Beat != nil {
		seconds := r.Beat.Seconds()
		n.Beat = &seconds
	}
	return n
}

// Seen is what was reported of a role at a moment.
type Seen struct {
	Now time.Time
	// Carriers are the role's servers that share the load: the ready ones, but the
	// primary only if it is alone.
	Carriers []Node
	// Replicas are the carriers that are not the primary.
	Replicas []Node
	// Primary is the role's primary; nil if there is none that is ready.
	Primary *Node
	// Proxies are the nodes through whose proxies the role is used.
	Proxies []Node
}

// See sorts what was reported of the role's nodes by what its servers are. Nodes
// are found by name.
func See(now time.Time, servers []decide.Server, nodes map[string]Node, proxies []Node) *Seen {
	s := &Seen{Now: now, Proxies: proxies}
	for _, server := range servers {
		if server.State != decide.Ready {
			continue
		}
		n := nodes[server.Name]
		n.Name = server.Name
		if server.Primary {
			s.Primary = &n
		} else {
			s.Replicas = append(s.Replicas, n)
		}
	}
	s.Carriers = s.Replicas
	if len(s.Carriers) == 0 && s.Primary != nil {
		s.Carriers = []Node{*s.Primary}
	}
	return s
}

// says returns the node's measurements by the names, and whether it said all of
// them just now.
func (s *Seen) says(n Node, names ...string) (values []float64, ok bool) {
	if s.Now.Sub(n.Heard) > Stale {
		return nil, false
	}
	for _, name := range names {
		value, known := n.Load[name]
		if !known || !possible(value) {
			return nil, false
		}
		values = append(values, value)
	}
	return values, true
}

// possible: a peer can say anything.
func possible(value float64) bool { return value >= 0 && !math.IsInf(value, 1) }

// averageOf is the average of one measurement.
func (s *Seen) averageOf(name string) (value float64, silent int) {
	return average(s.Carriers, func(n Node) (float64, bool) {
		values, ok := s.says(n, name)
		if !ok {
			return 0, false
		}
		return values[0], true
	})
}
