package frontend

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The hand-over, on a unix socket that only the proxy's own user can open:
//
//	successor    hello               asks for the sockets
//	predecessor  offer + descriptors and goes on accepting
//	successor    ready               it accepts on them
//	predecessor  yours               it has stopped accepting and let go of the control socket
//
// Between offer and yours both have the sockets and may both accept: what
// either accepts, it serves. A successor that goes before it said ready changes
// nothing; neither does a predecessor that dies, since the successor has all.
const (
	helloLine = "farmhand hand-over 1\n"
	readyLine = "ready\n"
	yoursLine = "yours\n"

	// helloLimit bounds the steps that need no work.
	helloLimit = 5 * time.Second
	// maxHanded is below SCM_MAX_FD, the most descriptors of one message.
	maxHanded = 250
	// maxOffer bounds the description of the sockets, in bytes.
	maxOffer = 128 << 10
)

// ReadyLimit is how long a successor may take from getting the sockets to
// saying that it is ready.
const ReadyLimit = time.Minute

// offer describes the descriptors that come with it, in their order.
type offer struct {
	PID     int       `json:"pid"`
	Sockets []offered `json:"sockets"`
}

type offered struct {
	Network string      `json:"network"`
	Address string      `json:"address"`
	Mode    fs.FileMode `json:"mode,omitempty"`
	Systemd bool        `json:"systemd,omitempty"`
}

// Handover is the predecessor's side: the control socket on which a successor
// asks for the listening sockets.
type Handover struct {
	control    *socket
	listeners  *Listeners
	readyLimit time.Duration
}

// NewHandover opens the control socket at an absolute path, in a directory that
// others cannot write to. After a take-over it can be opened only once the
// predecessor has confirmed: after Ready.
func NewHandover(ctx context.Context, path string, listeners *Listeners) (*Handover, error) {
	control, err := openUnix(ctx, Spec{Network: "unix", Address: path, Mode: 0o600})
	if err != nil {
		return nil, fmt.Errorf("hand-over: %w", err)
	}
	return &Handover{control: control, listeners: listeners, readyLimit: ReadyLimit}, nil
}

// Serve waits for a successor, one at a time. It returns true when one has
// taken over: the listeners were stopped, and the caller finishes what it has.
// It returns false at the end of ctx. What fails with a successor is told to
// warn, and this process goes on. The control socket is closed in each case.
func (h *Handover) Serve(ctx context.Context, warn func(error)) bool {
	stop := context.AfterFunc(ctx, func() { _ = h.control.interrupt() })
	defer stop()
	defer h.Close()
	pause := firstPause
	for {
		conn, err := h.control.Accept()
		if ctx.Err() != nil {
			if conn != nil {
				conn.Close()
			}
			return false
		}
		if err != nil {
			warn(fmt.Errorf("hand-over: %w", err))
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		err = h.serve(ctx, conn.(*net.UnixConn))
		if err == nil {
			return true
		}
		warn(fmt.Errorf("hand-over: this process goes on serving: %w", err))
	}
}

// Close closes the control socket and removes its file. Serve does so itself.
func (h *Handover) Close() error { return h.control.close(true) }

// serve offers the sockets to one successor; nil means that it has them.
func (h *Handover) serve(ctx context.Context, conn *net.UnixConn) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	peer, err := sameUser(conn)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(helloLimit)); err != nil {
		return err
	}
	in := bufio.NewReaderSize(conn, 64)
	if err := expect(in, helloLine); err != nil {
		return fmt.Errorf("process %d: %w", peer.PID, err)
	}
	// The successor may outlive us from here on: the files are its too.
	h.listeners.setHanded(true)
	taken := false
	defer func() { h.listeners.setHanded(taken || ctx.Err() != nil) }()
	if err := h.offer(conn); err != nil {
		return fmt.Errorf("offer the sockets to process %d: %w", peer.PID, err)
	}
	if err := conn.SetDeadline(time.Now().Add(h.readyLimit)); err != nil {
		return err
	}
	if err := expect(in, readyLine); err != nil {
		return fmt.Errorf("process %d did not get ready: %w", peer.PID, err)
	}
	taken = true
	h.listeners.Stop()
	if err := h.Close(); err != nil {
		return fmt.Errorf("let go of the control socket: %w", err)
	}
	// The successor has the sockets, whether it hears this or not.
	_ = conn.SetWriteDeadline(time.Now().Add(helloLimit))
	_, _ = io.WriteString(conn, yoursLine)
	return nil
}

