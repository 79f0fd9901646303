package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Member is a node that is there: it renews its lease.
type Member struct {
	// Name is the node's own name, as its key and so its certificate says.
	Name string `json:"name"`
	// Role is what the node was admitted as, such as "mysql" or "web".
	Role string `json:"role"`
	// Address is where the node's service is reached; empty if it has none.
	Address string `json:"address,omitempty"`
	// Since is when this membership began, by the node's clock.
	Since time.Time `json:"since"`
	// Attributes are free facts for people and policies.
	Attributes map[string]string `json:"attributes,omitempty"`
}

// readMember decodes a member's key; false for other keys of the tree and for
// what a node wrote there that is no member.
func (c *Client) readMember(key string, value []byte) (Member, bool) {
	name, ok := c.memberName(key)
	if !ok {
		return Member{}, false
	}
	var m Member
	if err := json.Unmarshal(value, &m); err != nil {
		c.log.Warn("unreadable member", zap.String("node", name), zap.Error(err))
		return Member{}, false
	}
	m.Name = name // not what the node says
	return m, true
}

func (c *Client) memberName(key string) (string, bool) {
	name, last, ok := strings.Cut(strings.TrimPrefix(key, c.keys.members()), "/")
	return name, ok && last == sessionKey
}

// Members lists who is there, by name.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	r, err := c.tree(c.keys.members())(ctx)
	if err != nil {
		return nil, err
	}
	return c.readMembers(r), nil
}

func (c *Client) readMembers(r *clientv3.GetResponse) []Member {
	members := make([]Member, 0, len(r.Kvs))
	for _, kv := range r.Kvs {
		if m, ok := c.readMember(string(kv.Key), kv.Value); ok {
			members = append(members, m)
		}
	}
	return members
}

// MembersView is who is there, at one moment of the registry.
type MembersView struct {
	Members []Member // by name
	// Changed are the names that came, went or changed since the view before.
	Changed []string
	// Lost is why the view may be old: the registry cannot be reached. The members
	// are then those that were known last; nothing says that they are gone.
	Lost error
}

// WatchMembers tells who is there, and then again at every change, until ctx
// ends (whose cause it returns) or tell returns an error. It survives restarts
// and compactions of the registry.
func (c *Client) WatchMembers(ctx context.Context, tell func(MembersView) error) error {
	known := map[string]Member{}
	view := func(lost error, changed ...string) error {
		slices.Sort(changed)
		return tell(MembersView{
			Members: slices.SortedFunc(maps.Values(known), func(a, b Member) int { return strings.Compare(a.Name, b.Name) }),
			Changed: changed, Lost: lost,
		})
	}
	return c.follow(ctx, c.keys.members(), c.tree(c.keys.members()), followed{
		snapshot: func(r *clientv3.GetResponse) error {
			now := map[string]Member{}
			for _, m := range c.readMembers(r) {
				now[m.Name] = m
			}
			changed := differing(known, now)
			known = now
			return view(nil, changed...)
		},
		change: func(e *clientv3.Event) error {
			name, ok := c.memberName(string(e.Kv.Key))
			if !ok {
				return nil
			}
			delete(known, name)
			if e.Type == clientv3.EventTypePut {
				if m, ok := c.readMember(string(e.Kv.Key), e.Kv.Value); ok {
					known[name] = m
				}
			}
			return view(nil, name)
		},
		lost: func(err error) error { return view(err) },
	})
}

// differing lists the names whose member is not the same in both.
func differing(a, b map[string]Member) []string {
	var names []string
	for name, m := range b {
		if old, ok := a[name]; !ok || !same(old, m) {
			names = append(names, name)
		}
	}
	for name := range a {
		if _, ok := b[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

func same(a, b Member) bool {
	return a.Name == b.Name && a.Role == b.Role && a.Address == b.Address && a.Since.Equal(b.Since) && maps.Equal(a.Attributes, b.Attributes)
}

func (m Member) encode() (string, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("encode member %s: %w", m.Name, err)
	}
	return string(data), nil
}
