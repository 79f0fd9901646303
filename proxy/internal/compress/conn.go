package compress

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

const (
	headerSize = 7
	// minCompressed is the shortest payload that is worth compressing; MySQL's
	// MIN_COMPRESS_LENGTH.
	minCompressed = 50
	// maxPlain is the most plain bytes that a frame of ours carries. The protocol
	// allows 16 MiB - 1; smaller frames bound the memory of a write at hardly any
	// loss of compression.
	maxPlain = 128 << 10
	// maxZstdWindow bounds the window that a peer's zstd frame may ask for: the
	// one-segment frames that MySQL writes ask for their whole length.
	maxZstdWindow = 16 << 20
	// headerBuffer is the size of a connection's own read buffer, which an idle
	// connection keeps; bodies of large frames are read past it.
	headerBuffer = 4 << 10
)

// ErrProtocol says that the peer broke the compressed protocol. The connection
// is of no more use.
var ErrProtocol = errors.New("compressed protocol violated")

// Conn is a connection whose bytes travel in compressed frames. One goroutine
// may read while another writes; deadlines, addresses and Close are those of
// the connection below. A deadline that expires while Read waits for a frame
// leaves the connection usable; one that expires within a frame, in either
// direction, does not, and every later call returns the same error.
type Conn struct {
	net.Conn
	algorithm Algorithm
	level     int
	sequence  atomic.Uint32 // of the next frame, in its low byte

	in      *bufio.Reader
	body    body    // what is left of the frame being read
	decoder decoder // nil when the frame is not compressed, or there is none
	plain   int     // the frame's plain bytes that were not read yet
	readErr error

	writeErr error
}

// body is the encoded part of one frame: a reader that ends where the frame
// does.
type body struct {
	in   *bufio.Reader
	left int
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.in.Read(p[:min(len(p), b.left)])
	b.left -= n
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// New puts compression on a connection, of which the caller must have read and
// buffered nothing ahead. The level is 1 to 9 for zlib, 1 to 22 for zstd, 0 for
// MySQL's default; any other is [ErrLevel]. Closing the Conn closes conn.
func New(conn net.Conn, algorithm Algorithm, level int) (*Conn, error) {
	level, err := algorithm.level(level)
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: conn, algorithm: algorithm, level: level, in: bufio.NewReaderSize(conn, headerBuffer)}
	c.body.in = c.in
	return c, nil
}

// ResetSequence begins a command: the next frame, read or written, is number 0.
// A client calls it before it writes a command, a server before it reads one.
func (c *Conn) ResetSequence() { c.sequence.Store(0) }

// Read gives plain bytes of the current frame, or waits for the next one. It
// never waits for a second frame when it has bytes to give, and returns io.EOF
// only between frames.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for c.plain == 0 {
		if c.readErr != nil {
			return 0, c.readErr
		}
		if err := c.nextFrame(); err != nil {
			return 0, err
		}
	}
	n, err := c.readFrame(p[:min(len(p), c.plain)])
	c.plain -= n
	if err == nil && c.plain == 0 {
		err = c.endFrame()
	}
	if err != nil {
		c.plain, c.decoder, c.readErr = 0, nil, err
	}
	if n > 0 {
		return n, nil // the error, if any, is the next call's
	}
	return 0, c.readErr
}

