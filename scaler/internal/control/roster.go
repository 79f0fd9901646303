package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"

	"farmhand/internal/atomicfile"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

// ErrRemoved: the control node is none of the farm's any more.
var ErrRemoved = errors.New("this control node was removed from the farm")

// roster is the farm's control nodes as this one knows them: the registry has the
// list, and registry.yaml follows it, so that the node finds the others after a
// restart.
type roster struct {
	dir Dir
	own Member
	log *zap.Logger
	now atomic.Pointer[Config]
}

func newRoster(d Dir, own Member, c Config, log *zap.Logger) *roster {
	r := &roster{dir: d, own: own, log: log}
	r.now.Store(&c)
	return r
}

// config is the configuration with the members of now; nobody may change it.
func (r *roster) config() *Config { return r.now.Load() }

// follow keeps the list until ctx ends. It returns ErrRemoved when this node is not
// on it any more.
func (r *roster) follow(ctx context.Context, client *registry.Client) error {
	err := client.WatchScalers(ctx, func(all []registry.Scaler) error {
		if !slices.ContainsFunc(all, func(s registry.Scaler) bool { return s.Name == r.own.Name }) {
			return fmt.Errorf("%s: %w", r.own.Name, ErrRemoved)
		}
		members, err := r.members(all)
		if err != nil {
			return err
		}
		c := *r.config()
		same := slices.Equal(members, c.Members)
		c.Members = members
		client.SetEndpoints(c.endpoints()) // also if only the own vote is new
		if same {
			return nil
		}
		r.now.Store(&c)
		r.log.Info("control nodes changed", zap.Strings("endpoints", c.endpoints()))
		text, err := r.dir.withMembers(&c)
		if err == nil {
			err = atomicfile.WritePrivate(r.dir.ConfigFile(), []byte(text))
		}
		if err != nil {
			// It is only needed at the next start, and written again with the next change.
			r.log.Error("registry.yaml does not have the new control nodes", zap.Error(err))
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// members are those with a vote, as the registry has them; this one is what its
// own file says.
func (r *roster) members(all []registry.Scaler) ([]Member, error) {
	var members []Member
	for _, s := range all {
		switch {
		case s.Name == r.own.Name:
			members = append(members, r.own)
		case !s.Joined.IsZero():
			m, err := readMember(s)
			if err != nil {
				return nil, err
			}
			members = append(members, m)
		}
	}
	return members, nil
}

// readMember is the member that the registry has on record.
func readMember(s registry.Scaler) (Member, error) {
	m := Member{Name: s.Name}
	for _, part := range []struct {
		place string
		port  *uint16
	}{{s.Client, &m.ClientPort}, {s.Peer, &m.PeerPort}, {s.Join, &m.JoinPort}} {
		host, port, err := net.SplitHostPort(part.place)
		if err != nil {
			return m, fmt.Errorf("control node %s: %w", s.Name, err)
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return m, fmt.Errorf("control node %s: %w", s.Name, err)
		}
		m.Address, *part.port = host, uint16(number)
	}
	return m, nil
}

// withMembers is registry.yaml with the members of c, and otherwise as it is: also
// its comments.
func (d Dir) withMembers(c *Config) (string, error) {
	text, err := os.ReadFile(d.ConfigFile())
	if err != nil {
		return "", fmt.Errorf("read configuration: %w", err)
	}
	changed := replaceMembers(string(text), membersText(c.Members))
	got := Default()
	if err := service.Decode(d.ConfigFile(), []byte(changed), &got); err != nil || !slices.Equal(got.Members, c.Members) {
		return "", errors.Join(fmt.Errorf("%s: its list of members is written in a way that cannot be changed by a program; write it as \"scaler registry init\" does", d.ConfigFile()), err)
	}
	return changed, nil
}

// replaceMembers replaces the section members, which is in lines of its own, by
// block. Whether that was right, the caller finds out by reading the result.
func replaceMembers(text, block string) string {
	var out strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "members:"):
			inside = true
			out.WriteString(block)
			continue
		case inside && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "-")):
			continue
		}
		inside = false
		out.WriteString(line)
	}
	return out.String()
}

// membersText is the section members of registry.yaml.
func membersText(members []Member) string {
	var s strings.Builder
	s.WriteString("members:\n")
	for _, m := range members {
		fmt.Fprintf(&s, "  - name: %s\n    address: %q\n    client_port: %d\n    peer_port: %d\n    join_port: %d\n",
			m.Name, m.Address, m.ClientPort, m.PeerPort, m.JoinPort)
	}
	return s.String()
}
