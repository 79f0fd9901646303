package auth

import (
	"container/list"
	"crypto/sha256"
	"slices"
	"sync"
	"time"
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
	// expired: no reading that began before is recent.
	expired time.Time
}

// memo is what is remembered of a user. The credentials were proved while the
// rows were view's.
type memo struct {
	user        string
	view        view
	credentials []*Credential // replaced, never changed: readers share it
	ahead       bool          // a reading ahead of need is under way
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
	others := slices.DeleteFunc(slices.Clone(memo.credentials), c.same)
	memo.credentials = append([]*Credential{c}, others[:min(len(others), maxCredentials-1)]...)
}

// known returns the credentials proved while the rows had this fingerprint; they
// are shared.
func (m *memory) known(user string, print [sha256.Size]byte) []*Credential {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.users[user]
	if !ok || e.Value.(*memo).view.print != print {
		return nil
	}
	m.order.MoveToFront(e)
	return e.Value.(*memo).credentials
}

// recent returns the rows and credentials of user, if the rows were read at most
// maxAge ago, else nothing. ahead asks the caller to read them anew, because half
// of that has passed, and to call wasAhead then.
func (m *memory) recent(user string, maxAge time.Duration) (v view, credentials []*Credential, ahead bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.users[user]
	if !ok {
		return view{}, nil, false
	}
	memo := e.Value.(*memo)
	age := time.Since(memo.view.read)
	if age > maxAge || !memo.view.read.After(m.expired) {
		return view{}, nil, false
	}
	if age > maxAge/2 && !memo.ahead {
		memo.ahead, ahead = true, true
	}
	m.order.MoveToFront(e)
	return memo.view, memo.credentials, ahead
}

// wasAhead ends a reading ahead of need.
func (m *memory) wasAhead(user string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.users[user]; ok {
		e.Value.(*memo).ahead = false
	}
}

// expire makes every reading that began before now an old one.
func (m *memory) expire(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expired = now
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
