package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"
)

// encryption is how an endpoint speaks TLS.
type encryption uint8

const (
	plain    encryption = iota
	mysqlTLS            // the protocol's own: asked for after the greeting
	frontTLS            // TLS first, the protocol in it, as to a TLS terminator
)

// endpoint is where clients connect.
type endpoint struct {
	network, address string // "tcp" and host:port, or "unix" and a path
	tls              encryption
	pids             []int // of the processes there whose use counts; none of a server
}

// client is a session that moves much data: the large results, files and TLS.
// Small statements are the loop's.
type client struct {
	conn   net.Conn
	buffer []byte
	answer answer
}

// ioLimit bounds each wait for the other side.
const ioLimit = time.Minute

// anyone accepts the self-signed certificates of this benchmark.
func anyone() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
}

// dial connects and logs in.
func dial(ctx context.Context, to endpoint) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, to.network, to.address)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, buffer: make([]byte, 256<<10)}
	if err := c.logIn(ctx, to.tls); err != nil {
		c.close()
		return nil, fmt.Errorf("log in at %s: %w", to.address, err)
	}
	return c, nil
}

func (c *client) logIn(ctx context.Context, encrypt encryption) error {
	if err := c.conn.SetDeadline(time.Now().Add(ioLimit)); err != nil {
		return err
	}
	if encrypt == frontTLS {
		if err := c.encrypt(ctx); err != nil {
			return err
		}
	}
	sequence, payload, err := c.packet()
	if err != nil {
		return err
	}
	scramble, err := parseGreeting(payload)
	if err != nil {
		return err
	}
	if encrypt == mysqlTLS {
		if _, err := c.conn.Write(startTLS()); err != nil {
			return err
		}
		sequence++
		if err := c.encrypt(ctx); err != nil {
			return err
		}
	}
	next := login(sequence+1, scramble, encrypt == mysqlTLS)
	for {
		if _, err := c.conn.Write(next); err != nil {
			return err
		}
		if sequence, payload, err = c.packet(); err != nil {
			return err
		}
		var done bool
		if next, done, err = loginStep(sequence, payload); done || err != nil {
			return err
		}
	}
}

func (c *client) encrypt(ctx context.Context) error {
	conn := tls.Client(c.conn, anyone())
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.conn = conn
	return nil
}

// packet reads one packet of the handshake, in which no more follows it.
func (c *client) packet() (sequence byte, payload []byte, err error) {
	for n := 0; ; {
		got, err := c.conn.Read(c.buffer[n:])
		if err != nil {
			return 0, nil, err
		}
		n += got
		if sequence, payload, _, ok := cutPacket(c.buffer[:n]); ok {
			return sequence, payload, nil
		}
		if n == len(c.buffer) {
			return 0, nil, fmt.Errorf("a packet of more than %d bytes in the handshake", n)
		}
	}
}

// do sends a command's packets and reads the answer to its end; file is what
// a LOAD DATA LOCAL reads. It returns the bytes that were sent and received.
func (c *client) do(command, file []byte) (bytes int64, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(ioLimit)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write(command); err != nil {
		return 0, err
	}
	bytes = int64(len(command))
	c.answer = answer{}
	for {
		n, err := c.conn.Read(c.buffer)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return bytes, err
		}
		bytes += int64(n)
		switch out, err := c.answer.feed(c.buffer[:n]); {
		case err != nil || out == ended:
			return bytes, err
		case out == wantsFile:
			if err := c.sendFile(file); err != nil {
				return bytes, fmt.Errorf("send the file: %w", err)
			}
			bytes += int64(len(file))
		}
	}
}

// sendFile sends a file in packets of 64 KiB, about what libraries take, and
// the empty one that ends it.
func (c *client) sendFile(file []byte) error {
	const chunk = 64 << 10
	for sequence := byte(2); ; sequence++ {
		n := min(len(file), chunk)
		if _, err := c.conn.Write(append(append(c.buffer[:0], byte(n), byte(n>>8), byte(n>>16), sequence), file[:n]...)); err != nil || n == 0 {
			return err
		}
		file = file[n:]
	}
}

// close ends the session.
func (c *client) close() {
	_, _ = c.conn.Write(quit) // it may be broken, and is closed in any case
	_ = c.conn.Close()
}
