package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/proxy/internal/auth"
	"farmhand/proxy/internal/backend"
	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/consistency"
	"farmhand/proxy/internal/lane"
	"farmhand/proxy/internal/monitor"
	"farmhand/proxy/internal/route"
	"farmhand/proxy/internal/wire"
)

// Farm is what a session sees of the cluster; the monitor.
type Farm interface {
	View() *monitor.View
	// Changed is closed when there is a view newer than generation.
	Changed(generation uint64) <-chan struct{}
	// Report tells of a failure on the data path.
	Report(server string, err error)
}

// Policy is what the configuration says about sessions. It is immutable; a
// session takes the current one at every statement.
type Policy struct {
	PrimaryReads route.PrimaryReads
	MaxLag       time.Duration
	Level        func(user string) consistency.Level
	// ServeWithoutPrimary has replicas serve reads while the primary is down,
	// though nobody can say what was committed.
	ServeWithoutPrimary bool
	ReadWait            time.Duration // how long a read waits for a replica that is behind
	Replay              Replay
	Pause               time.Duration // a session that is idle for so long begins to read anew
	ReadRetries         int           // servers tried for a read before it is given up
	WriteWait           time.Duration // how long a write waits for a primary
	ClassifySize        int           // bytes of a command that are kept to be classified and, for a read, repeated
	PacketSize          int           // bytes of a command at the most
	PreparedLimit       int           // statements that a session may have prepared
	HintsAllowed        func(user string) bool
	MayAskConsole       func(user string) bool
	HandshakeTimeout    time.Duration
}

// Deps are the parts of the proxy that all sessions share.
type Deps struct {
	Farm     Farm
	Pool     *backend.Pool
	Auth     *auth.Authenticator
	Registry *Registry
	Waiting  *Waiting
	Refused  *Refused
	Lanes    *lane.Lanes // nil: every statement has a connection to itself
	Quick    *lane.Quick
	Console  Console
	Digests  Digests // nil: statements are not counted by digest
	Metrics  *Metrics
	Index    Index
	Progress *consistency.Progress
	Policy   func() *Policy
	Log      *zap.Logger
	// Collation gives the names of a collation id, for what a client says in
	// its handshake.
	Collation func(id uint16) (charset, collation string, ok bool)
}

// Console answers SHOW FARMHAND statements.
type Console interface {
	// Query answers with a table of text. all tells whether the asker may see
	// other users' sessions. An error's text is for the person who asked.
	Query(sql string, ask Ask) (*Table, error)
}

// Ask is who asks the console, and how a text would be routed for it.
type Ask struct {
	User  string
	All   bool
	ID    uint32
	Route func(sql string) Explained
}

// Table is a result set of text; a nil cell is NULL.
type Table struct {
	Columns []string
	Rows    [][]string
}

// Digests counts statements by their normalised text.
type Digests interface {
	// print is the text's fingerprint.
	Count(print uint64, sql []byte, mode classify.Mode, onReplica bool)
}

// Client is an authenticated client.
type Client struct {
	Conn           *wire.Conn
	Caps           wire.Capability
	User           string
	Host           string // as it appears in messages
	Remote         string // its address, for people
	Schema         string
	Collation      uint16
	Credential     *auth.Credential
	Nonce          []byte // the greeting's, which COM_CHANGE_USER is answered with
	GreetingPlugin string // the greeting's authentication plugin
	Secure         bool
	Loopback       bool
	ZstdLevel      int // that the client asked for
	// Admit counts the client as another user, within the limits; nil: there are
	// none.
	Admit func(user string) *wire.Error
	// ResetSequence starts the compressed protocol's sequence anew, which a
	// command does; nil without compression.
	ResetSequence func()
}

