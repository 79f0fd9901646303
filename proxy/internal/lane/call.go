package lane

import (
	"sync"

	"farmhand/proxy/internal/rawio"
	"farmhand/proxy/internal/wire"
)

// Command is what a session asks: a COM_QUERY, or a COM_STMT_EXECUTE with the types of
// its parameters, of MaxCommand bytes at most. It must stay as it is until the call is
// done.
type Command struct {
	Payload []byte
	// Statement is the text that a COM_STMT_EXECUTE executes, of MaxCommand bytes at most,
	// and Params how many parameters it has. A lane prepares it by itself.
	Statement []byte
	Params    uint16
}

// Call is a session's place in a lane; one session has one, and uses it again.
type Call struct {
	command Command
	answer  *[]byte
	status  wire.Status
	unfit   bool   // it took too long, or its answer was not clean
	then    func() // to be called when it is done; nil: wake is told
	wake    chan struct{}
	next    *Call // in a queue
}

// NewCall returns a Call.
func NewCall() *Call { return &Call{wake: make(chan struct{}, 1)} }

// Answer is what the server answered, packets as they are, and its status; nil where
// there is no answer, and the command may run again. It is valid until Release.
func (c *Call) Answer() ([]byte, wire.Status) {
	if c.answer == nil {
		return nil, 0
	}
	return *c.answer, c.status
}

// Unfit tells that the command was not for it to go by a lane.
func (c *Call) Unfit() bool { return c.unfit }

// Release gives the answer's memory back.
func (c *Call) Release() {
	if c.answer != nil {
		answers.Put(c.answer)
		c.answer = nil
	}
}

var answers = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

// tell tells that the call is done. It may be used again at once.
func (c *Call) tell() {
	c.command = Command{}
	if then := c.then; then != nil {
		c.then = nil
		then()
		return
	}
	rawio.MakeWay()
	c.wake <- struct{}{}
}
