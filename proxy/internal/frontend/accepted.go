package frontend

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"farmhand/proxy/internal/rawio"
)

// Transport is how a client is connected.
type Transport uint8

// The transports.
const (
	TCP Transport = iota + 1
	Unix
)

func (t Transport) String() string {
	switch t {
	case TCP:
		return "tcp"
	case Unix:
		return "unix"
	}
	return fmt.Sprintf("Transport(%d)", uint8(t))
}

// Credentials are those of the process at the other end of a unix socket when
// it connected (SO_PEERCRED).
type Credentials struct {
	PID      int32
	UID, GID uint32
}

// Accepted is a client's connection. A PROXY protocol header, where the peer may
// send one, is taken off by the first Read: so what Remote and Loopback say
// holds once the client's first bytes were read.
type Accepted struct {
	net.Conn
	Transport Transport
	// Peer is set for unix sockets.
	Peer *Credentials

	peer    netip.AddrPort // the address of the TCP connection's other end
	proxied *proxied       // nil where no header is taken
}

func newAccepted(conn net.Conn, trusted Trusted) *Accepted {
	a := &Accepted{Conn: rawio.Wrap(conn)}
	switch address := conn.RemoteAddr().(type) {
	case *net.UnixAddr:
		a.Transport = Unix
		a.Peer = credentials(conn)
	case *net.TCPAddr:
		a.Transport = TCP
		peer := address.AddrPort()
		a.peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	default:
		a.Transport = TCP
	}
	if trusted.covers(a.Transport, a.peer.Addr()) {
		a.proxied = &proxied{Conn: a.Conn}
		a.Conn = a.proxied
	}
	return a
}

func credentials(conn net.Conn) *Credentials {
	source, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := source.SyscallConn()
	if err != nil {
		return nil
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}) != nil || err != nil {
		return nil
	}
	return &Credentials{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid}
}

// direct is the connection to read from and write to: the one underneath where
// nothing is taken off.
func (a *Accepted) direct() net.Conn {
	if a.proxied == nil {
		return a.Conn
	}
	return a
}

// Remote returns the client's address: what a trusted proxy said, else the
// peer's own. It is not valid for a client on a unix socket of which no proxy
// said otherwise.
func (a *Accepted) Remote() netip.AddrPort {
	if a.proxied != nil && a.proxied.header.source.IsValid() {
		return a.proxied.header.source
	}
	return a.peer
}

// Loopback says whether nothing but this machine lies between the client and
// the proxy, so that a password may travel unencrypted: a unix socket or a
// loopback address, and no proxy that speaks for another.
func (a *Accepted) Loopback() bool {
	return a.local() || !a.relayed() && a.peer.Addr().IsLoopback()
}

// local says whether the client itself is at the other end of a unix socket.
func (a *Accepted) local() bool { return a.Transport == Unix && !a.relayed() }

// relayed says whether the peer is a proxy that speaks for another.
func (a *Accepted) relayed() bool { return a.proxied != nil && a.proxied.header.relayed }
