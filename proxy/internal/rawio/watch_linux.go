package rawio

import (
	"errors"
	"net"
)

// Watched is a server's connection of which the poller tells when there is an answer.
type Watched struct {
	socket  *Socket
	then    func(ended bool)
	expects bool
}

// Watch has then called whenever there is input to be read by ReadNow or, ended, an
// end or an error, since it was called last; where none is expected that may be late.
// It is called by the poller's goroutine, or who closes the connection or sets its
// deadline, and must not wait for anything. The connection is not settled any more.
// The error is [errors.ErrUnsupported] where it is no [Socket]; after another it is
// closed.
func Watch(conn net.Conn, then func(ended bool)) (*Watched, error) {
	s, ok := conn.(*Socket)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	w := &Watched{socket: s, then: then}
	s.watch.Store(w)
	if err := s.unsettle(true); err != nil {
		w.End()
		return nil, err
	}
	return w, nil
}

// Expect says whether there is an answer to come. It belongs to one goroutine at a
// time, with End.
func (w *Watched) Expect(answer bool) {
	switch {
	case answer == w.expects:
		return
	case answer:
		w.socket.poller.expects.Add(1)
	default:
		w.socket.poller.expects.Add(-1)
	}
	w.expects = answer
}

// End ends the watch: then is not called any more, but for a call that is under way.
func (w *Watched) End() {
	w.Expect(false)
	w.socket.watch.CompareAndSwap(w, nil)
}
