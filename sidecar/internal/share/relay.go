package share

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of a connection between two nodes.
const (
	dialLimit = 3 * time.Second
	// silence is how long a node may not acknowledge what was sent to it, or that it is there,
	// before the connection is given up: it has lost its network or its power.
	silence = 10 * time.Second
)

// keepAlive has a node that is gone noticed while nothing is sent.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 3 * time.Second, Interval: 2 * time.Second, Count: 3}

// bounded sets how long a connection's data may wait for the other node.
func bounded(_, _ string, raw syscall.RawConn) error {
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence/time.Millisecond))
	}); err != nil {
		return err
	}
	return failed
}

// relay passes on what either connection says to the other until one ends or ctx does,
// and closes both. It returns what has ended it; nil for an end in order.
func relay(ctx context.Context, a, b net.Conn) error {
	shut := sync.OnceFunc(func() {
		_ = a.Close() // what they have to say about their end is in the copies' errors
		_ = b.Close()
	})
	defer context.AfterFunc(ctx, shut)()
	defer shut()
	var first sync.Once
	var why error
	var copies sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		copies.Go(func() {
			_, err := io.Copy(way[0], way[1])
			first.Do(func() { why = err })
			shut() // half of a connection is of no use to GlusterFS
		})
	}
	copies.Wait()
	return why
}

// serve handles each connection that l takes, at most as many at a time, until ctx ends or the
// listener fails. It closes l and waits for all of them.
func serve(ctx context.Context, l net.Listener, most int, handle func(context.Context, net.Conn)) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // an accepted connection is not closed by that
	defer func() {
		if stop() {
			_ = l.Close()
		}
	}()
	slots := make(chan struct{}, most)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return nil
			}
			if pausable(err) {
				select {
				case <-time.After(acceptPause):
				case <-ctx.Done():
				}
				continue
			}
			return err
		}
		all.Go(func() {
			defer func() { <-slots }()
			defer func() { _ = conn.Close() }() // most often it is closed already
			handle(ctx, conn)
		})
	}
}

// acceptPause is how long to wait after a connection could not be taken for want of something
// that comes back, such as file descriptors.
const acceptPause = 100 * time.Millisecond

func pausable(err error) bool {
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}
