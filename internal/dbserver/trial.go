package dbserver

import (
	"context"
	"errors"
	"fmt"
	"net"

	"farmhand/internal/mysqladmin"
)

// Trial starts a server on empty data beside c's, with all that c has set, and stops it
// again. That it could (nil), where one on c's data ends each time that it is started,
// shows that the data is at fault: not the program, its settings, the room on the disk or
// a port that is taken. No server may run on c's data meanwhile.
func Trial(ctx context.Context, inst Install, c Config) (err error) {
	port, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Addr())
	if err != nil {
		return fmt.Errorf("try a server on empty data: %w", err)
	}
	in := below(c, "trial")
	if err := errors.Join(port.Close(), drop(in)); err != nil { // what an attempt before has left
		return err
	}
	defer func() { err = errors.Join(err, drop(in)) }()
	if err := Initialise(ctx, inst, in); err != nil {
		return err
	}
	return Settle(ctx, inst, in, func(context.Context, *mysqladmin.Conn) error { return nil })
}
