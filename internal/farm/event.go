package farm

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// EventKind is what happened, or is about to happen, to a host.
type EventKind string

// The kinds of event. Each is also the name of a directory of hooks.
const (
	HostInit             EventKind = "host-init"             // a new host prepares itself
	BeforeHostUp         EventKind = "before-host-up"        // it is there, but not in service yet
	HostUp               EventKind = "host-up"               // it is in service
	BeforeHostTerminate  EventKind = "before-host-terminate" // it will be taken away
	HostDown             EventKind = "host-down"             // it has left the farm
	HostCrash            EventKind = "host-crash"            // it belongs to the farm and does not work
	NewPrimary           EventKind = "new-primary"           // it takes the writes from now on
	PrimaryLost          EventKind = "primary-lost"          // it took them, and nobody does now
	ReplicationBroken    EventKind = "replication-broken"
	ReplicationRecovered EventKind = "replication-recovered"
	BackupComplete       EventKind = "backup-complete"
	BackupFailed         EventKind = "backup-failed"
	DrillComplete        EventKind = "drill-complete" // a restore of a backup was proven
	DrillFailed          EventKind = "drill-failed"
	VolumeAttached       EventKind = "volume-attached"
	VolumeMounted        EventKind = "volume-mounted"
	MountStuck           EventKind = "mount-stuck" // a storage that is mounted did not answer, and something was done about it
	Scaling              EventKind = "scaling"     // a role is to have more hosts or fewer
	RebundleComplete     EventKind = "rebundle-complete"
	RebundleFailed       EventKind = "rebundle-failed"
	Custom               EventKind = "custom" // whatever its fields say
)

// EventKinds lists every kind there is.
func EventKinds() []EventKind {
	return []EventKind{
		HostInit, BeforeHostUp, HostUp, BeforeHostTerminate, HostDown, HostCrash, NewPrimary, PrimaryLost,
		ReplicationBroken, ReplicationRecovered, BackupComplete, BackupFailed, DrillComplete, DrillFailed, VolumeAttached, VolumeMounted, MountStuck,
		Scaling, RebundleComplete, RebundleFailed, Custom,
	}
}

// Event is one thing that happened to one host. Values are shared and not
// changed after they were made.
type Event struct {
	// ID is unique; who gets an event twice knows it by its ID.
	ID   string    `json:"id"`
	Kind EventKind `json:"kind"`
	Time time.Time `json:"time"`
	Host EventHost `json:"host"`
	// Fields are free facts beside these.
	Fields map[string]string `json:"fields,omitempty"`
}

// EventHost is the host that an event is about, as it is after it; as it was
// last, if it is gone.
type EventHost struct {
	Name string `json:"name"`
	// Role is what the host does: primary, replica, web, memcached …
	Role string `json:"role"`
	// Address is a host, host:port or the absolute path of a unix socket.
	Address string `json:"address"`
}

// Bounds of an event. All of it becomes the environment of a hook, which the
// kernel limits too.
const (
	MaxEventFields     = 64
	MaxEventFieldValue = 4096 // bytes
	maxEventAddress    = 255  // bytes
)

var fieldPattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// Check says everything that is wrong with the event.
func (e Event) Check() error {
	var errs []error
	if err := CheckName(e.ID); err != nil {
		errs = append(errs, fmt.Errorf("id: %w", err))
	}
	if !slices.Contains(EventKinds(), e.Kind) {
		errs = append(errs, fmt.Errorf("%q is not a kind of event; expected %s", e.Kind, kindList()))
	}
	if e.Time.IsZero() {
		errs = append(errs, errors.New("time: it is missing"))
	}
	if err := CheckName(e.Host.Name); err != nil {
		errs = append(errs, fmt.Errorf("host: %w", err))
	}
	if err := CheckName(e.Host.Role); err != nil {
		errs = append(errs, fmt.Errorf("role: %w", err))
	}
	if err := CheckEventAddress(e.Host.Address); err != nil {
		errs = append(errs, fmt.Errorf("address: %w", err))
	}
	if len(e.Fields) > MaxEventFields {
		errs = append(errs, fmt.Errorf("%d fields; expected at most %d", len(e.Fields), MaxEventFields))
	}
	for _, key := range slices.Sorted(maps.Keys(e.Fields)) {
		if err := checkEventField(key, e.Fields[key]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func kindList() string {
	names := make([]string, 0, len(EventKinds()))
	for _, kind := range EventKinds() {
		names = append(names, string(kind))
	}
	return strings.Join(names, ", ")
}

// CheckEventAddress says what is wrong with the address of a host, which is wider
// than a server's: it needs no port.
func CheckEventAddress(address string) error {
	if address == "" || len(address) > maxEventAddress || !utf8.ValidString(address) ||
		strings.ContainsFunc(address, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return fmt.Errorf("%q is not an address; expected a host, host:port or the path of a unix socket", address)
	}
	return nil
}

func checkEventField(key, value string) error {
	switch {
	case !fieldPattern.MatchString(key):
		return fmt.Errorf("%q is not the name of a field; expected 1 to 40 of the characters a-z 0-9 _, a letter first", key)
	case len(value) > MaxEventFieldValue:
		return fmt.Errorf("field %s: %d bytes; expected at most %d", key, len(value), MaxEventFieldValue)
	case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
		return fmt.Errorf("field %s: it is not UTF-8 text without NUL bytes", key)
	}
	return nil
}

// FieldText makes a text one that a field of an event can have.
func FieldText(text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "\uFFFD")
	if len(text) > MaxEventFieldValue {
		text = strings.ToValidUTF8(text[:MaxEventFieldValue], "") // a character may be cut
	}
	return text
}
