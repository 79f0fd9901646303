package session

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/wire"
)

// Info is what others see of a session.
type Info struct {
	ID          uint32
	User        string
	Remote      string
	Schema      string
	Started     time.Time
	Command     string    // the command under way; empty between commands
	Since       time.Time // when it began, or the last one ended
	Primary     string    // server of the primary connection, empty without one
	Replica     string
	Transaction string // server that a transaction is open on
	Pin         string // why the session's statements stay on the primary connection
	Queries     uint64
}

// shared is the part of a session that other goroutines read.
type shared struct {
	queries atomic.Uint64

	mu      sync.Mutex
	info    Info
	command bool

	running running
}

// running is the connection that the session uses now, nil for none. Whoever
// kills holds the lock while it does, which keeps the session from going on: a
// KILL that is late would hit the next command.
type running struct {
	sync.Mutex
	conn  *backend.Conn
	ended time.Time // the deadline of all that follows, once the session is being ended
}

// set changes it. It is false where the session is being ended.
func (r *running) set(c *backend.Conn) bool {
	r.Lock()
	defer r.Unlock()
	if r.conn != c {
		r.conn = c
		if c != nil && !r.ended.IsZero() {
			_ = c.SetDeadline(r.ended)
		}
	}
	return r.ended.IsZero()
}

// interrupt wakes the session from whatever it waits for on a server.
func (r *running) interrupt(past time.Time) {
	r.Lock()
	defer r.Unlock()
	r.ended = past
	if r.conn != nil {
		_ = r.conn.SetDeadline(past)
	}
}

// begin says that a command begins.
func (h *shared) begin(name wire.Command, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.command = true
	h.info.Since = now
	h.info.Command = name.String()
	h.queries.Add(1)
}

// takeBack takes back that a command has begun, which begins again.
func (h *shared) takeBack() { h.queries.Add(^uint64(0)) }

// end says that no command is under way, and how the session is now.
func (h *shared) end(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.command = false
	h.info.Since = s.ended
	h.info.Command = ""
	h.publish(s)
}

// refresh brings what others see up to date in the middle of a command.
func (h *shared) refresh(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.publish(s)
}

func (h *shared) betweenCommands() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.command
}

// publish brings what others see up to date. The caller has the lock.
func (h *shared) publish(s *Session) {
	server := func(c *backend.Conn) string {
		if c == nil {
			return ""
		}
		return c.Server.Name
	}
	h.info.ID, h.info.User, h.info.Remote, h.info.Schema = s.id, s.client.User, s.client.Remote, s.state.schema
	h.info.Primary, h.info.Replica, h.info.Transaction = server(s.primary), server(s.replica), server(s.transaction)
	h.info.Pin = s.state.bound()
}

func (h *shared) snapshot() Info {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.info
	i.Queries = h.queries.Load()
	return i
}

// Registry knows the sessions by their connection ids. Its methods may be
// called by any goroutine.
type Registry struct {
	next  atomic.Uint32
	begun atomic.Uint64 // sessions that there ever were

	mu       sync.Mutex
	sessions map[uint32]*Session
}

// firstID is above the ids that servers give their connections, which begin
// with 1, so that a KILL of one of a server's is not taken for one of a
// session's.
const firstID = 1 << 31

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{sessions: map[uint32]*Session{}}
}

// Register has reg show how many sessions there are.
func (r *Registry) Register(reg prometheus.Registerer) {
	reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "farmhand_proxy_sessions", Help: "Sessions of clients that there are.",
		}, func() float64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			return float64(len(r.sessions))
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "farmhand_proxy_sessions_begun_total", Help: "Sessions of clients that have begun.",
		}, func() float64 { return float64(r.begun.Load()) }),
	)
}

// NextID returns the connection id for a new client.
func (r *Registry) NextID() uint32 { return firstID | r.next.Add(1) }

func (r *Registry) add(s *Session) {
	s.shared.info.Started = s.began
	s.shared.end(s)
	r.begun.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[s.id] = s
}

func (r *Registry) remove(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s.id)
}

func (r *Registry) find(id uint32) *Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[id]
}

// Sessions returns what is seen of every session, by id.
func (r *Registry) Sessions() []Info {
	r.mu.Lock()
	all := make([]*Session, 0, len(r.sessions))
	for _, s := range r.sessions {
		all = append(all, s)
	}
	r.mu.Unlock()
	infos := make([]Info, len(all))
	for i, s := range all {
		infos[i] = s.shared.snapshot()
	}
	slices.SortFunc(infos, func(a, b Info) int { return int(a.ID) - int(b.ID) })
	return infos
}

// errShutdown is what an idle session is told when the proxy stops.
var errShutdown = &wire.Error{Code: 1053, State: "08S01", Message: "Server shutdown in progress (the Farmhand proxy stops)"}

// Drain ends the sessions that have been idle for at least quiet and are in no
// transaction: a client that was heard of just now is in the middle of
// something, whatever the protocol says.
func (r *Registry) Drain(quiet time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sessions {
		s.shared.mu.Lock()
		i := &s.shared.info
		idle := !s.shared.command && i.Transaction == "" && i.Pin == "" && !i.Since.IsZero() && time.Since(i.Since) >= quiet
		s.shared.mu.Unlock()
		if idle {
			s.abort(errShutdown)
		}
	}
}

// End ends every session, whatever it is doing.
func (r *Registry) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sessions {
		s.abort(errShutdown)
	}
}
