package topology

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/filewatch"
)

// Reason is why a file was refused, in the few words that suit a metric's label.
type Reason string

// The reasons to refuse a file.
const (
	Vanished       Reason = "vanished"        // there is no such file
	Unreadable     Reason = "unreadable"      // the system would not let it be read
	Invalid        Reason = "invalid"         // it is empty, half-written or wrong
	OlderEpoch     Reason = "older_epoch"     // a cluster's epoch is lower than one seen before
	SecondPrimary  Reason = "second_primary"  // another primary under an epoch that has had one
	MissingCluster Reason = "missing_cluster" // a cluster that the reader requires is not in it
)

// Reasons lists every reason there is.
func Reasons() []Reason {
	return []Reason{Vanished, Unreadable, Invalid, OlderEpoch, SecondPrimary, MissingCluster}
}

// A Refusal is a file that did not come into force.
type Refusal struct {
	Path   string
	Reason Reason
	Err    error // what is wrong with it; [Problems] for Invalid
}

func (r *Refusal) Error() string { return fmt.Sprintf("topology file %s: %v", r.Path, r.Err) }
func (r *Refusal) Unwrap() error { return r.Err }

// term is the newest epoch that a cluster was seen in and the primary it had.
type term struct {
	epoch   farm.Epoch
	primary string // empty until the epoch has had one
}

// verdict is what admit decided: a topology and the terms after it, or a refusal.
type verdict struct {
	topology *farm.Topology
	terms    map[string]term
	refusal  *Refusal
}

// admit decides whether what was read may come into force over the terms seen
// before.
func admit(path string, r filewatch.Reading, terms map[string]term, require []string) verdict {
	refuse := func(reason Reason, err error) verdict {
		return verdict{refusal: &Refusal{Path: path, Reason: reason, Err: err}}
	}
	switch {
	case errors.Is(r.Err, fs.ErrNotExist):
		return refuse(Vanished, r.Err)
	case r.Err != nil:
		return refuse(Unreadable, r.Err)
	}
	t, err := Parse(r.Data)
	if err != nil {
		return refuse(Invalid, err)
	}
	for _, name := range require {
		if _, ok := t.Clusters[name]; !ok {
			return refuse(MissingCluster, fmt.Errorf("there is no cluster %q in it; it has %s", name,
				strings.Join(slices.Sorted(maps.Keys(t.Clusters)), ", ")))
		}
	}
	// A cluster that left the file keeps its term, so that it cannot come back
	// with an older epoch either.
	after := maps.Clone(terms)
	for _, name := range slices.Sorted(maps.Keys(t.Clusters)) {
		next := term{epoch: t.Clusters[name].Epoch}
		if primary := t.Clusters[name].Primary; primary != nil {
			next.primary = primary.Name
		}
		known := terms[name]
		switch {
		case next.epoch < known.epoch:
			return refuse(OlderEpoch, fmt.Errorf("cluster %s: epoch %d is older than %d, which was in force already",
				name, next.epoch, known.epoch))
		case next.epoch > known.epoch:
		case next.primary == "":
			next.primary = known.primary
		case known.primary != "" && known.primary != next.primary:
			return refuse(SecondPrimary, fmt.Errorf("cluster %s: epoch %d has %s for its primary already; a change to %s needs a higher epoch",
				name, next.epoch, known.primary, next.primary))
		}
		after[name] = next
	}
	return verdict{topology: &t, terms: after}
}

// same reports whether two topologies mean the same, whenever they were written.
func same(a, b *farm.Topology) bool {
	return maps.EqualFunc(a.Clusters, b.Clusters, func(a, b farm.Cluster) bool {
		if a.Epoch != b.Epoch || (a.Primary == nil) != (b.Primary == nil) {
			return false
		}
		if a.Primary != nil && !sameServer(*a.Primary, *b.Primary) {
			return false
		}
		return slices.EqualFunc(a.Replicas, b.Replicas, sameServer)
	})
}

func sameServer(a, b farm.Server) bool {
	return a.Name == b.Name && a.Address == b.Address && a.Weight == b.Weight && a.State == b.State &&
		maps.Equal(a.Attributes, b.Attributes)
}
