package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrChanged: somebody else has changed what was to be replaced.
var ErrChanged = errors.New("it was changed meanwhile")

// Replace makes value that of r, a [ControlRecord], if it still is was (nil for none):
// otherwise it returns [ErrChanged] and nothing was written. It is for what an
// operator gives the scalers, whoever leads; what a leader decides is for Write.
func (c *Client) Replace(ctx context.Context, r Record, was, value []byte) error {
	if !strings.HasPrefix(r.path, "control/") {
		return fmt.Errorf("replace %s: it is no record of the scalers", r)
	}
	op, err := c.put(r, value)
	if err != nil {
		return err
	}
	key := c.keys.root + r.path
	unchanged := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	if was != nil {
		unchanged = clientv3.Compare(clientv3.Value(key), "=", string(was))
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	done, err := c.etcd.Txn(ctx).If(unchanged).Then(op).Commit()
	if err != nil {
		return c.failed(err, "replace %s", r.path)
	}
	if !done.Succeeded {
		return fmt.Errorf("replace %s: %w", r.path, ErrChanged)
	}
	return nil
}
