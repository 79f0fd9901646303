package backend

import (
	"context"
	"fmt"
	"strconv"
)

// Inserted is a LAST_INSERT_ID() that a session left on a connection which
// another one has taken. (The id in an OK packet may be one that the statement
// gave itself, of which LAST_INSERT_ID() knows nothing.)
type Inserted struct {
	id   uint64
	err  error
	done chan struct{}
}

// NewInserted returns one that nobody has told yet.
func NewInserted() *Inserted { return &Inserted{done: make(chan struct{})} }

// Wait returns the id once who has the connection has asked for it. An error is
// the end of ctx, or of the connection and the id with it.
func (i *Inserted) Wait(ctx context.Context) (uint64, error) {
	select {
	case <-i.done:
		return i.id, i.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// tellInserted tells the session before what LAST_INSERT_ID() gives, if it
// wants to know.
func (c *Conn) tellInserted() error {
	i := c.parting.Inserted
	c.parting = Parting{}
	if i == nil {
		return nil
	}
	i.id, i.err = c.LastInsertID()
	close(i.done)
	return i.err
}

// LastInsertID asks the server for LAST_INSERT_ID().
func (c *Conn) LastInsertID() (uint64, error) {
	c.writeQuery("SELECT LAST_INSERT_ID()")
	var text string
	err := c.Flush()
	if err == nil {
		text, err = c.ReadValue()
	}
	if err == nil {
		c.InsertID, err = strconv.ParseUint(text, 10, 64)
	}
	if err != nil {
		return 0, fmt.Errorf("ask %s for LAST_INSERT_ID(): %w", c.Server.Name, err)
	}
	return c.InsertID, nil
}

// told tells the session before that the connection is lost.
func (c *Conn) told(err error) {
	if i := c.parting.Inserted; i != nil {
		i.err = err
		close(i.done)
	}
	c.parting = Parting{}
}
