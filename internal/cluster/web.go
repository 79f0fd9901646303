package cluster

import (
	"time"

	"farmhand/internal/farm"
)

// WebReportName is the name of the report of a web node among what nodes report.
const WebReportName = "web"

// WebReport is what a web node's sidecar says of its proxy, every second and at
// every change.
type WebReport struct {
	Name string    `json:"name"`
	Time time.Time `json:"time"` // by the node's clock, for people
	// State is "starting", "running" or "failed", Detail why not all is well.
	State  string `json:"state"`
	Detail string `json:"detail,omitempty"`
	PID    int    `json:"pid,omitempty"` // of the proxy; 0 if the sidecar runs none
	// Epoch and Serial are those of the assignment from which the proxy's topology
	// file was written last; 0 if it was not yet.
	Epoch  farm.Epoch `json:"epoch"`
	Serial uint64     `json:"serial"`
	// Load is what the proxy and its machine have to do; what is not there is not known.
	Load map[string]float64 `json:"load,omitempty"`
}

// Encode returns the report's value in the registry.
func (r *WebReport) Encode() ([]byte, error) {
	return encoded(r, "a web node's report")
}

// DecodeWebReport reads a report's value.
func DecodeWebReport(data []byte) (*WebReport, error) {
	return decoded[WebReport](data, "a web node's report")
}
