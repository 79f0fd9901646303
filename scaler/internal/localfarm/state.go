package localfarm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"farmhand/internal/report"
)

// State is a running farm as another process sees it.
type State struct {
	Written time.Time `json:"written"`
	PID     int       `json:"pid"`   // of the scaler that runs the farm
	Ready   bool      `json:"ready"` // the farm answered through the proxy
	Proxy   Proxy     `json:"proxy"`
	// Servers hold the last report of each, the primary first.
	Servers []report.Report `json:"servers"`
}

// Proxy is the farm's proxy.
type Proxy struct {
	PID    int    `json:"pid,omitempty"` // 0 while it does not run
	Listen string `json:"listen"`
	Socket string `json:"socket,omitempty"`
	Detail string `json:"detail,omitempty"` // why it does not run
}

// ReadState returns the state of the farm that runs in dir, or ErrNotRunning.
func ReadState(dir string) (State, error) {
	l := layout{dir}
	held, err := l.held()
	if err != nil {
		return State{}, err
	}
	if !held {
		return State{}, fmt.Errorf("%s: %w", dir, ErrNotRunning)
	}
	text, err := os.ReadFile(l.state())
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("the farm in %s has just begun to start", dir)
	}
	if err != nil {
		return State{}, fmt.Errorf("read the farm's state: %w", err)
	}
	var s State
	if err := json.Unmarshal(text, &s); err != nil {
		return State{}, fmt.Errorf("read the farm's state: %w", err)
	}
	return s, nil
}

// board is the farm's state while it runs: parts write it, whoever waits is
// woken by every change.
type board struct {
	mu      sync.Mutex
	state   State
	changed chan struct{} // closed and replaced at every change
}

func newBoard(s State) *board { return &board{state: s, changed: make(chan struct{})} }

func (b *board) update(change func(*State)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.state)
	close(b.changed)
	b.changed = make(chan struct{})
}

// read returns the state and a channel that is closed when it has changed.
func (b *board) read() (State, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.state
	s.Servers = append([]report.Report(nil), s.Servers...)
	s.Written = time.Now().UTC()
	return s, b.changed
}

// take puts a report in its place and returns the one before.
func (b *board) take(r report.Report) (before report.Report) {
	b.update(func(s *State) {
		for i := range s.Servers {
			if s.Servers[i].Name == r.Name {
				if r.Role == "" { // not from the sidecar itself
					r.Role = s.Servers[i].Role
				}
				before, s.Servers[i] = s.Servers[i], r
			}
		}
	})
	return before
}
