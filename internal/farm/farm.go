// Package farm is the vocabulary that Farmhand's three programs share: what a
// server is called, what it does and which state it is in.
//
// It imports the standard library only, does no I/O and holds no state.
package farm

import (
	"fmt"
	"time"
)

// Epoch counts the changes of primary of one cluster. It only ever rises; an
// order or a topology that carries an older epoch than the one known is
// refused.
type Epoch uint64

// Role is what a database server is to its cluster.
type Role string

// The roles of a database server.
const (
	Primary Role = "primary" // takes the writes
	Replica Role = "replica" // follows the primary and serves reads
)

// State is what the farm wants of a replica.
type State string

// The states of a replica in a topology.
const (
	Serving  State = "serving"  // takes reads, as its health allows
	Warming  State = "warming"  // known, probed and connected to, but takes no reads yet
	Draining State = "draining" // takes no new reads; what runs may finish
)

// Server is one database server of a cluster.
type Server struct {
	// Name is unique in its cluster and stays the server's own when its address
	// changes.
	Name string `json:"name"`
	// Address is host:port, or the absolute path of a unix socket.
	Address string `json:"address"`
	// Weight is the replica's share of the reads relative to the other
	// replicas, 1 to 1000; 0 in a file means the default of 100. It means
	// nothing on a primary.
	Weight int `json:"weight,omitempty"`
	// State is empty on a primary; on a replica empty means serving.
	State State `json:"state,omitempty"`
	// Attributes are free facts (zone, instance type …) for people and policies.
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Network returns the network name that net.Dial wants for the server's
// address: "unix" or "tcp".
func (s Server) Network() string {
	if len(s.Address) > 0 && s.Address[0] == '/' {
		return "unix"
	}
	return "tcp"
}

// Cluster is one primary and its replicas. Values are shared between
// goroutines and never changed after they were read from a file.
type Cluster struct {
	Epoch Epoch `json:"epoch"`
	// Primary is nil while the cluster has none: writes wait.
	Primary  *Server  `json:"primary"`
	Replicas []Server `json:"replicas"`
}

// Topology is the whole content of a topology file.
type Topology struct {
	// Version is the version of the file's format, 1.
	Version int `json:"version"`
	// Written is when the writer made the file; for people only.
	Written  time.Time          `json:"written,omitzero"`
	Clusters map[string]Cluster `json:"clusters"`
}

// Flavor is whose server it is; the two differ in GTIDs, in session tracking
// and in SQL.
type Flavor uint8

// The flavors of server.
const (
	UnknownFlavor Flavor = iota
	MariaDB
	MySQL
)

func (f Flavor) String() string {
	switch f {
	case MariaDB:
		return "MariaDB"
	case MySQL:
		return "MySQL"
	}
	return fmt.Sprintf("Flavor(%d)", uint8(f))
}
