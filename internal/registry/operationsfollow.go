package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// OperationsView is what was asked for, at one moment of the registry.
type OperationsView struct {
	Operations []Operation // oldest first
	// Lost is why the view may be old: the registry cannot be reached.
	Lost error
}

// WatchOperations tells of all operations, and then again at every change, until
// ctx ends (whose cause it returns) or tell returns an error. It survives restarts
// and compactions of the registry.
func (c *Client) WatchOperations(ctx context.Context, tell func(OperationsView) error) error {
	known := map[string]Operation{} // by key
	view := func(lost error) error {
		v := OperationsView{Lost: lost}
		for _, key := range slices.Sorted(maps.Keys(known)) {
			v.Operations = append(v.Operations, known[key])
		}
		return tell(v)
	}
	return c.follow(ctx, c.keys.operations(), c.tree(c.keys.operations()), followed{
		snapshot: func(r *clientv3.GetResponse) error {
			known = map[string]Operation{}
			for _, kv := range r.Kvs {
				known[string(kv.Key)] = c.readOperation(kv.Key, kv.Value)
			}
			return view(nil)
		},
		change: func(e *clientv3.Event) error {
			if e.Type == clientv3.EventTypePut {
				known[string(e.Kv.Key)] = c.readOperation(e.Kv.Key, e.Kv.Value)
			} else {
				delete(known, string(e.Kv.Key))
			}
			return view(nil)
		},
		lost: view,
	})
}

// FollowOperation tells how far an operation is, and then again at every change,
// until it has ended, ctx ends (whose cause it returns) or tell returns an error.
// It returns the operation as it ended. While the registry cannot be reached, it
// waits; lost, which may be nil, is told so once.
func (c *Client) FollowOperation(ctx context.Context, id string, tell func(Operation) error, lost func(error)) (Operation, error) {
	key, err := c.keys.operation(id)
	if err != nil {
		return Operation{}, err
	}
	var last Operation
	err = c.Watch(ctx, Record{strings.TrimPrefix(key, c.keys.root)}, func(v Value) error {
		switch {
		case v.Lost != nil:
			if lost != nil {
				lost(v.Lost)
			}
			return nil
		case v.Data == nil:
			return fmt.Errorf("operation %s: %w", id, ErrUnknownOperation)
		}
		last = c.readOperation([]byte(key), v.Data)
		if err := tell(last); err != nil {
			return err
		}
		if last.HasEnded() {
			return errHasEnded
		}
		return nil
	})
	if errors.Is(err, errHasEnded) {
		err = nil
	}
	return last, err
}

var errHasEnded = errors.New("the operation that is followed has ended")
