package role

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/hook"
)

// remedy is what is done about a mount that does not answer.
type remedy string

const (
	noRemedy remedy = ""
	// reconnect has the client make a new connection: what it keeps back goes by that, and its open files stay.
	reconnect remedy = "reconnect"
	// remount ends the client, by which all that waits for it is refused, and mounts anew.
	remount remedy = "remount"
)

// What is waited for before something is done.
const (
	// settle is how long a connection is given. A storage whose disk does not answer is given up in less by the
	// client (share's pingLimit).
	settle = 15 * time.Second
	// about is how long after a connection was made it may be what a look waits for.
	about = 5 * time.Second
	// beyond is how much longer than the mount's wait a look may take: those that wait were promised a refusal by then.
	beyond = 30 * time.Second
)

// sick is a mount that does not answer.
type sick struct {
	waited time.Duration // for the answer to a look, at most since it was last mounted anew
	// connected is how long the client has had its connection to the storage; 0 if it has none.
	connected time.Duration
}

// remedy is what to do about it. GlusterFS's client (10.3) forgets requests that it keeps back until there is a
// connection: when one breaks while it opens its files again, it takes itself for connected, and does not notice the
// next (client_child_up_reopen_done, client_notify_dispatch_uniq); and those that arrive while it lets
// the others go may stay (features/quiesce, notify). A connection more lets all of them go.
func (s sick) remedy(wait time.Duration) remedy {
	switch {
	case s.waited >= max(wait, beyond)+beyond:
		return remount
	case s.connected >= settle && s.waited >= settle && s.waited >= s.connected-about:
		return reconnect
	}
	return noRemedy
}

// mender does something about a mount that does not answer, and has the hooks know.
type mender struct {
	mount        config.Mount
	wait         time.Duration
	led          string // the door's file, see [share.Door.Led]
	look         *looker
	door, client *program
	host         farm.EventHost
	tell         func(farm.Event) error
	log          *zap.Logger
	remounted    time.Time   // when it was last, or was to be
	untold       *farm.Event // what the hooks could not be told yet
}

// try looks at the mount, and does what there is to be done.
func (m *mender) try(ctx context.Context) error {
	err := m.look.try(ctx)
	return errors.Join(err, m.mend(time.Now()))
}

func (m *mender) mend(now time.Time) error {
	err := m.retell()
	if m.look.under == nil {
		return err
	}
	s := sick{waited: min(now.Sub(m.look.under.began), now.Sub(m.remounted))}
	info, stat := os.Stat(m.led)
	if stat == nil {
		s.connected = max(now.Sub(info.ModTime()), 0)
	} else if !errors.Is(stat, fs.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("whether the storage %s is connected is not known: %w", m.mount.Storage, stat))
	}
	what := s.remedy(m.wait)
	done := false
	switch what {
	case reconnect:
		// It is given time again, also if the signal has no effect.
		if touch := os.Chtimes(m.led, now, now); touch != nil && !errors.Is(touch, fs.ErrNotExist) {
			err = errors.Join(err, touch)
		}
		done = m.door.signal(syscall.SIGHUP)
	case remount:
		done = m.client.signal(syscall.SIGKILL)
		m.remounted = now
	}
	if !done {
		return err
	}
	waited, connected := s.waited.Round(time.Second), s.connected.Round(time.Second)
	m.log.Error("the mounted storage does not answer", zap.String("storage", m.mount.Storage), zap.String("path", m.mount.Path),
		zap.Duration("for", waited), zap.Duration("connected", connected), zap.String("done", string(what)))
	reason := fmt.Sprintf("no answer for %v at %s", waited, m.mount.Path)
	if s.connected > 0 {
		reason += fmt.Sprintf(", though the storage has been connected for %v", connected)
	}
	m.untold = &farm.Event{
		ID: hook.NewID(), Kind: farm.MountStuck, Time: now.UTC(), Host: m.host,
		Fields: map[string]string{"storage": m.mount.Storage, "path": m.mount.Path, "done": string(what), "reason": farm.FieldText(reason)},
	}
	return errors.Join(err, m.retell())
}

// retell tells the hooks what they could not be told before.
func (m *mender) retell() error {
	if m.untold == nil {
		return nil
	}
	if err := m.tell(*m.untold); err != nil {
		return fmt.Errorf("tell the hooks of a mount that did not answer: %w", err)
	}
	m.untold = nil
	return nil
}

// eventHost is the node as its own events name it.
func eventHost(c config.Config) farm.EventHost {
	return farm.EventHost{Name: c.NodeName(), Role: c.Role, Address: cmp.Or(c.NodeAddress(), c.NodeName())}
}
