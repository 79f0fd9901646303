package topology

import (
	"encoding/json"
	"fmt"

	"farmhand/internal/atomicfile"
	"farmhand/internal/farm"
	"farmhand/internal/filewatch"
)

// Read reads and checks the topology file at path. An error names the file and
// wraps [Problems] where the content is to blame.
func Read(path string) (farm.Topology, error) {
	data, err := filewatch.Read(path, MaxSize)
	if err != nil {
		return farm.Topology{}, fmt.Errorf("read topology: %w", err)
	}
	t, err := Parse(data)
	if err != nil {
		return farm.Topology{}, fmt.Errorf("topology file %s: %w", path, err)
	}
	return t, nil
}

// Encode returns the file's content for t. What it returns without an error,
// [Parse] accepts; Parse is the one set of rules.
func Encode(t farm.Topology) ([]byte, error) {
	clusters := make(map[string]farm.Cluster, len(t.Clusters))
	for name, c := range t.Clusters {
		if c.Replicas == nil {
			c.Replicas = []farm.Server{}
		}
		clusters[name] = c
	}
	t.Clusters = clusters
	data, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode topology: %w", err)
	}
	data = append(data, '\n')
	if _, err := Parse(data); err != nil {
		return nil, fmt.Errorf("invalid topology: %w", err)
	}
	return data, nil
}

// Write replaces the file at path with t, so that a reader sees the old content
// or the new one and a crash leaves one of the two. A file that exists keeps its
// permissions, a new one gets 0644. A symbolic link at path is replaced, not
// followed. An invalid topology is not written.
//
// Write does not look at the old content: to raise the epoch is the business of
// who decides on the primary, to refuse an older one that of every reader.
func Write(path string, t farm.Topology) error {
	data, err := Encode(t)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(path, data, 0o644, nil); err != nil {
		return fmt.Errorf("write topology: %w", err)
	}
	return nil
}
