// Package role is what a node can be: each role is one file here and one line
// in Kinds.
//
// A role is held for the time that its Run takes: it starts what belongs to it
// and has stopped it when Run returns. It does not decide which role the node
// has.
package role

import (
	"context"
	"io"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/report"
	"farmhand/sidecar/internal/config"
)

// Tools are what every role is given.
type Tools struct {
	Log *zap.Logger
	// Report passes on the node's state. An error ends the role of a database
	// server: one of which nobody hears is not held. A web node goes on.
	Report func(report.Report) error
	// Event puts an event before the hooks. When it returns nil the event is safe.
	Event func(farm.Event) error
	// Output is where the programs that a role runs write what they have to say.
	Output io.Writer
}

// Role is held by Run until finish ends, then cleanly given up, which the end
// of now cuts short. The error says why the role could not be held or not be
// given up cleanly.
type Role interface {
	Run(finish, now context.Context) error
}

// Kinds are all roles, by the name that the configuration gives.
var Kinds = map[string]func(config.Config, Tools) (Role, error){
	"mysql": newMySQL,
	"web":   newWeb,
}