// Session is one client's session.
type Session struct {
	*Deps
	id     uint32
	client Client
	conn   *wire.Conn // the client's; while a transaction is run again, nobody's
	policy *Policy    // of the current command

	ctx    context.Context // that it is served with
	cancel context.CancelCauseFunc

	state  state
	status wire.Status // as the client saw it last

	began time.Time // the command under way
	ended time.Time // the last one
	timed bool      // reading from the client has a deadline
	dozed bool      // and that is of a session that has dozed
	waits int       // for commands, in a goroutine, since it has dozed

	primary *backend.Conn // nil until needed
	replica *backend.Conn
	leases  [2]lease
	joined  uint64            // the farm's, when replica was chosen (monitor.View.Joined)
	atLogin *backend.Settings // what the state begins with
	// transaction is the one of the two that a transaction is open on.
	transaction *backend.Conn
	// nextTransaction: SET TRANSACTION waits on transaction for the next one.
	nextTransaction bool
	next            next // what it said
	// suspended is the replica's connection with a read-only transaction that the
	// command under way commits.
	suspended       *backend.Conn
	suspendedStatus wire.Status
	// last ran the last statement that left diagnostics.
	last *backend.Conn
	// lastCount ran the last statement, which ROW_COUNT() is about; it may have
	// left the diagnostics of last as they are.
	lastCount *backend.Conn
	count     int64 // what it gives
	uncounted bool  // it does not any more (recount)
	// lastRows ran the last statement that gave a result set, which FOUND_ROWS()
	// is about.
	lastRows *backend.Conn
	// lastInsertID is what LAST_INSERT_ID() gives. generated: it is of an answer,
	// where it may as well be an id that the statement gave.
	lastInsertID uint64
	generated    bool
	inserted     *backend.Inserted // for who takes the primary connection
	// calculated: the last result set was SQL_CALC_FOUND_ROWS.
	calculated bool
	missed     missed

	horizon   horizon
	txn       *transactionLog // nil until transactions are to be run again
	replaying bool            // txn is being run again
	wait      wait            // what the read that acquire was called for must wait for
	// pending is the session's state that was written to the connection that
	// acquire has returned, ahead of the command; together allows that: what comes
	// of the command does not count if the state is refused.
	pending  syncing
	together bool
	// asks: the command asks about the statement before it, so that a connection
	// that says something of another one will not do.
	asks bool

	statements map[uint32]*statement
	nextID     uint32
	lastStmt   *statement // what statement id -1 means (MariaDB)

	shares *sharing // nil until a statement has gone by a lane

	handler handler
	scratch []byte

	shared shared // what other goroutines see
}

// errEnd ends a session without an error.
var errEnd = errors.New("session ended")

// errDoze is that the client has been silent for dozeAfter, or may leave now.
var errDoze = errors.New("the client is silent")

// dozeAfter is how long a client must have been silent for its goroutine to be
// worth another with less of a stack.
const dozeAfter = time.Second

// settleAfter is after how many waits for commands a client's connection is settled,
// which costs some of them.
const settleAfter = 8

// New returns the session of an authenticated client, registered under a
// connection id that the greeting announced.
func New(d *Deps, id uint32, c Client) *Session {
	s := &Session{
		Deps: d, id: id, client: c, conn: c.Conn,
	}
	s.handler.s = s
	s.policy = d.Policy()
	s.began = time.Now()
	s.ended = s.began
	s.start("", c.Collation)
	return s
}

// logger is made where it is needed, which in most sessions it is not.
func (s *Session) logger() *zap.Logger { return s.Log.With(zap.Uint32("conn", s.id)) }

// ID is the connection id that the client was told.
func (s *Session) ID() uint32 { return s.id }

// start sets the state of a new session, or of one after COM_CHANGE_USER.
func (s *Session) start(schema string, collation uint16) {
	v := s.Farm.View()
	s.state.clear()
	s.state.schema = schema
	s.status = wire.StatusAutocommit
	if p := v.Primary; p != nil && p.VersionNumber > 0 {
		s.defaults(p)
	} else {
		for _, r := range v.Replicas {
			if r.VersionNumber > 0 {
				s.defaults(r)
				break
			}
		}
	}
	if charset, name, ok := s.Collation(collation); ok {
		s.state.set("NAMES", "NAMES "+charset+" COLLATE "+name)
		s.state.mode.Charset = charsetOf(charset)
	}
	s.lastInsertID, s.generated, s.inserted, s.calculated, s.missed = 0, false, nil, false, missed{}
	s.atLogin = s.state.settings()
}

// defaults takes what a new session starts with from a server's global
// variables.
func (s *Session) defaults(server *monitor.Server) {
	s.state.mode.MariaDB = server.Flavor == farm.MariaDB
	s.state.mode.Version = server.VersionNumber
	modes := server.Variables["sql_mode"]
	s.state.mode.ANSIQuotes = hasMode(modes, "ANSI_QUOTES")
	s.state.mode.NoBackslashEscapes = hasMode(modes, "NO_BACKSLASH_ESCAPES")
	s.state.mode.IgnoreSpace = hasMode(modes, "IGNORE_SPACE") || s.client.Caps.Has(wire.ClientIgnoreSpace)
	if v := server.Variables["autocommit"]; v == "0" || v == "OFF" {
		s.state.autocommitOff = true
		s.status &^= wire.StatusAutocommit
	}
	for _, name := range []string{"tx_isolation", "transaction_isolation"} {
		if server.Variables[name] == "SERIALIZABLE" {
			s.state.serializable = true
		}
	}
}

