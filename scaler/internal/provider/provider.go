// Package provider launches, lists and terminates a farm's instances.
//
// It does what it is told to and decides nothing about the farm. What a provider
// has launched outlives the scaler: the one that comes next finds it by List, so
// nothing about an instance is known to the scaler's memory alone.
//
// contract_test.go has what every provider promises.
package provider

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"farmhand/internal/farm"
	"farmhand/scaler/internal/farmfile"
)

// Provider is where a farm's instances come from. Its methods may be called from
// any goroutine, and by several scalers at a time.
type Provider interface {
	// Launch begins an instance and returns what List will say of it, before it has
	// joined the farm or answers. ErrExists if there is one of that name.
	Launch(ctx context.Context, s Spec) (Instance, error)
	// Configure has an instance that was launched take what it can of another
	// configuration of its role while it runs: see [Configuration.Configured]. Clients of
	// what it serves do not notice. It can be repeated; Token of the spec is not used.
	Configure(ctx context.Context, s Spec) error
	// List returns every instance that was launched and is not gone, by name.
	List(ctx context.Context) ([]Instance, error)
	// Terminate stops an instance and removes it, its data unless its spec said to
	// keep it; it returns when it is gone. It can be repeated, also where it was cut
	// short: an instance that is not there is terminated already.
	Terminate(ctx context.Context, name string) error
}

// ErrExists: there is an instance of that name.
var ErrExists = errors.New("there is such an instance already")

// Spec is what an instance is to be.
type Spec struct {
	Name string
	// RoleName is the role's name in the farm file, Role what the file says of it.
	RoleName string
	Role     farmfile.Role
	// Cluster is the name of the database cluster that the instance belongs to or
	// connects to.
	Cluster string
	// Slot is its place among the role's instances, 1 or more; 0 if it has none.
	Slot int
	// Volume is the name of the volume that it gets; empty if its storage is a
	// directory of its own. The volume is there, and no other instance has it.
	Volume string
	// Token is the text of the token that it joins the farm with.
	Token string
	// Asked is when it was asked for: what is launched by the same name and time again is
	// the same instance. The zero time is a time, too.
	Asked time.Time
}

// CheckLaunch says what keeps an instance from being launched, whoever launches it.
func (s *Spec) CheckLaunch() error {
	if err := s.Check(); err != nil {
		return err
	}
	if s.Token == "" {
		return fmt.Errorf("launch %s: it has no token to join the farm with", s.Name)
	}
	if kind := s.Role.Storage.Kind; (kind == farmfile.VolumeStorage || kind == farmfile.ArrayStorage) != (s.Volume != "") {
		return fmt.Errorf("launch %s: its storage is %q, and its volume %q", s.Name, kind, s.Volume)
	}
	return nil
}

// Check says what is wrong with the names.
func (s *Spec) Check() error {
	if err := errors.Join(farm.CheckName(s.Name), farm.CheckName(s.RoleName), farm.CheckName(s.Cluster)); err != nil {
		return fmt.Errorf("instance: %w", err)
	}
	if _, ok := Number(s.RoleName, s.Name); !ok {
		return fmt.Errorf("instance %s: the name is not that of role %s and a number", s.Name, s.RoleName)
	}
	return nil
}

// State is what an instance does.
type State string

// The states of an instance.
const (
	Running     State = "running"
	Stopped     State = "stopped" // it has ended, and is there to be started again
	Terminating State = "terminating"
)

// Instance is one that was launched.
type Instance struct {
	Name     string            `json:"name"`
	RoleName string            `json:"role"`
	Kind     farmfile.RoleKind `json:"kind"`
	// Address is the instance's own.
	Address  netip.Addr `json:"address"`
	Launched time.Time  `json:"launched"`
	State    State      `json:"state"`
	// PID is the sidecar's process on this machine; 0 without one.
	PID int `json:"pid,omitempty"`
	// Listen and Socket are where a web node's proxy takes clients; empty if it does
	// not.
	Listen string `json:"listen,omitempty"`
	Socket string `json:"socket,omitempty"`
	// Slot is its place among the role's instances; 0 if it has none.
	Slot int `json:"slot,omitempty"`
	// Configuration is what it runs by; nil if nobody knows.
	Configuration Configuration `json:"-"`
	// Volume is the name of its volume; empty if it has none. Inherits says that somebody
	// had that before, so that there is data on it.
	Volume   string `json:"volume,omitempty"`
	Inherits bool   `json:"inherits,omitempty"`
	// Log is where a person finds what the instance says.
	Log string `json:"log,omitempty"`
}

// Number is the number in the name of a role's instance; false for another name.
func Number(role, name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, role)
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n >= 1 && strconv.Itoa(n) == digits
}
