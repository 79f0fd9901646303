// Package relay moves packets between a server and a client without decoding
// rows. It looks at packet headers, hands the few packets that mean something
// (the ends of results, errors) to its caller, and forwards everything else in
// the pieces that it was read in.
//
// Invariant: it holds one buffer of input at most, so memory does not depend on
// the size of a result, and a client that does not read stops the server.
package relay

import (
	"errors"
	"fmt"

	"farmhand/proxy/internal/wire"
)

// Verdict is what a Handler wants done with a packet.
type Verdict uint8

// The verdicts.
const (
	Forward Verdict = iota // as it is
	Replace                // the payload that came with the verdict instead, same sequence number
	Stop                   // do not forward it, and return ErrStopped
)

// Handler is shown the packets that mean something, before they are forwarded.
type Handler interface {
	// Packet is called with what the tracker saw in a packet. The payload is
	// valid during the call; what it returns until the next call.
	Packet(event wire.Event, payload []byte) (Verdict, []byte)
}

// ErrStopped is returned when the handler said Stop.
var ErrStopped = errors.New("relay stopped by its handler")

// ServerError is a failure to read from or write to the server. The client's
// Seq is what an error packet after what it got so far must carry; where Torn
// is set it got a part of a payload, and nothing can follow that.
type ServerError struct {
	Err  error
	Torn bool
}

func (e *ServerError) Error() string { return e.Err.Error() }
func (e *ServerError) Unwrap() error { return e.Err }

// ClientError is a failure to read from or write to the client.
type ClientError struct{ Err error }

func (e *ClientError) Error() string { return e.Err.Error() }
func (e *ClientError) Unwrap() error { return e.Err }

// Response relays the rest of the response that t follows. It returns how many
// bytes were handed to the client's connection, and nil when the response is
// over; else ErrStopped, a *ServerError or a *ClientError.
func Response(server, client *wire.Conn, t *wire.Tracker, h Handler) (forwarded int64, err error) {
	r := response{server: server, client: client, tracker: t, handler: h}
	err = r.run()
	if r.gathering != nil {
		r.gathering.stop()
	}
	if err != nil {
		var lost *ServerError
		if errors.As(err, &lost) {
			lost.Torn = r.rest > 0 || t.Continued()
		}
	}
	return r.forwarded, err
}

type response struct {
	server, client *wire.Conn
	tracker        *wire.Tracker
	handler        Handler
	forwarded      int64
	rest           int        // bytes of the current packet still to pass, some having passed
	gathering      *gathering // of a large response
}

func (r *response) run() error {
	for !r.tracker.Done() || r.rest > 0 {
		ready, need, err := r.scan()
		// What came before an error is the client's: its Seq counts it.
		if err := r.forward(ready); err != nil {
			return err
		}
		if err != nil {
			if errors.Is(err, ErrStopped) {
				r.server.Discard(need)
			}
			return err
		}
		if need > 0 {
			// The next piece may be long in coming: the client gets what replaced
			// packets before.
			if err := r.client.Flush(); err != nil {
				return &ClientError{err}
			}
			if err := r.read(need); err != nil {
				return &ServerError{Err: fmt.Errorf("read response: %w", err)}
			}
		}
	}
	if err := r.client.Flush(); err != nil {
		return &ClientError{err}
	}
	return nil
}

// read reads until n bytes are buffered.
func (r *response) read(n int) error {
	if r.forwarded < gatherFrom {
		return r.server.Need(n)
	}
	if r.gathering == nil {
		if r.gathering = gather(r.server.NetConn()); r.gathering == nil {
			return r.server.Need(n)
		}
		r.server.Widen()
	}
	r.gathering.begin(r.forwarded)
	defer r.gathering.end()
	return r.server.Need(n)
}

// forward sends the first n buffered bytes to the client.
func (r *response) forward(n int) error {
	if n == 0 {
		return nil
	}
	b := r.server.Buffered()[:n]
	r.forwarded += int64(n)
	if err := r.client.Forward(b); err != nil {
		return &ClientError{err}
	}
	r.server.Discard(n)
	return nil
}

