package farm

import "fmt"

// sentences say of a host what has happened, or is about to.
var sentences = map[EventKind]string{
	HostInit:             "%s prepares itself",
	BeforeHostUp:         "%s is about to serve",
	HostUp:               "%s is up",
	BeforeHostTerminate:  "%s will be taken away",
	HostDown:             "%s has left",
	HostCrash:            "%s has crashed",
	NewPrimary:           "%s takes the writes",
	PrimaryLost:          "%s is lost",
	ReplicationBroken:    "%s does not replicate any more",
	ReplicationRecovered: "%s replicates again",
	BackupComplete:       "the backup of %s is complete",
	BackupFailed:         "the backup of %s has failed",
	DrillComplete:        "a restore of a backup has been proven on %s",
	RebundleComplete:     "the image of %s is that of its role",
	RebundleFailed:       "the image of %s has not become that of its role",
	MountStuck:           "a storage that is mounted on %s did not answer",
	DrillFailed:          "the restore drill on %s has failed",
}

// Sentence says for people what happened, to whom, and the reason if there is one.
func (e Event) Sentence() string {
	format, ok := sentences[e.Kind]
	if !ok {
		format = string(e.Kind) + " at %s"
	}
	what := e.Host.Role
	if e.Host.Address != e.Host.Name { // it may have none
		what += " at " + e.Host.Address
	}
	text := fmt.Sprintf(format+" (%s)", e.Host.Name, what)
	if reason := e.Fields["reason"]; reason != "" {
		text += ": " + reason
	}
	return text
}
