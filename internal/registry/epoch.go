package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

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
	if err := c.inEpoch(ctx, term, cluster, from, from+1); err != nil {
		return 0, err
	}
	return from + 1, nil
}

// WriteInEpoch puts value into r, a record of the cluster, and makes the epoch
// to, which is from or one more, in one transaction: there is no epoch without
// the record that belongs to it. The epoch must be from; the errors are those of
// [Client.RaiseEpoch].
func (c *Client) WriteInEpoch(ctx context.Context, term Term, cluster string, from, to farm.Epoch, r Record, value []byte) error {
	if err := errors.Join(term.check(), farm.CheckName(cluster)); err != nil {
		return fmt.Errorf("write in epoch: %w", err)
	}
	if to != from && to != from+1 || to > farm.MaxEpoch {
		return fmt.Errorf("write %s in epoch %d of cluster %s: from epoch %d there is no way there", r, to, cluster, from)
	}
	if !strings.HasPrefix(r.path, "clusters/"+cluster+"/") {
		return fmt.Errorf("write %s in epoch %d: it is no record of cluster %s", r, to, cluster)
	}
	op, err := c.put(r, value)
	if err != nil {
		return err
	}
	return c.inEpoch(ctx, term, cluster, from, to, op)
}

// inEpoch does ops and makes the cluster's epoch to, all if the term lasts and the
// epoch is from.
func (c *Client) inEpoch(ctx context.Context, term Term, cluster string, from, to farm.Epoch, ops ...clientv3.Op) error {
	what := fmt.Sprintf("go from epoch %d of cluster %s to %d", from, cluster, to)
	key := c.keys.epoch(cluster)
	unmoved := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	if from > 0 {
		unmoved = clientv3.Compare(clientv3.Value(key), "=", strconv.FormatUint(uint64(from), 10))
	}
	if to != from {
		ops = append(ops, clientv3.OpPut(key, strconv.FormatUint(uint64(to), 10)))
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.Txn(ctx).If(term.guard(), unmoved).Then(ops...).
		Else(clientv3.OpGet(key), clientv3.OpGet(term.key)).
		Commit()
	switch {
	case err != nil:
		return c.failed(err, "%s", what)
	case r.Succeeded:
		return nil
	case !term.stands(r.Responses[1].GetResponseRange().Kvs):
		return fmt.Errorf("%s: %w", what, ErrDeposed)
	}
	now, err := c.readEpoch(cluster, (*clientv3.GetResponse)(r.Responses[0].GetResponseRange()))
	if err != nil {
		return err
	}
	return &EpochMovedError{Cluster: cluster, Expected: from, Now: now}
}
