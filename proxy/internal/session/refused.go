package session

import (
	"sync"
	"sync/atomic"

	"farmhand/proxy/internal/classify"
)

// maxRefused bounds the texts that are remembered.
const maxRefused = 4096

// Refused are the texts, by fingerprint, that look like reads and that a
// replica refused as writes: a view or a trigger hides a function that writes.
// They go to the primary from then on. Its methods may be called by any
// goroutine.
type Refused struct {
	any atomic.Bool // in most farms there is none, and nobody pays for the fingerprint

	mu    sync.Mutex
	texts map[uint64]struct{}
}

// add remembers a text.
func (r *Refused) add(sql []byte, m classify.Mode) {
	print := classify.Fingerprint(sql, m)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.texts == nil || len(r.texts) >= maxRefused {
		r.texts = map[uint64]struct{}{} // what is still in use comes back
	}
	r.texts[print] = struct{}{}
	r.any.Store(true)
}

// has tells whether a text is among them.
func (r *Refused) has(sql []byte, m classify.Mode) bool {
	if !r.any.Load() {
		return false
	}
	print := classify.Fingerprint(sql, m)
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.texts[print]
	return ok
}

// refusesWrites tells the errors by which a replica says that a statement
// would write: ER_OPTION_PREVENTS_STATEMENT, ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
// and ER_READ_ONLY_MODE.
func refusesWrites(code uint16) bool {
	return code == codeReadOnly || code == 1792 || code == 1836
}