// Client is what the session knows of its client; for the login only.
func (s *Session) Client() *Client { return &s.client }

// Begin makes schema the session's, and calls accept, which tells the client that
// it is logged in. Serve is to be called then. It is false where the client is
// refused or gone: then its connection is closed. ctx bounds the whole session.
func (s *Session) Begin(ctx context.Context, schema string, accept func(wire.Status) error) bool {
	begun := false
	defer func() {
		if !begun {
			s.end()
		}
	}()
	s.enter(ctx)
	if e := s.UseSchema(s.ctx, schema); e != nil {
		_ = s.sendError(e) // the session ends either way
		return false
	}
	begun = s.lend() == nil && accept(s.status) == nil
	return begun
}

// BeginNow is Begin that does not wait, where the client need not be refused and
// has said nothing since its login: accept must not wait either. It is false where
// it would have to, and nothing has happened then. Notify is to be called next.
func (s *Session) BeginNow(ctx context.Context, schema string, accept func(wire.Status) error) bool {
	if !s.conn.CanNotify() || schema != "" && !s.knowsSchema(schema) {
		return false
	}
	s.state.schema = schema
	s.joined = s.Farm.View().Joined // there is nothing yet that it would have to choose anew
	s.enter(ctx)
	if err := accept(s.status); err != nil {
		s.cancel(errEnd) // the client is gone
		s.interrupt()
		return true
	}
	_ = s.deadline(s.ctx, s.began.Add(s.idleLimit())) // an error of which is the next read's too
	s.timed, s.dozed = true, true
	return true
}

// enter makes the session one of those that there are.
func (s *Session) enter(ctx context.Context) {
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.Registry.add(s)
	if s.ctx.Err() != nil { // since before it could be found there
		s.interrupt()
	}
}

// Serve serves the client until it leaves, is killed, or the session's context
// ends; its connection is closed then. It returns true where the client has been
// silent for a while: Doze is to be called, and then Serve again.
func (s *Session) Serve() (dozes bool) {
	defer func() {
		if !dozes {
			s.end()
		}
	}()
	err := s.serve(s.ctx)
	if errors.Is(err, errDoze) {
		return true
	}
	s.conclude(s.ctx, err)
	return false
}

// CanNotify tells which of Notify and Doze is to be called.
func (s *Session) CanNotify() bool { return s.conn.CanNotify() }

// Notify has then called when the client says something, or the session is to end.
// Nobody need wait for that. then must not wait for anything either. False: it is
// so already, and then is not called.
func (s *Session) Notify(then func()) bool { return s.conn.Notify(then) }

// Doze waits until the client says something, or the session is to end. It needs
// next to no stack: the idea is to call it in a goroutine that has none yet.
func (s *Session) Doze() { _ = s.conn.Wait() } // what is wrong, the next read says

// abort ends the session from outside: it wakes up from whatever it waits for.
func (s *Session) abort(cause error) {
	s.cancel(cause)
	go s.interrupt() // which may have to wait for a KILL
}

func (s *Session) end() {
	s.Registry.remove(s)
	s.releaseAll()
	_ = s.conn.Close() // whatever comes of it, it is over
	s.cancel(nil)
}

// conclude says why the session has ended.
func (s *Session) conclude(ctx context.Context, err error) {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, errEnd) {
		s.farewell(cause)
	}
	if err != nil && !errors.Is(err, errEnd) && !errors.Is(err, io.EOF) && ctx.Err() == nil {
		s.logger().Debug("session ended", zap.String("user", s.client.User), zap.Error(err))
	}
}

// farewell tells the client why the session ends, where it is between commands.
func (s *Session) farewell(cause error) {
	var e *wire.Error
	if !errors.As(cause, &e) || !s.shared.betweenCommands() {
		return
	}
	_ = s.conn.SetDeadline(time.Now().Add(time.Second))
	// The client reads it as the answer to its next command, which has not run.
	s.conn.Seq = 1
	s.conn.Write(wire.AppendError(nil, e))
	_ = s.conn.Flush()
}