// scan walks over the buffered packets. ready is how many bytes can be
// forwarded as they are, whatever err; need is how many bytes must be buffered
// after that to go on, 0 where the response is over, and the size of the packet
// to drop where err is ErrStopped.
func (r *response) scan() (ready, need int, err error) {
	buf := r.server.Buffered()
	for {
		if r.rest > 0 {
			n := min(r.rest, len(buf)-ready)
			ready += n
			r.rest -= n
			if r.rest > 0 {
				return ready, 1, nil
			}
		}
		if r.tracker.Done() {
			return ready, 0, nil
		}
		left := len(buf) - ready
		if left < wire.HeaderSize {
			return ready, wire.HeaderSize, nil
		}
		length, seq := wire.Header(buf[ready:])
		if length > 0 && left == wire.HeaderSize {
			return ready, wire.HeaderSize + 1, nil
		}
		var first byte
		if length > 0 {
			first = buf[ready+wire.HeaderSize]
		}
		if r.tracker.Next(length, first) == wire.Pass {
			r.rest = wire.HeaderSize + length
			r.client.Seq = seq + 1
			continue
		}
		if !wire.CanHold(length) {
			return ready, 0, &ServerError{Err: fmt.Errorf("control packet of %d bytes: %w", length, wire.ErrMalformed)}
		}
		whole := wire.HeaderSize + length
		if left < whole {
			return ready, whole, nil
		}
		payload := buf[ready+wire.HeaderSize : ready+whole]
		event, err := r.tracker.Inspect(payload)
		if err != nil {
			return ready, 0, &ServerError{Err: err}
		}
		switch verdict, other := r.handler.Packet(event, payload); verdict {
		case Forward:
			ready += whole
			r.client.Seq = seq + 1
		case Replace:
			if err := r.replace(ready, whole, other, seq); err != nil {
				return 0, 0, err
			}
			buf, ready = r.server.Buffered(), 0
		case Stop:
			return ready, whole, ErrStopped
		}
		if event == wire.SendFile {
			if err := r.forward(ready); err != nil {
				return 0, 0, err
			}
			if err := r.file(); err != nil {
				return 0, 0, err
			}
			buf, ready = r.server.Buffered(), 0
		}
	}
}

// replace queues the ready bytes and, in the place of the packet of whole bytes
// behind them, another payload.
func (r *response) replace(ready, whole int, payload []byte, seq uint8) error {
	if ready > 0 {
		r.client.WriteRaw(r.server.Buffered()[:ready])
	}
	r.client.Seq = seq
	r.client.Write(payload)
	r.forwarded += int64(ready + wire.HeaderSize + len(payload))
	r.server.Discard(ready + whole)
	return nil
}

// file relays the client's packets up to the empty one that ends a LOCAL
// INFILE. Where the server goes away meanwhile, the client's packets are read
// to the end all the same, so that an error packet can follow them.
func (r *response) file() error {
	if err := r.client.Flush(); err != nil {
		return &ClientError{err}
	}
	var failed error
	for continued := false; ; {
		n, err := Packet(r.client, func(b []byte) {
			if failed == nil {
				failed = r.server.Forward(b)
			}
		})
		if err != nil {
			return &ClientError{fmt.Errorf("read LOCAL INFILE data: %w", err)}
		}
		// A payload of full packets ends with an empty one of its own.
		if n == 0 && !continued {
			break
		}
		continued = n == wire.MaxPayload
	}
	if failed != nil {
		return &ServerError{Err: fmt.Errorf("send LOCAL INFILE data: %w", failed)}
	}
	r.tracker.FileSent()
	return nil
}

// Packet reads one packet from c and gives it, header included, to send in the
// pieces in which it arrives. It returns the length of its payload.
func Packet(c *wire.Conn, send func([]byte)) (int, error) {
	if err := c.Need(wire.HeaderSize); err != nil {
		return 0, err
	}
	length, seq := wire.Header(c.Buffered())
	c.Seq = seq + 1
	for rest := wire.HeaderSize + length; rest > 0; {
		if len(c.Buffered()) == 0 {
			if err := c.Fill(); err != nil {
				return 0, err
			}
		}
		b := c.Buffered()
		b = b[:min(len(b), rest)]
		send(b)
		rest -= len(b)
		c.Discard(len(b))
	}
	return length, nil
}