func (h *Handover) offer(conn *net.UnixConn) error {
	o := offer{PID: os.Getpid()}
	var descriptors []int
	defer func() {
		for _, fd := range descriptors {
			unix.Close(fd)
		}
	}()
	for _, s := range h.listeners.sockets {
		fd, err := s.duplicate()
		if err != nil {
			return fmt.Errorf("duplicate %s: %w", s.spec, err)
		}
		descriptors = append(descriptors, fd)
		o.Sockets = append(o.Sockets, offered{s.spec.Network, s.spec.Address, s.spec.Mode, s.systemd})
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if len(text) > maxOffer || len(descriptors) > maxHanded {
		return fmt.Errorf("%d sockets are too many to hand over", len(descriptors))
	}
	n, _, err := conn.WriteMsgUnix(text, unix.UnixRights(descriptors...), nil)
	if err == nil && n < len(text) {
		_, err = conn.Write(text[n:])
	}
	return err
}

// Predecessor is a running proxy whose sockets this process has been given.
type Predecessor struct {
	PID       int
	Inherited []Inherited // for Listen, which closes them

	path string
	conn *net.UnixConn
	in   *bufio.Reader
}

// ErrNoPredecessor says that no proxy answers on the control socket: the usual
// case at a first start.
var ErrNoPredecessor = errors.New("no running proxy to take over from")

// TakeOver asks the proxy behind a control socket for its listening sockets.
// That proxy goes on as if nothing had happened until Ready is called, and for
// good if Close is.
func TakeOver(ctx context.Context, path string) (*Predecessor, error) {
	dialed, err := dialControl(ctx, path)
	if err != nil {
		return nil, err
	}
	p := &Predecessor{path: path, conn: dialed.(*net.UnixConn)}
	stop := context.AfterFunc(ctx, func() { _ = dialed.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := p.take(); err != nil {
		p.conn.Close()
		return nil, fmt.Errorf("take over: %w", err)
	}
	return p, nil
}

func dialControl(ctx context.Context, path string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: helloLimit}).DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, ErrNoPredecessor
	}
	if err != nil {
		return nil, fmt.Errorf("take over: %w", err)
	}
	return conn, nil
}

func (p *Predecessor) take() (err error) {
	if _, err := sameUser(p.conn); err != nil {
		return err
	}
	if err := p.conn.SetDeadline(time.Now().Add(helloLimit)); err != nil {
		return err
	}
	if _, err := io.WriteString(p.conn, helloLine); err != nil {
		return err
	}
	var text []byte
	var files []*os.File
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
		}
	}()
	buffer, rights := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*maxHanded))
	for !bytes.HasSuffix(text, []byte("\n")) {
		n, rightsSize, flags, _, err := p.conn.ReadMsgUnix(buffer, rights) // close-on-exec
		if err != nil {
			return err
		}
		more, err := descriptors(rights[:rightsSize])
		files = append(files, more...)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		if text = append(text, buffer[:n]...); len(text) > maxOffer || flags&unix.MSG_CTRUNC != 0 {
			return errors.New("the running proxy offers more than fits")
		}
	}
	var o offer
	if err := json.Unmarshal(text, &o); err != nil {
		return fmt.Errorf("the running proxy's offer: %w", err)
	}
	if len(o.Sockets) != len(files) {
		return fmt.Errorf("the running proxy offers %d sockets and sends %d", len(o.Sockets), len(files))
	}
	p.PID, p.in = o.PID, bufio.NewReaderSize(p.conn, 64)
	for i, s := range o.Sockets {
		p.Inherited = append(p.Inherited, Inherited{
			Spec: Spec{Network: s.Network, Address: s.Address, Mode: s.Mode}, File: files[i], Systemd: s.Systemd,
		})
	}
	return p.conn.SetDeadline(time.Time{})
}

func descriptors(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "inherited socket"))
		}
	}
	return files, nil
}

// Ready has the predecessor stop accepting and returns when it has, or is gone.
// An error means that the predecessor goes on, and that this process should
// not: the predecessor was not willing to wait any longer.
func (p *Predecessor) Ready(ctx context.Context) error {
	defer p.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = p.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := p.conn.SetDeadline(time.Now().Add(helloLimit)); err != nil {
		return fmt.Errorf("take over from process %d: %w", p.PID, err)
	}
	_, err := io.WriteString(p.conn, readyLine)
	if err == nil {
		err = expect(p.in, yoursLine)
	}
	if err == nil {
		return nil
	}
	// A predecessor that goes on listens on its control socket; one that died
	// leaves nobody but this process to serve.
	again, dialErr := dialControl(ctx, p.path)
	if errors.Is(dialErr, ErrNoPredecessor) {
		return nil
	}
	if dialErr == nil {
		again.Close()
	}
	return fmt.Errorf("take over from process %d: it did not let go: %w", p.PID, err)
}

// Close gives the take-over up before Ready, and is harmless after it. What
// Listen was given is Listen's to close.
func (p *Predecessor) Close() error {
	if err := p.conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// sameUser makes sure that the other end is this process's user or root.
func sameUser(conn *net.UnixConn) (*Credentials, error) {
	peer := credentials(conn)
	if peer == nil {
		return nil, errors.New("the other end's user is not known")
	}
	if own := os.Geteuid(); peer.UID != 0 && int(peer.UID) != own {
		return nil, fmt.Errorf("process %d belongs to user %d, not to %d", peer.PID, peer.UID, own)
	}
	return peer, nil
}

func expect(in *bufio.Reader, line string) error {
	got, err := in.ReadSlice('\n')
	if err == nil && string(got) == line {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("waiting for %q: %w", strings.TrimSpace(line), err)
	}
	return fmt.Errorf("got %q where %q was due", got, line)
}
