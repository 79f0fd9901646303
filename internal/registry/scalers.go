package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farm"
)

// Scaler is a control node: a member of the registry with a scaler, and where it
// answers, as host:port. Nodes may read it.
type Scaler struct {
	Name   string `json:"name"`
	Client string `json:"client"` // of the registry, for nodes and scalers
	Peer   string `json:"peer"`   // of the registry, for its other members
	Join   string `json:"join"`   // for nodes that join
	// Joined is when it got its vote; zero while it is on its way in. Until then it
	// answers nobody.
	Joined time.Time `json:"joined,omitzero"`
	// Key is the SHA-256 of the public key that it serves with, while it is on its
	// way in: only who has that key is told what a control node has to know.
	Key string `json:"key,omitempty"`
}

func (s Scaler) check() error {
	if err := farm.CheckName(s.Name); err != nil {
		return err
	}
	for _, address := range []string{s.Client, s.Peer, s.Join} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("control node %s: %w", s.Name, err)
		}
	}
	return nil
}

// ErrUnknownScaler: the farm has no such control node.
var ErrUnknownScaler = errors.New("the farm has no such control node")

// Scalers lists the farm's control nodes by name, also those on their way in.
func (c *Client) Scalers(ctx context.Context) ([]Scaler, error) {
	r, err := c.tree(c.keys.scalers())(ctx)
	if err != nil {
		return nil, err
	}
	return c.readScalers(r.Kvs)
}

func (c *Client) readScalers(kvs []*mvccpb.KeyValue) ([]Scaler, error) {
	all := make([]Scaler, len(kvs))
	for i, kv := range kvs {
		if err := json.Unmarshal(kv.Value, &all[i]); err != nil {
			return nil, fmt.Errorf("registry: read %s: %w", kv.Key, err)
		}
		all[i].Name = strings.TrimPrefix(string(kv.Key), c.keys.scalers())
	}
	return all, nil
}

func (c *Client) scaler(ctx context.Context, name string) (s Scaler, revision int64, err error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.Get(ctx, c.keys.scaler(name))
	if err != nil {
		return s, 0, c.failed(err, "read control node %s", name)
	}
	if len(r.Kvs) == 0 {
		return s, 0, fmt.Errorf("control node %s: %w", name, ErrUnknownScaler)
	}
	all, err := c.readScalers(r.Kvs)
	if err != nil {
		return s, 0, err
	}
	return all[0], r.Kvs[0].ModRevision, nil
}

// Scaler returns one control node; ErrUnknownScaler if there is none.
func (c *Client) Scaler(ctx context.Context, name string) (Scaler, error) {
	s, _, err := c.scaler(ctx, name)
	return s, err
}

// FoundScalers puts the control nodes with which a farm begins on record, if there
// is none yet. It can be repeated, and by several of them at a time.
func (c *Client) FoundScalers(ctx context.Context, founders []Scaler) error {
	now := time.Now().UTC().Truncate(time.Second)
	var ops []clientv3.Op
	for _, s := range founders {
		s.Joined, s.Key = now, ""
		if err := s.check(); err != nil {
			return err
		}
		value, err := json.Marshal(s)
		if err != nil {
			return fmt.Errorf("put control node %s on record: %w", s.Name, err)
		}
		ops = append(ops, clientv3.OpPut(c.keys.scaler(s.Name), string(value)))
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	_, err := c.etcd.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(c.keys.scalers()), "=", 0).WithPrefix()).
		Then(ops...).Commit()
	return c.failed(err, "put the first control nodes on record")
}

// ScalerJoined says that the control node has its vote. It can be repeated.
func (c *Client) ScalerJoined(ctx context.Context, name string) error {
	s, revision, err := c.scaler(ctx, name)
	if err != nil || !s.Joined.IsZero() {
		return err
	}
	s.Joined, s.Key = time.Now().UTC().Truncate(time.Second), ""
	value, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("put control node %s on record: %w", name, err)
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	key := c.keys.scaler(name)
	r, err := c.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil {
		return c.failed(err, "put control node %s on record", name)
	}
	if !r.Succeeded {
		return fmt.Errorf("put control node %s on record: %w", name, ErrChanged)
	}
	return nil
}

// ForgetScaler takes the record of a control node away. Its seat is for
// [Client.RemoveSeat].
func (c *Client) ForgetScaler(ctx context.Context, name string) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	_, err := c.etcd.Delete(ctx, c.keys.scaler(name))
	return c.failed(err, "forget control node %s", name)
}

// WatchScalers tells all control nodes, and again at every change, until ctx ends
// (whose cause it returns), tell returns an error or reading is not allowed. While
// the registry is lost nothing is told: what was known is then all there is.
func (c *Client) WatchScalers(ctx context.Context, tell func([]Scaler) error) error {
	var known []*mvccpb.KeyValue
	say := func() error {
		all, err := c.readScalers(known)
		if err != nil {
			return err
		}
		return tell(all)
	}
	prefix := c.keys.scalers()
	return c.follow(ctx, prefix, c.tree(prefix), followed{
		snapshot: func(r *clientv3.GetResponse) error {
			known = r.Kvs
			return say()
		},
		change: func(e *clientv3.Event) error {
			i, found := slices.BinarySearchFunc(known, string(e.Kv.Key), func(kv *mvccpb.KeyValue, key string) int { return strings.Compare(string(kv.Key), key) })
			switch {
			case e.Type == clientv3.EventTypePut && found:
				known[i] = e.Kv
			case e.Type == clientv3.EventTypePut:
				known = slices.Insert(known, i, e.Kv)
			case found:
				known = slices.Delete(known, i, i+1)
			}
			return say()
		},
		lost: func(error) error { return nil },
	})
}

// KeepEndpoints has the client look for the registry where its control nodes are,
// also when they change, until ctx ends.
func (c *Client) KeepEndpoints(ctx context.Context) error {
	return c.WatchScalers(ctx, func(all []Scaler) error {
		endpoints, _ := Places(all)
		c.SetEndpoints(endpoints)
		return nil
	})
}

// Places are where the registry answers, and where nodes join: at the control
// nodes that have a vote.
func Places(all []Scaler) (endpoints, joins []string) {
	for _, s := range all {
		if !s.Joined.IsZero() {
			endpoints, joins = append(endpoints, s.Client), append(joins, s.Join)
		}
	}
	return endpoints, joins
}