func (s *Session) serve(ctx context.Context) error {
	if err := s.conn.Flush(); err != nil { // what Answer has left
		return err
	}
	for served := false; ; served = true {
		if err := s.await(ctx, served); err != nil {
			return err
		}
		s.begin()
		err := s.command(ctx)
		s.shares.ended()
		if s.ended = s.horizon.ended; s.ended.Before(s.began) { // no server answered
			s.ended = time.Now()
		}
		if err != nil {
			s.shared.end(s)
			return err
		}
		err = s.lend()
		s.shared.end(s)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// await waits for the next command's header, for as long as the client may be
// idle; errDoze where that can go on without a stack. The deadline is set rarely:
// most waits leave the one that there is, and look how long the client was idle if
// it passes.
// served: a command has just been served; else the client has said something, or left.
func (s *Session) await(ctx context.Context, served bool) error {
	if len(s.conn.Buffered()) >= wire.HeaderSize {
		if s.dozed {
			s.dozed = false
			return s.unhurried(ctx)
		}
		return nil
	}
	if s.client.ResetSequence != nil {
		s.client.ResetSequence() // before the command's first frame comes
	}
	s.conn.Idle()
	prompt, err := served, error(nil)
	if served {
		if prompt, err = s.prompt(); err != nil {
			return err
		}
	}
	for {
		if !s.timed || prompt {
			idle := time.Since(s.ended)
			left := s.idleLimit() - idle
			if left <= 0 {
				return fmt.Errorf("idle for longer than wait_timeout: %w", errEnd)
			}
			s.dozed = false
			if s.conn.CanWait() {
				if s.dozed = idle >= dozeAfter || prompt || s.waits == 0 && s.conn.CanNotify(); !s.dozed {
					left = min(left, dozeAfter-idle)
				}
			}
			if err := s.deadline(ctx, time.Now().Add(left)); err != nil {
				return err
			}
			s.timed = true
			if s.dozed {
				if s.waits > 0 && !prompt {
					s.shed()
				}
				// Many clients leave after their first command, but not after others.
				s.waits = 1
				return errDoze
			}
		}
		if s.waits++; s.waits == settleAfter {
			if err := s.conn.Settle(); err != nil {
				return err
			}
		}
		err := s.conn.Need(wire.HeaderSize)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && s.dozed: // it is awake, for as long as others
			return s.unhurried(ctx)
		case err == nil || !isTimeout(err):
			return err
		}
		s.timed = false
	}
}

// unsettleAfter is after how many commands in a row that went by a lane a connection is
// not settled any more.
const unsettleAfter = 4

// prompt tells whether the next command may well go by a lane without a goroutine of
// the session's, as the last would have.
func (s *Session) prompt() (bool, error) {
	sh := s.shares
	if sh == nil || sh.row == 0 {
		return false, nil
	}
	if sh.row >= unsettleAfter && s.conn.CanUnsettle() {
		if err := s.conn.Unsettle(); err != nil {
			return false, err
		}
	}
	return s.conn.CanNotify(), nil
}

// shed lets go of what the next command will make anew.
func (s *Session) shed() {
	s.conn.Shed()
	s.handler, s.scratch = handler{s: s}, nil
}

// unhurried takes away the deadline of reading from the client, which is that of
// idling, before something is read that is no command's beginning.
func (s *Session) unhurried(ctx context.Context) error {
	if !s.timed {
		return nil
	}
	s.timed = false
	return s.deadline(ctx, time.Time{})
}

// deadline sets the deadline of reading from the client, unless the session is
// being ended, which has set one already.
func (s *Session) deadline(ctx context.Context, t time.Time) error {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.conn.SetReadDeadline(t)
}

// interrupt wakes the session from whatever it waits for.
func (s *Session) interrupt() {
	past := time.Unix(1, 0)
	s.shared.mu.Lock()
	_ = s.client.Conn.SetDeadline(past)
	s.shared.mu.Unlock()
	// This may wait for a KILL, and others for the lock.
	s.shared.running.interrupt(past)
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// defaultIdle is wait_timeout's default.
const defaultIdle = 8 * time.Hour

// idleLimit is how long the client may be idle: the session's wait_timeout, or
// interactive_timeout where the client said that it is interactive.
func (s *Session) idleLimit() time.Duration {
	for i := range s.state.entries {
		var seconds int
		if s.state.entries[i].name == "wait_timeout" {
			if _, err := fmt.Sscanf(s.state.entries[i].sql, "SESSION wait_timeout=%d", &seconds); err == nil && seconds > 0 {
				return time.Duration(seconds) * time.Second
			}
		}
	}
	if p := s.Farm.View().Primary; p != nil {
		name := "wait_timeout"
		if s.client.Caps.Has(wire.ClientInteractive) {
			name = "interactive_timeout"
		}
		if seconds, err := strconv.Atoi(p.Variables[name]); err == nil && seconds > 0 {
			return time.Duration(seconds) * time.Second
		}
	}
	return defaultIdle
}

// random is a number in [0, 1).
func random() float64 { return rand.Float64() }
