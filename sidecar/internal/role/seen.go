package role

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"farmhand/internal/atomicfile"
	"farmhand/internal/farm"
	"farmhand/sidecar/internal/hook"
	"farmhand/sidecar/internal/membership"
)

// seen is the membership of which all events are in the spool, kept over a
// restart: what changed while no sidecar ran is told too.
type seen struct {
	// Nonce and Generation make the ids of the events of the next change: told
	// again after a crash, they have the ids that they had.
	Nonce      string              `json:"nonce"`
	Generation uint64              `json:"generation"`
	Term       membership.Term     `json:"term"`
	Members    membership.Snapshot `json:"members"`
}

func seenPath(state string) string { return filepath.Join(state, "members.json") }

// readSeen returns what was kept, or a beginning, which it keeps.
func readSeen(state string) (seen, error) {
	data, err := os.ReadFile(seenPath(state))
	if errors.Is(err, fs.ErrNotExist) {
		s := seen{Nonce: hook.NewID()}
		return s, s.keep(state)
	}
	if err != nil {
		return seen{}, fmt.Errorf("what was seen of the membership: %w", err)
	}
	var s seen
	if err := json.Unmarshal(data, &s); err != nil {
		return seen{}, fmt.Errorf("what was seen of the membership: %s: %w; without it, hooks are told of every host anew", seenPath(state), err)
	}
	return s, nil
}

func (s seen) keep(state string) error {
	data, err := json.Marshal(s)
	if err == nil {
		err = atomicfile.Write(seenPath(state), data, 0o600, nil)
	}
	if err != nil {
		return fmt.Errorf("keep what was seen of the membership: %w", err)
	}
	return nil
}

// id returns the id of an event of the next change. Of one change no two events
// have the same kind and host.
func (s seen) id(e farm.Event) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %s %q", s.Nonce, s.Generation, e.Kind, e.Host))
	return hex.EncodeToString(sum[:12])
}
