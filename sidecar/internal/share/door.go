package share

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/filewatch"
	"farmhand/internal/pki"
	"farmhand/internal/service"
)

// Door leads what connects to its socket to the gate of the node that gives the directory now:
// its address never changes, whoever that is and wherever.
type Door struct {
	// Files are the own node's certificate and key.
	Files pki.Files
	// Socket is where the client connects, Holders the file that says whom to lead it to.
	Socket, Holders string
	// Led is a file that is there while the client is led to a gate, made anew with each connection: since when
	// it has this one is when the file was written. Empty for none.
	Led string
	// Cut has the connections closed that there are, so that the client makes new ones; nil: never.
	Cut <-chan struct{}
	// Hold is how long a connection is kept until there is somebody to lead it to.
	Hold time.Duration
	Log  *zap.Logger
}

// DefaultHold is less than a client waits for an answer (pingLimit), and saves it from trying again.
const DefaultHold = 8 * time.Second

// again is how soon another try is made to reach a gate.
const again = 250 * time.Millisecond

// doorway is a Door that is open.
type doorway struct {
	Door
	mu      sync.Mutex
	holders []holder
	led     map[net.Conn]holder // connections to gates
}

// Run serves until ctx ends, which is no error. It takes the socket's place, whoever has
// left one there.
func (d Door) Run(ctx context.Context) error {
	w := &doorway{Door: d, led: map[net.Conn]holder{}}
	watcher, err := filewatch.New(d.Holders, maxHoldersFile, filewatch.Usual, w)
	if err != nil {
		return fmt.Errorf("door: %w", err)
	}
	for _, left := range []string{d.Socket, d.Led} {
		if err := remove(left); err != nil {
			return fmt.Errorf("door: %w", err)
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", d.Socket)
	if err == nil {
		err = os.Chmod(d.Socket, 0o600)
	}
	if err != nil {
		return fmt.Errorf("door: %w", err)
	}
	group := service.NewGroup(ctx)
	group.Go("holders", watcher.Run)
	group.Go("cuts", w.cuts)
	group.Go("connections", func(ctx context.Context) error { return serve(ctx, l, maxConnections, w.lead) })
	return group.Wait()
}

// Good implements [filewatch.Judge].
func (w *doorway) Good(r filewatch.Reading) bool {
	if r.Err != nil {
		return false
	}
	_, err := parseHolders(r.Data)
	return err == nil
}

// Take implements [filewatch.Judge]: who is none of the holders any more, and has not just
// vanished with all of them, is left.
func (w *doorway) Take(r filewatch.Reading) {
	list, err := parseHolders(r.Data)
	if err = errors.Join(r.Err, err); err != nil {
		w.Log.Warn("who gives the directory is not known; what was known stays", zap.String("file", w.Holders), zap.Error(err))
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holders = list
	if len(list) == 0 {
		return // that nobody is known may be the registry's trouble
	}
	for conn, h := range w.led {
		if !slices.Contains(list, h) {
			w.Log.Info("another node gives the directory; the connection to the one before is closed", zap.String("node", h.name), zap.String("address", h.address))
			_ = conn.Close() // whoever uses it will say
		}
	}
}

// Blind implements [filewatch.Judge].
func (w *doorway) Blind(err error) {
	w.Log.Warn("changes of the file with the holders are found by looking", zap.Error(err))
}

// lead leads one connection of the client.
func (w *doorway) lead(ctx context.Context, client net.Conn) {
	gate, h, err := w.reach(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.Log.Warn("nobody gives the directory", zap.Error(err))
		}
		return
	}
	defer w.left(gate)
	log := w.Log.With(zap.String("node", h.name), zap.String("address", h.address))
	log.Info("connected to the node that gives the directory")
	err = relay(ctx, client, gate)
	log.Info("not connected any more", zap.Error(err))
}

func (w *doorway) left(conn net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.led, conn)
	if len(w.led) > 0 {
		return
	}
	if err := remove(w.Led); err != nil {
		w.Log.Error("that nobody is led any more cannot be told", zap.Error(err))
	}
}

// remove removes a file that may not be there, or have no name.
func remove(file string) error {
	if file == "" {
		return nil
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// cuts closes the connections each time that it is told to, until ctx ends.
func (w *doorway) cuts(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Cut:
		}
		w.mu.Lock()
		w.Log.Warn("the connections are closed, so that the client makes new ones", zap.Int("connections", len(w.led)))
		for conn := range w.led {
			_ = conn.Close() // whoever uses it will say
		}
		w.mu.Unlock()
	}
}

// reach connects to a gate: of the holders, to the first that can be reached, with as many
// tries as there is time for.
func (w *doorway) reach(ctx context.Context) (net.Conn, holder, error) {
	ctx, cancel := context.WithTimeout(ctx, w.Hold)
	defer cancel()
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		w.mu.Lock()
		list := w.holders
		w.mu.Unlock()
		err := errors.New("no node is known that does")
		for i, h := range list {
			if i == 0 {
				err = nil
			}
			conn, one := w.dial(ctx, h)
			if one == nil && w.take(conn, h) {
				return conn, h, nil
			}
			err = errors.Join(err, one)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, holder{}, err
		}
	}
}

// take notes whom the connection leads to. False: he is none of the holders any more, and it was
// closed.
func (w *doorway) take(conn net.Conn, h holder) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.holders, h) {
		_ = conn.Close() // nothing was sent by it
		return false
	}
	w.led[conn] = h
	if w.Led != "" {
		if err := os.WriteFile(w.Led, nil, 0o600); err != nil {
			w.Log.Error("that somebody is led cannot be told", zap.Error(err))
		}
	}
	return true
}

func (w *doorway) dial(ctx context.Context, h holder) (net.Conn, error) {
	config, err := w.Files.PeerTLS(func(name string) error {
		if name != h.name {
			return fmt.Errorf("there is the node %s", name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Control: bounded, KeepAliveConfig: keepAlive}, Config: config}).DialContext(ctx, "tcp", h.address)
	if err != nil {
		return nil, fmt.Errorf("node %s at %s: %w", h.name, h.address, err)
	}
	return conn, nil
}