// nextFrame waits for a frame's header. Nothing is consumed before the header
// is complete, so that the wait can be interrupted by a deadline.
func (c *Conn) nextFrame() error {
	header, err := c.in.Peek(headerSize)
	if err != nil {
		if err == io.EOF && len(header) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	encoded, sequence, plain := uint24(header), header[3], uint24(header[4:])
	if _, err := c.in.Discard(headerSize); err != nil {
		return err
	}
	if want := byte(c.sequence.Load()); sequence != want {
		c.readErr = fmt.Errorf("%w: frame %d where %d was due", ErrProtocol, sequence, want)
		return c.readErr
	}
	c.sequence.Add(1)
	c.body.left = encoded
	if plain == 0 { // the payload is as it is
		c.plain = encoded
		return nil
	}
	if encoded == 0 {
		c.readErr = fmt.Errorf("%w: an empty frame declares %d bytes", ErrProtocol, plain)
		return c.readErr
	}
	d := c.algorithm.getDecoder()
	if err := d.reset(&c.body); err != nil {
		c.readErr = c.decodeError(err)
		return c.readErr
	}
	c.plain, c.decoder = plain, d
	return nil
}

func (c *Conn) readFrame(p []byte) (int, error) {
	if c.decoder == nil {
		return c.body.Read(p)
	}
	n, err := c.decoder.Read(p)
	switch {
	case err == nil:
	case err == io.EOF && n == c.plain:
		err = nil // endFrame sees the end again
	case err == io.EOF:
		err = fmt.Errorf("%w: a frame holds %d bytes less than it declares", ErrProtocol, c.plain-n)
	default:
		err = c.decodeError(err)
	}
	return n, err
}

// endFrame makes sure that the frame ends where its header says.
func (c *Conn) endFrame() error {
	d := c.decoder
	if d == nil {
		return nil
	}
	var one [1]byte
	n, err := d.Read(one[:]) // verifies zlib's checksum as well
	if n > 0 {
		return fmt.Errorf("%w: a frame holds more than it declares", ErrProtocol)
	}
	if err != io.EOF {
		return c.decodeError(err)
	}
	if !d.drained() || c.body.left > 0 {
		return fmt.Errorf("%w: a frame has bytes after its compressed data", ErrProtocol)
	}
	c.decoder = nil
	c.algorithm.putDecoder(d)
	return nil
}

// decodeError tells damage from the connection's own failures, which callers
// test for with net.Error and io.ErrUnexpectedEOF.
func (c *Conn) decodeError(err error) error {
	var network net.Error
	if errors.As(err, &network) || c.body.left > 0 && errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return fmt.Errorf("%w: %s: %w", ErrProtocol, c.algorithm, err)
}

// frames are the buffers that frames are made in, given back after each write.
var frames = sync.Pool{New: func() any { return new([]byte) }}

// Write sends p in as many frames as it takes, at once: a caller that wants
// small packets to share a frame gathers them first.
func (c *Conn) Write(p []byte) (int, error) {
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	if len(p) == 0 {
		return 0, nil
	}
	encoder, err := c.algorithm.getEncoder(c.level)
	if err != nil {
		return 0, err
	}
	defer c.algorithm.putEncoder(encoder)
	buffer := frames.Get().(*[]byte)
	defer frames.Put(buffer)
	written := 0
	for written < len(p) {
		plain := p[written:min(len(p), written+maxPlain)]
		*buffer, err = appendFrame((*buffer)[:0], plain, byte(c.sequence.Add(1)-1), encoder)
		if err == nil {
			_, err = c.Conn.Write(*buffer)
		}
		if err != nil {
			c.writeErr = err // the frame may be cut: nothing can follow it
			return written, err
		}
		written += len(plain)
	}
	return written, nil
}

// appendFrame appends one frame with 1 to 16 MiB - 1 plain bytes. What is
// short, or does not become shorter, goes uncompressed, which a declared
// length of 0 says.
func appendFrame(dst, plain []byte, sequence byte, encoder encoder) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, headerSize)...)
	declared := 0
	if len(plain) >= minCompressed {
		var err error
		if dst, err = encoder.appendEncoded(dst, plain); err != nil {
			return dst, fmt.Errorf("compress a frame: %w", err)
		}
		declared = len(plain)
	}
	if declared == 0 || len(dst)-start-headerSize >= len(plain) {
		dst = append(dst[:start+headerSize], plain...)
		declared = 0
	}
	header := dst[start : start+headerSize]
	putUint24(header, len(dst)-start-headerSize)
	header[3] = sequence
	putUint24(header[4:], declared)
	return dst, nil
}

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

func putUint24(b []byte, n int) { b[0], b[1], b[2] = byte(n), byte(n>>8), byte(n>>16) }
