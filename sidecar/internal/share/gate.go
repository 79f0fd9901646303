package share

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/filewatch"
	"farmhand/internal/pki"
)

// Gate lets the nodes of the farm, and nobody else, to the brick of its own node.
type Gate struct {
	// Files are the node's certificate and key.
	Files pki.Files
	// Listen is the ip:port, Socket the brick's.
	Listen, Socket string
	// Members is the file with the names of the farm's members, a line each; empty to take every
	// node that has a certificate of the farm, also one that was expelled.
	Members string
	Log     *zap.Logger
}

// maxConnections is how many connections a gate or door has at a time: GlusterFS has one for each mount.
const maxConnections = 1000

// Run serves until ctx ends, which is no error.
func (g Gate) Run(ctx context.Context) error {
	// Whatever member of the farm it is: it may use what the farm shares.
	config, err := g.Files.PeerTLS(func(string) error { return nil })
	if err != nil {
		return fmt.Errorf("gate at %s: %w", g.Listen, err)
	}
	l, err := (&net.ListenConfig{Control: bounded, KeepAliveConfig: keepAlive}).Listen(ctx, "tcp", g.Listen)
	if err != nil {
		return fmt.Errorf("gate: %w", err)
	}
	g.Log.Info("gate is open", zap.String("address", g.Listen))
	if err := serve(ctx, l, maxConnections, func(ctx context.Context, conn net.Conn) { g.admit(ctx, tls.Server(conn, config)) }); err != nil {
		return fmt.Errorf("gate at %s: %w", g.Listen, err)
	}
	return nil
}

func (g Gate) admit(ctx context.Context, conn *tls.Conn) {
	log := g.Log.With(zap.Stringer("from", conn.RemoteAddr()))
	shaking, cancel := context.WithTimeout(ctx, dialLimit)
	err := conn.HandshakeContext(shaking)
	cancel()
	if err != nil {
		log.Warn("a connection was refused", zap.Error(err))
		return
	}
	node := conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	log = log.With(zap.String("node", node))
	if err := g.member(node); err != nil {
		log.Warn("a node was refused", zap.Error(err))
		return
	}
	brick, err := g.reach(ctx)
	if err != nil {
		log.Warn("a node was not served: the brick does not run", zap.Error(err))
		return
	}
	log.Info("a node is connected")
	err = relay(ctx, conn, brick)
	log.Info("a node is not connected any more", zap.Error(err))
}

// brickLimit is how long a node is kept that the brick is not there for, such as one that is started
// again: by itself it would try again after three seconds only.
const brickLimit = 8 * time.Second

func (g Gate) reach(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, brickLimit)
	defer cancel()
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		brick, err := new(net.Dialer).DialContext(ctx, "unix", g.Socket)
		if err == nil {
			return brick, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// maxMembersFile is more than the names of a farm's nodes have, in bytes.
const maxMembersFile = 1 << 20

// member returns an error if the node is none of the farm's members.
func (g Gate) member(name string) error {
	if g.Members == "" {
		return nil
	}
	text, err := filewatch.Read(g.Members, maxMembersFile)
	if err != nil {
		return fmt.Errorf("who is a member of the farm is not known: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) == name {
			return nil
		}
	}
	return errors.New("it is no member of the farm, or its membership is not known here yet")
}
