package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"farmhand/internal/atomicfile"
	"farmhand/internal/etcdserver"
	"farmhand/internal/registry"
)

// seat is how far a control node is a member of the embedded etcd; its directory
// keeps it. A member that lost its data must not come back with none under the same
// number: it would have forgotten what it promised.
type seat string

const (
	// founding: the farm begins with this node; etcd makes its data.
	founding seat = ""
	// joining: the others run. The node adds itself as a learner, and gets its vote
	// once it has caught up.
	joining seat = "joining"
	// seated: it has a vote, and data.
	seated seat = "seated"
)

func (d Dir) seatFile() string { return filepath.Join(d.Path, "seat") }

func (d Dir) seat() (seat, error) {
	text, err := os.ReadFile(d.seatFile())
	if errors.Is(err, fs.ErrNotExist) {
		return founding, nil
	}
	s := seat(strings.TrimSpace(string(text)))
	if err == nil && s != joining && s != seated {
		err = fmt.Errorf("it says %q", s)
	}
	if err != nil {
		return founding, fmt.Errorf("read %s: %w", d.seatFile(), err)
	}
	return s, nil
}

func (d Dir) setSeat(s seat) error { return atomicfile.WritePrivate(d.seatFile(), []byte(s+"\n")) }

// hasData reports whether an etcd has run from here.
func (d Dir) hasData() (bool, error) {
	_, err := os.Stat(filepath.Join(d.data(), "member", "wal"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// embed starts the embedded etcd, as a new member of those that run if that is
// what the directory is for.
func (d Dir) embed(ctx context.Context, c *Config, m Member, client *registry.Client, log *zap.Logger) (*etcdserver.Server, error) {
	s, err := d.seat()
	if err != nil {
		return nil, err
	}
	there, err := d.hasData()
	if err != nil {
		return nil, err
	}
	level, err := zapcore.ParseLevel(c.Etcd.LogLevel)
	if err != nil {
		return nil, fmt.Errorf("level of etcd's log: %w", err)
	}
	o := etcdserver.Options{
		Farm: c.Farm, Name: m.Name, Dir: d.data(), Files: d.server(),
		Quota: int64(c.Etcd.Quota), History: time.Duration(c.Etcd.History),
		Heartbeat: time.Duration(c.Etcd.Heartbeat), Election: time.Duration(c.Etcd.Election), LogLevel: level, Log: log,
	}
	for _, other := range c.Members {
		o.Members = append(o.Members, etcdserver.Member{Name: other.Name, Clients: other.at(other.ClientPort), Peers: other.at(other.PeerPort)})
	}
	switch {
	case there:
	case s == seated:
		return nil, fmt.Errorf("the data of this control node's etcd is gone from %s: it cannot go on as the member that it was. "+
			"If others have a majority, on one of them: scaler registry remove DIR %s, then join again from here with a new token and a new directory", d.data(), m.Name)
	case s == joining:
		if o.Members, err = takeSeat(ctx, client, m, log); err != nil {
			return nil, err
		}
		o.Join = true
	}
	return etcdserver.Start(ctx, o)
}

// seatRetry is how long to wait before what the others did not do is asked again.
const seatRetry = 500 * time.Millisecond

// takeSeat has the other members know of m, which is a learner at first: nobody
// waits for it, also if it never starts. It returns all members.
func takeSeat(ctx context.Context, client *registry.Client, m Member, log *zap.Logger) (members []etcdserver.Member, err error) {
	err = insist(ctx, log, "not added to the registry's members yet", func() error {
		seats, err := client.Seats(ctx)
		if err != nil {
			return err
		}
		mine := seatAt(seats, m)
		switch {
		case mine == nil:
			// Not for one that was put out again before it ever started.
			if _, err := client.Scaler(ctx, m.Name); err != nil {
				return err
			}
			if seats, err = client.AddSeat(ctx, m.at(m.PeerPort)); err != nil {
				return err
			}
			log.Info("added to the registry's members, as a learner", zap.String("member", m.Name))
		case mine.Name != "":
			return fmt.Errorf("the registry has a member at %s that ran already, and its data is not here: %w", mine.Peer, errSeatTaken)
		}
		members = nil
		for _, s := range seats {
			member := etcdserver.Member{Name: s.Name, Peers: s.Peer}
			if s.Peer == m.at(m.PeerPort) {
				member.Name, member.Clients = m.Name, m.at(m.ClientPort)
			} else if s.Name == "" {
				member.Name = "unstarted-" + strconv.FormatUint(s.ID, 16) // etcd goes by the address, but wants a name
			}
			members = append(members, member)
		}
		return nil
	})
	return members, err
}

var errSeatTaken = errors.New("scaler registry remove it on another control node, and join with a new token")

func seatAt(seats []registry.Seat, m Member) *registry.Seat {
	for i := range seats {
		if seats[i].Peer == m.at(m.PeerPort) {
			return &seats[i]
		}
	}
	return nil
}

// settle makes the member one with a vote, once it has caught up, and puts it on
// record.
func (d Dir) settle(ctx context.Context, c *Config, m Member, client *registry.Client, log *zap.Logger) error {
	s, err := d.seat()
	if err != nil {
		return err
	}
	err = insist(ctx, log, "not settled as a member of the registry yet", func() error {
		if s != joining {
			return client.FoundScalers(ctx, c.records())
		}
		seats, err := client.Seats(ctx)
		if err != nil {
			return err
		}
		mine := seatAt(seats, m)
		if mine == nil {
			return fmt.Errorf("control node %s: %w", m.Name, ErrRemoved)
		}
		if mine.Learner {
			if err := client.GiveVote(ctx, mine.ID); err != nil {
				return err
			}
			log.Info("caught up with the registry; it has a vote", zap.String("member", m.Name))
		}
		if err := client.ScalerJoined(ctx, m.Name); err != nil {
			return err
		}
		_, err = client.Append(ctx, registry.Entry{
			Kind: "control-node-joined", Who: "scaler " + m.Name, Text: "control node " + m.Name + " at " + m.Address + " has joined and has a vote",
			Fields: map[string]string{"scaler": m.Name, "address": m.Address},
		})
		return err
	})
	if err != nil || s == seated {
		return err
	}
	return d.setSeat(seated)
}

func (c *Config) records() []registry.Scaler {
	all := make([]registry.Scaler, len(c.Members))
	for i, m := range c.Members {
		all[i] = m.record()
	}
	return all
}

// insist tries until do has succeeded, ctx has ended or there is no hope.
func insist(ctx context.Context, log *zap.Logger, not string, do func() error) error {
	said := ""
	for {
		err := do()
		if err == nil || errors.Is(err, errSeatTaken) || errors.Is(err, ErrRemoved) || errors.Is(err, registry.ErrUnknownScaler) || errors.Is(err, registry.ErrDenied) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if text := err.Error(); text != said {
			said = text
			log.Warn(not, zap.Error(err))
		}
		select {
		case <-time.After(seatRetry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
