package dbserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"farmhand/internal/child"
	"farmhand/internal/farm"
)

// Server is one running server process. Its methods may be called from any
// goroutine.
type Server struct {
	inst   Install
	config Config
	secret string
	child  running

	stop sync.Once
}

// Start starts the server of an initialised directory and returns when it
// answers on its socket and its TCP port. A process that an earlier run left
// on the directory is stopped first. The error says what was tried and what
// the server's error log had to say. ctx bounds the start only.
func Start(ctx context.Context, inst Install, c Config) (*Server, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	secret, err := os.ReadFile(c.secretFile())
	if err != nil {
		return nil, fmt.Errorf("start server in %s: not initialised: %w", c.Dir, err)
	}
	if err := stopStale(ctx, c); err != nil {
		return nil, err
	}
	logged, err := fileSize(c.errorLog())
	if err != nil {
		return nil, err
	}

	s := &Server{inst: inst, config: c, secret: string(secret)}
	if err := s.launch(); err != nil {
		return nil, fmt.Errorf("start %v server in %s: %w", inst.Flavor, c.Dir, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.StartLimit, fmt.Errorf("it did not answer within %v", c.StartLimit))
	defer cancel()
	if err := s.awaitAnswer(ctx); err != nil {
		s.Kill()
		return nil, fmt.Errorf("start %v server in %s on %s: %w\ncommand: %s\nits error log (%s) says:\n%s",
			inst.Flavor, c.Dir, c.Addr(), err, strings.Join(s.argv(), " "), c.errorLog(), logSince(c.errorLog(), logged))
	}
	return s, nil
}

func (s *Server) argv() []string {
	return append(slices.Clone(s.inst.command), arguments(s.inst, s.config)...)
}

// launch starts the process and records it.
func (s *Server) launch() (err error) {
	output, err := os.OpenFile(s.config.errorLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open its error log: %w", err)
	}
	defer func() { err = errors.Join(err, output.Close()) }()
	if err := s.config.own(s.config.errorLog()); err != nil {
		return err
	}
	argv := s.argv()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = s.config.Dir
	cmd.Env = environment(s.config)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.config.Credential}
	parentDeath := s.config.ParentDeath
	if s.config.Outlives {
		parentDeath = 0
	}
	started, err := child.Start(cmd, parentDeath)
	if err != nil {
		return err
	}
	s.child = started
	if err := recordProcess(s.config.pidFile(), s.child.PID()); err != nil {
		// Without the record a later run could not find the process again.
		s.Kill()
		return err
	}
	return nil
}

// ErrEnded is wrapped by Start's error where the server's process ended by itself before
// it answered. One that somebody killed, for want of memory for instance, is not meant.
var ErrEnded = errors.New("the server ended")

// ended is the error for a process that has ended before it was asked to.
func (s *Server) ended() error {
	how := s.child.Ended()
	var exit *exec.ExitError
	if errors.As(how, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return fmt.Errorf("the server was killed: %w", how)
		}
	}
	return fmt.Errorf("%w: %w", ErrEnded, how)
}

// awaitAnswer returns when both the socket and the TCP port send a handshake.
func (s *Server) awaitAnswer(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if last = greets(ctx, "unix", s.config.Socket); last == nil {
			if last = greets(ctx, "tcp", s.config.Addr()); last == nil {
				return nil
			}
		}
		select {
		case <-s.child.Done():
			return s.ended()
		case <-ctx.Done():
			return fmt.Errorf("%w (last try: %w)", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// greets checks that a server at the address sends its first packet.
func greets(ctx context.Context, network, address string) error {
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close() // nothing was written
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html
	var header [5]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return fmt.Errorf("read greeting: %w", err)
	}
	// An error packet is an answer too: MariaDB greets a host that no account
	// is for with "not allowed to connect".
	if header[4] != 10 && header[4] != 0xff {
		return fmt.Errorf("greeting starts with 0x%02x, not with protocol version 10", header[4])
	}
	return nil
}

// Done is closed when the process has ended.
func (s *Server) Done() <-chan struct{} { return s.child.Done() }

// Err waits for the process's end and says how it ended: nil for a clean exit.
func (s *Server) Err() error { return s.child.Err() }

// Stop asks the server to shut down cleanly, waits for it up to
// Config.StopLimit or ctx's end, whichever is first, then kills it. It returns
// when the process is gone; a server that had to be killed is an error.
func (s *Server) Stop(ctx context.Context) error {
	var err error
	s.stop.Do(func() { err = s.shutDown(ctx) })
	<-s.child.Done()
	return err
}

func (s *Server) shutDown(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.config.StopLimit, fmt.Errorf("it did not stop within %v", s.config.StopLimit))
	defer cancel()
	if !s.Signal(syscall.SIGTERM) {
		return nil
	}
	select {
	case <-s.child.Done():
		return forgetProcess(s.config.pidFile())
	case <-ctx.Done():
		s.Kill()
		return fmt.Errorf("server %s killed: %w", s.config.Addr(), context.Cause(ctx))
	}
}

// Kill ends the process at once with SIGKILL, as a crash would, and returns
// when it is gone.
func (s *Server) Kill() {
	s.Signal(syscall.SIGKILL)
	<-s.child.Done()
}

// Signal sends the process a signal; false means that it has ended already.
func (s *Server) Signal(sig syscall.Signal) bool { return s.child.Signal(sig) }

// PID is the server's process id.
func (s *Server) PID() int { return s.child.PID() }

// Addr is host:port of the server.
func (s *Server) Addr() string { return s.config.Addr() }

// Config is what the server was started with, defaults filled in.
func (s *Server) Config() Config { return s.config }

// Flavor is whose server it is.
func (s *Server) Flavor() farm.Flavor { return s.inst.Flavor }

func fileSize(path string) (int64, error) {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at the error log: %w", err)
	}
	return st.Size(), nil
}

// logSince is what was added to the log at path after offset: its errors if
// there are any, else its end. A log that cannot be read says so in its place.
func logSince(path string, offset int64) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	if int64(len(text)) >= offset { // else it was rotated
		text = text[offset:]
	}
	if len(text) == 0 {
		return "(nothing)"
	}
	var problems []string
	crashed := false // then all that follows says where
	for line := range strings.Lines(string(text)) {
		crashed = crashed || strings.Contains(line, "got signal")
		if crashed || strings.Contains(line, "[ERROR]") {
			problems = append(problems, line)
		}
	}
	if len(problems) > 0 {
		text = []byte(strings.Join(problems, ""))
	}
	return tail(text, 6000)
}
