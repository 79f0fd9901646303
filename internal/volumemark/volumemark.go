// Package volumemark says on a volume whom it is attached to.
//
// Whoever attaches a volume writes the mark at its top; a node looks for it before it
// writes anything. Without it, what is there is not the volume, but perhaps the
// directory that it was to be mounted over.
package volumemark

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"farmhand/internal/atomicfile"
)

// File is the name of the file at the top of a volume.
const File = ".farmhand-volume"

// Mark is what stands in it.
type Mark struct {
	Volume   string `json:"volume"`
	Instance string `json:"instance"`
	// Epoch is the number of the attachment, which is raised with each.
	Epoch int64 `json:"epoch"`
}

// most is the longest mark that is read, in bytes.
const most = 4 << 10

// Write writes the mark of the volume at directory.
func Write(directory string, m Mark) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(directory, File), append(text, '\n'), 0o644, nil)
}

// Read returns the mark of the volume at directory, if it is that volume, attached to
// that instance.
func Read(directory, volume, instance string) (Mark, error) {
	m, err := read(directory)
	if err == nil && (m.Volume != volume || m.Instance != instance) {
		err = fmt.Errorf("there is volume %q of %q", m.Volume, m.Instance)
	}
	if err != nil {
		return Mark{}, fmt.Errorf("volume %s is not attached to %s at %s: %w", volume, instance, directory, err)
	}
	return m, nil
}

func read(directory string) (m Mark, err error) {
	f, err := os.Open(filepath.Join(directory, File))
	if err != nil {
		return m, err
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	return m, err
}
