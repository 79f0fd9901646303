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
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/registry"
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
	// Farm is the farm that the node is a member of; nil without one.
	Farm Farm
	// Members tells who is there, as [registry.Client.WatchMembers] does; nil without
	// a farm.
	Members func(context.Context, func(registry.MembersView) error) error
	// Announce has the others know what the node says of itself; nil without a farm.
	Announce func(attributes map[string]string)
	// Output is where the programs that a role runs write what they have to say.
	Output io.Writer
}

// Farm is what a role knows of its farm and tells it, by way of the registry.
// Losing that is trouble of the farm's, not the role's: methods return errors
// then, or wait, and the role goes on with what it knows.
type Farm interface {
	// Watch tells the value of a record now and at each change, until ctx ends (whose
	// cause it returns) or tell returns an error. While the registry cannot be
	// reached, the last value is told as Lost. See [registry.Client.Watch].
	Watch(ctx context.Context, r registry.Record, tell func(registry.Value) error) error
	// Read returns the value of a record, nil if there is none: the newest there is,
	// or an error.
	Read(ctx context.Context, r registry.Record) ([]byte, error)
	// Report puts what the node says of itself under a name.
	Report(ctx context.Context, name string, value []byte) error
	// Until is the moment until which the node is a member for sure: nobody else can
	// have given it up before. Zero: it is none, as after it was expelled.
	Until() time.Time
}

// Role is held by Run until finish ends, then cleanly given up, which the end
// of now cuts short. The error says why the role could not be held or not be
// given up cleanly.
//
// If the cause of finish's end is [registry.ErrDenied], the node was expelled from
// its farm: another server may take the writes by now, and what this one has not
// had acknowledged must not be told to its clients as committed.
type Role interface {
	Run(finish, now context.Context) error
}

// Kinds are all roles, by the name that the configuration gives.
var Kinds = map[string]func(config.Config, Tools) (Role, error){
	"mysql":     newMySQL,
	"web":       newWeb,
	"base":      newBase,
	"lb":        newLB,
	"memcached": newMemcached,
	"worker":    newWorker,
	"storage":   newStorage,
}
