package cluster

import (
	"time"

	"farmhand/internal/farm"
)

// NodeReportName is the name, among what nodes report, of the report of a node that is
// no database server.
const NodeReportName = "node"

// NodeReport is what a sidecar says of the programs in its care, every second and at
// every change.
type NodeReport struct {
	Name string    `json:"name"`
	Time time.Time `json:"time"` // by the node's clock, for people
	// State is "starting", "running", "unhealthy" or "failed", Detail why not all is well.
	State  string `json:"state"`
	Detail string `json:"detail,omitempty"`
	// Well says that the node does what it is for: its programs run, and its health checks
	// have not failed.
	Well bool `json:"well"`
	// PID is the process of the first program that the sidecar keeps; 0 if there is none.
	PID int `json:"pid,omitempty"`
	// Epoch and Serial are those of the assignment from which the proxy's topology
	// file was written last; 0 if it was not yet.
	Epoch  farm.Epoch `json:"epoch"`
	Serial uint64     `json:"serial"`
	// Load is what the node has to do; what is not there is not known.
	Load map[string]float64 `json:"load,omitempty"`
	// Release is how the node stands with its site's code; nil if it has no releases.
	Release *ReleaseReport `json:"release,omitempty"`
}

// Encode returns the report's value in the registry.
func (r *NodeReport) Encode() ([]byte, error) {
	return encoded(r, "a node's report")
}

// DecodeNodeReport reads a report's value.
func DecodeNodeReport(data []byte) (*NodeReport, error) {
	return decoded[NodeReport](data, "a node's report")
}
