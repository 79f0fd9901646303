package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farm"
)

// EpochMovedError says that a cluster's epoch is not the one that a change was
// based on.
type EpochMovedError struct {
	Cluster       string
	Expected, Now farm.Epoch
}

func (e *EpochMovedError) Error() string {
	return fmt.Sprintf("the epoch of cluster %s is %d, not %d as expected: somebody changed its primary meanwhile; look again before deciding", e.Cluster, e.Now, e.Expected)
}

// Epoch returns a cluster's epoch; 0 if it never had one.
func (c *Client) Epoch(ctx context.Context, cluster string) (farm.Epoch, error) {
	if err := farm.CheckName(cluster); err != nil {
		return 0, fmt.Errorf("read epoch: %w", err)
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.Get(ctx, c.keys.epoch(cluster))
	if err != nil {
		return 0, c.failed(err, "read the epoch of cluster %s", cluster)
	}
	return c.readEpoch(cluster, r)
}

func (c *Client) readEpoch(cluster string, r *clientv3.GetResponse) (farm.Epoch, error) {
	if len(r.Kvs) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(r.Kvs[0].Value), 10, 64)
	if err != nil || n == 0 || farm.Epoch(n) > farm.MaxEpoch {
		return 0, fmt.Errorf("registry: the epoch of cluster %s is %q, which is none: the key %s was changed by hand", cluster, r.Kvs[0].Value, r.Kvs[0].Key)
	}
	return farm.Epoch(n), nil
}

// RaiseEpoch makes the epoch of a cluster one higher than from, which must be
// the present one, and returns it. Of several that raise from the same epoch,
// one wins; the others get an [EpochMovedError]. A term that is over gets
// [ErrDeposed]. After an error of another kind, such as ErrUnavailable, it may
// have been raised or not.
func (c *Client) RaiseEpoch(ctx context.Context, term Term, cluster string, from farm.Epoch) (farm.Epoch, error) {
	if err := errors.Join(term.check(), farm.CheckName(cluster)); err != nil {
		return 0, fmt.Errorf("raise epoch: %w", err)
	}
	if from >= farm.MaxEpoch {
		return 0, fmt.Errorf("raise the epoch of cluster %s: %d is the last one", cluster, farm.MaxEpoch)
	}
	key := c.keys.epoch(cluster)
	unmoved := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	if from > 0 {
		unmoved = clientv3.Compare(clientv3.Value(key), "=", strconv.FormatUint(uint64(from), 10))
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.Txn(ctx).If(term.guard(), unmoved).
		Then(clientv3.OpPut(key, strconv.FormatUint(uint64(from)+1, 10))).
		Else(clientv3.OpGet(key), clientv3.OpGet(term.key)).
		Commit()
	if err != nil {
		return 0, c.failed(err, "raise the epoch of cluster %s from %d", cluster, from)
	}
	if r.Succeeded {
		return from + 1, nil
	}
	if !term.stands(r.Responses[1].GetResponseRange().Kvs) {
		return 0, fmt.Errorf("raise the epoch of cluster %s from %d: %w", cluster, from, ErrDeposed)
	}
	now, err := c.readEpoch(cluster, (*clientv3.GetResponse)(r.Responses[0].GetResponseRange()))
	if err != nil {
		return 0, err
	}
	return 0, &EpochMovedError{Cluster: cluster, Expected: from, Now: now}
}
