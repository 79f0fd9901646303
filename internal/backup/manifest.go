package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/objects"
)

// Manifest describes one full backup. It is an object of its own, in JSON.
type Manifest struct {
	Format  int    `json:"format"` // 1
	Cluster string `json:"cluster"`
	ID      string `json:"id"` // sorts by time

	Flavor string `json:"flavor"` // of the server, as farm.Flavor writes it
	// Kind is empty for a copy of the server's files, Logical for statements.
	Kind string `json:"kind,omitempty"`
	// Stream is what the stream is, for who has no Farmhand: "mbstream", "tar" or "sql".
	// Backups of before are without.
	Stream string `json:"stream,omitempty"`
	// ServerVersion is the server's, Tool what made the stream, with its version.
	ServerVersion string     `json:"server_version"`
	Tool          string     `json:"tool"`
	Source        string     `json:"source"` // the node that it was taken from
	Epoch         farm.Epoch `json:"epoch"`  // of the cluster, meanwhile

	// Position is the GTID position of the backup: it holds precisely the
	// transactions up to there. It is empty if there was none.
	Position string `json:"position"`
	// BinlogState is up to where each MariaDB server's transactions are in it
	// (gtid_binlog_state): a server that was restored and leads is compared by it with
	// those that follow. Backups of before are without.
	BinlogState string `json:"binlog_state,omitempty"`

	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`

	Compression string `json:"compression"` // "zstd"
	// Encryption is "age" or empty. Recipients are the public keys that it was
	// encrypted to.
	Encryption string   `json:"encryption,omitempty"`
	Recipients []string `json:"recipients,omitempty"`

	Bytes int64  `json:"bytes"` // of the stream
	Parts []Part `json:"parts"` // in order
}

// Part is one object of a backup.
type Part struct {
	Key    string `json:"key"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Logical is the kind of a backup that is statements: it can be restored on a server of
// another series, takes longer, and has only what applications have.
const Logical = "logical"

const (
	format       = 1
	compression  = "zstd"
	encryption   = "age"
	maxManifest  = 256 << 20 // a backup of a million parts
	manifestName = "manifest.json"
	pinName      = "pin.json"
)

// Make is the flavor of the server that it is of.
func (m *Manifest) Make() (farm.Flavor, error) { return flavorOf(m.Flavor) }

// At is the position of the backup.
func (m *Manifest) At() (gtid.Position, error) {
	flavor, err := flavorOf(m.Flavor)
	if err != nil {
		return gtid.Position{}, err
	}
	return gtid.Parse(flavor, m.Position)
}

// Continue finds what can be replayed on the backup.
func (m *Manifest) Continue(segments []Segment) (Chain, error) {
	base, err := m.At()
	if err != nil {
		return Chain{}, fmt.Errorf("backup %s: %w", m.ID, err)
	}
	flavor, err := flavorOf(m.Flavor)
	if err != nil {
		return Chain{}, fmt.Errorf("backup %s: %w", m.ID, err)
	}
	return Follow(flavor, base, segments)
}

// IsOf says whether it is of a server of a flavor.
func (m *Manifest) IsOf(flavor farm.Flavor) bool { return strings.EqualFold(m.Flavor, flavor.String()) }

// Attributed says whether it is known who wrote the transactions: MySQL's positions tell.
func (m *Manifest) Attributed() bool { return m.BinlogState != "" || m.IsOf(farm.MySQL) }

// Follows says whether what is restored of the backup can follow a primary: one of
// statements has not all that servers have.
func (m *Manifest) Follows() bool { return m.Kind != Logical && m.Attributed() }

// flavorOf reads a flavor as farm.Flavor writes it.
func flavorOf(text string) (farm.Flavor, error) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		if strings.EqualFold(text, flavor.String()) {
			return flavor, nil
		}
	}
	return farm.UnknownFlavor, fmt.Errorf("it is of a server of the flavor %q, which is not known here", text)
}

// Stored is the size of all parts.
func (m *Manifest) Stored() (sum int64) {
	for _, p := range m.Parts {
		sum += p.Size
	}
	return sum
}

// fullPrefix is where a cluster's full backups are.
func fullPrefix(cluster string) string { return cluster + "/full/" }

func home(cluster, id string) string { return fullPrefix(cluster) + id + "/" }

func manifestKey(cluster, id string) string { return home(cluster, id) + manifestName }

func partKey(cluster, id string, number int) string {
	return fmt.Sprintf("%spart-%06d", home(cluster, id), number)
}

// Load reads the manifest of a backup. objects.ErrNotFound means that there is
// none: the backup does not count. A FaultError names one that cannot be read.
func Load(ctx context.Context, store objects.Store, cluster, id string) (*Manifest, error) {
	key := manifestKey(cluster, id)
	data, err := readAll(ctx, store, key, maxManifest)
	if err != nil {
		return nil, err
	}
	m := new(Manifest)
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(m); err != nil {
		return nil, &FaultError{Key: key, Reason: "is not a manifest: " + err.Error()}
	}
	if err := m.check(cluster, id); err != nil {
		return nil, &FaultError{Key: key, Reason: "is not a manifest that can be used: " + err.Error()}
	}
	return m, nil
}

func (m *Manifest) check(cluster, id string) error {
	switch {
	case m.Format != format:
		return fmt.Errorf("format %d is not known here", m.Format)
	case m.Cluster != cluster || m.ID != id:
		return fmt.Errorf("it is that of backup %s of %s", m.ID, m.Cluster)
	case m.Compression != compression:
		return fmt.Errorf("compression %q is not known here", m.Compression)
	case m.Encryption != "" && m.Encryption != encryption:
		return fmt.Errorf("encryption %q is not known here", m.Encryption)
	case m.Kind != "" && m.Kind != Logical:
		return fmt.Errorf("the kind %q is not known here", m.Kind)
	case m.Flavor == "" || m.Ended.IsZero():
		return errors.New("it does not say of what server it is, or of when")
	case len(m.Parts) == 0:
		return errors.New("it has no parts")
	}
	for i, p := range m.Parts {
		if p.Key != partKey(cluster, id, i+1) || p.Size <= 0 || len(p.SHA256) != 64 {
			return fmt.Errorf("part %d is not described", i+1)
		}
	}
	return nil
}

// readAll reads a small object.
func readAll(ctx context.Context, store objects.Store, key string, most int64) ([]byte, error) {
	r, object, err := store.Get(ctx, key, objects.GetOptions{})
	if err != nil {
		return nil, err
	}
	if object.Size > most {
		return nil, errors.Join(&FaultError{Key: key, Reason: fmt.Sprintf("has %d bytes", object.Size)}, r.Close())
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// FaultError says what is wrong with an object of a backup.
type FaultError struct {
	Key     string
	Reason  string
	Missing bool
}

func (e *FaultError) Error() string { return e.Key + " " + e.Reason }

// FaultsError is all that is wrong with a backup.
type FaultsError []*FaultError

func (e FaultsError) Error() string {
	var all []string
	for _, f := range e {
		all = append(all, f.Error())
	}
	return strings.Join(all, "; ")
}
