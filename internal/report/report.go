// Package report is what a node's agent says about the database server, or on a
// web node the proxy, in its care, as lines of JSON: the sidecar writes them to its standard output, who
// launched the sidecar reads them.
//
// It decides nothing from what is reported. Invariant: one report is one line
// and stands for itself; a reader may miss any number of them.
package report

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"farmhand/internal/farm"
)

// State is what the database server is doing.
type State string

// The states of a server, in the order that they usually come in.
const (
	Initialising State = "initialising" // its data directory is being made
	Starting     State = "starting"     // its process runs but does not answer yet
	Running      State = "running"      // it answers and has its role
	Failed       State = "failed"       // it ended or could not be started; it will be tried again
	Unhealthy    State = "unhealthy"    // it runs, and its health checks have failed
	Stopping     State = "stopping"     // it was told to shut down
	Stopped      State = "stopped"      // it is gone, cleanly
)

// Report is the state of one server at one time.
type Report struct {
	Time    time.Time `json:"time"`
	Name    string    `json:"name"`
	Address string    `json:"address"` // host:port; empty on a web node
	Role    farm.Role `json:"role"`
	State   State     `json:"state"`
	PID     int       `json:"pid,omitempty"` // of the server's or the proxy's process, 0 without one
	// Detail explains the state to a person, most of all why it failed.
	Detail string `json:"detail,omitempty"`
	// Replication is nil on a primary and on what does not run.
	Replication *Replication `json:"replication,omitempty"`
}

// Replication is how a replica follows.
type Replication struct {
	Source   string `json:"source"` // host:port
	Receiver string `json:"receiver"`
	Applier  string `json:"applier"`
	// Behind is the server's own estimate of its lag in seconds; nil is
	// unknown, which is not zero.
	Behind *int64 `json:"behind_seconds"`
	// Error is why the replication halts; empty while it runs.
	Error string `json:"error,omitempty"`
}

// Write writes r as one line.
func Write(w io.Writer, r Report) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// maxLine bounds a report's size in bytes.
const maxLine = 1 << 20

// Read calls each for every report until the end of the stream, which is no
// error. A line that is no report is one.
func Read(r io.Reader, each func(Report)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var one Report
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return fmt.Errorf("read report: %w", err)
		}
		if one.Name == "" || one.State == "" {
			return errors.New("read report: it has no name or no state")
		}
		each(one)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	return nil
}
