package auth

import (
	"container/list"
	"crypto/sha256"
	"slices"
	"sync"
)

// maxCredentials bounds the passwords remembered of one user: accounts that
// differ by host, and MySQL's second password, make more than one.
const maxCredentials = 4

// memory holds the proven credentials and last known rows of the users seen
// most recently. Only a proof makes an entry, so guesses push nobody out.
type memory struct {
	mu    sync.Mutex
	max   int
	users map[string]*list.Element // of *memo
	order *list.List               // most recently used first
}

// memo is what is remembered of a user. The credentials were proved while the
// rows were view's.
type memo struct {
	user        string
	view        view
	credentials []*Credential
}

func newMemory(limit int) *memory {
	return &memory{max: limit, users: make(map[string]*list.Element), order: list.New()}
}

// refresh takes notice of rows just read. A change voids the credentials.
func (m *memory) refresh(user string, v view) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.users[user]
	if !ok {
		return
	}
	memo := e.Value.(*memo)
	switch {
	case v.read.Before(memo.view.read): // overtaken by a newer reading
	case len(v.accounts) == 0:
		m.order.Remove(e)
		delete(m.users, user)
	default:
		if v.print != memo.view.print {
			memo.credentials = nil
		}
		memo.view = v
	}
}

// remember keeps c, proved for the rows of v.
func (m *memory) remember(user string, v view, c *Credential) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.users[user]
	if !ok {
		e = m.order.PushFront(&memo{user: user, view: v})
		m.users[user] = e
		if m.order.Len() > m.max {
			oldest := m.order.Back()
			m.order.Remove(oldest)
			delete(m.users, oldest.Value.(*memo).user)
		}
	}
	m.order.MoveToFront(e)
	memo := e.Value.(*memo)
	if memo.view.print != v.print {
		return // the rows changed while the proof ran
	}
	others := slices.DeleteFunc(memo.credentials, c.same)
	memo.credentials = append([]*Credential{c}, others[:min(len(others), maxCredentials-1)]...)
}

// known returns the credentials proved while the rows had this fingerprint; the
// slice is the caller's.
func (m *memory) known(user string, print [sha256.Size]byte) []*Credential {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.users[user]
	if !ok || e.Value.(*memo).view.print != print {
		return nil
	}
	m.order.MoveToFront(e)
	return slices.Clone(e.Value.(*memo).credentials)
}

// find returns a proven credential that can all that c can, nil if there is none.
func (m *memory) find(user string, print [sha256.Size]byte, c *Credential) *Credential {
	for _, known := range m.known(user, print) {
		if known.same(c) && (known.Plain() || !c.Plain()) {
			return known
		}
	}
	return nil
}

// last returns the rows of user as they were last read.
func (m *memory) last(user string) (view, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.users[user]
	if !ok {
		return view{}, false
	}
	return e.Value.(*memo).view, true
}
