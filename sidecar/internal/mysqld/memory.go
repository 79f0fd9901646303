package mysqld

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"farmhand/internal/atomicfile"
	"farmhand/internal/cluster"
)

// kept is what a later run has to know.
type kept struct {
	// Assignment is the last one that was heard of: a primary that finds no registry
	// knows from it that it may have been replaced.
	Assignment *cluster.Assignment `json:"assignment,omitempty"`
	ID         uint32              `json:"id,omitempty"` // server_id
	// Fresh: the server was made empty in order to lead, and has not got the
	// application's account and schema yet.
	Fresh bool `json:"fresh,omitempty"`
	// LedAsync: since it last followed, the server led while commits did not wait
	// for acknowledgements.
	LedAsync bool `json:"led_async,omitempty"`
	// Copied is the source whose data the server has, while its task is Clone.
	Copied string `json:"copied,omitempty"`
	// Restored is the ID of the last restore that was done.
	Restored string `json:"restored,omitempty"`
	// The last copy of other data that was made: of a backup or of a server.
	CopiedStored bool          `json:"copied_stored,omitempty"`
	CopiedBytes  int64         `json:"copied_bytes,omitempty"`
	CopiedTook   time.Duration `json:"copied_took,omitempty"`
	// Passwords is the ID of the last change of passwords that what the server follows
	// with has gone through.
	Passwords string `json:"passwords,omitempty"`
	// Errant are the transactions that the data has and a source had not, when it was
	// last compared.
	Errant      string `json:"errant,omitempty"`
	ErrantAfter string `json:"errant_after,omitempty"` // see comparison
	// Missing is what the data lacked then.
	Missing string `json:"missing,omitempty"`
	// IntactPID is the process of which the report's Intact was true.
	IntactPID int `json:"intact_pid,omitempty"`
}

// memory is kept, in a file.
type memory struct {
	path string
	mu   sync.Mutex
	is   kept
}

// remember reads what the run before has kept.
func (a *Agent) remember() error {
	a.memory.path = filepath.Join(a.o.Server.Dir, "agent.json")
	data, err := os.ReadFile(a.memory.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, &a.memory.is)
	}
	if err != nil {
		return fmt.Errorf("what was known of the server: %w", err)
	}
	a.change(func(p *picture) { p.restored = a.memory.is.Restored })
	if last := a.memory.is.Assignment; last != nil {
		if err := last.Check(); err != nil {
			return fmt.Errorf("what was known of the server: %s: %w", a.memory.path, err)
		}
		a.change(func(p *picture) {
			p.order = newOrder(last, a.o.Name, false)
			p.copied = p.order.task() == cluster.Clone && a.memory.is.Copied == p.order.part.Source
		})
	}
	return nil
}

func (m *memory) kept() kept {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.is
}

// keep changes what is kept. It costs nothing if that changes nothing.
func (m *memory) keep(how func(*kept)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.is
	how(&next)
	if next == m.is {
		return nil
	}
	data, err := json.Marshal(next)
	if err == nil {
		err = atomicfile.WritePrivate(m.path, data)
	}
	if err != nil {
		return fmt.Errorf("keep what is known of the server: %w", err)
	}
	m.is = next
	return nil
}
