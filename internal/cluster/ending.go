package cluster

import "time"

// EndingReportName is the name, among what nodes report, of the report that a node's
// machine is about to be taken away.
const EndingReportName = "ending"

// EndingReport is what a node says whose machine was given notice, as spot instances
// are. It is not taken back.
type EndingReport struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"` // when it ends, by who takes it away
	Why  string    `json:"why"`
}

// Encode returns the report's value in the registry.
func (r *EndingReport) Encode() ([]byte, error) { return encoded(r, "a report about a node's end") }

// DecodeEndingReport reads a report's value.
func DecodeEndingReport(data []byte) (*EndingReport, error) {
	return decoded[EndingReport](data, "a report about a node's end")
}
