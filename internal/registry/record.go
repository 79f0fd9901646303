package registry

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farm"
)

// stands reports whether the leader's key that was read is the term's.
func (t Term) stands(kvs []*mvccpb.KeyValue) bool {
	return len(kvs) == 1 && kvs[0].CreateRevision == t.Number
}

// Record is where the leader keeps what others read: a topology, an order.
type Record struct{ path string }

// ClusterRecord is what the nodes have to know of a cluster, under a name such
// as "topology". The epoch is no record: it has rules of its own.
func ClusterRecord(cluster, name string) (Record, error) {
	if err := errors.Join(farm.CheckName(cluster), farm.CheckName(name)); err != nil {
		return Record{}, fmt.Errorf("record of a cluster: %w", err)
	}
	if name == "epoch" {
		return Record{}, errors.New("record of a cluster: the epoch is raised, not written")
	}
	return Record{"clusters/" + cluster + "/" + name}, nil
}

// Order is what a node is asked to do, under a name.
func Order(node, name string) (Record, error) {
	if err := errors.Join(farm.CheckName(node), farm.CheckName(name)); err != nil {
		return Record{}, fmt.Errorf("order to a node: %w", err)
	}
	return Record{"orders/" + node + "/" + name}, nil
}

// Write puts value into r if the term lasts, in one transaction; otherwise it
// returns [ErrDeposed] and nothing was written.
func (c *Client) Write(ctx context.Context, term Term, r Record, value []byte) error {
	if err := term.check(); err != nil {
		return fmt.Errorf("write %s: %w", r.path, err)
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	done, err := c.etcd.Txn(ctx).If(term.guard()).Then(clientv3.OpPut(c.keys.root+r.path, string(value))).Commit()
	if err != nil {
		return c.failed(err, "write %s in term %d", r.path, term.Number)
	}
	if !done.Succeeded {
		return fmt.Errorf("write %s in term %d: %w", r.path, term.Number, ErrDeposed)
	}
	return nil
}

// Read returns the value of r, nil if there is none.
func (c *Client) Read(ctx context.Context, r Record) ([]byte, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	got, err := c.etcd.Get(ctx, c.keys.root+r.path)
	if err != nil {
		return nil, c.failed(err, "read %s", r.path)
	}
	if len(got.Kvs) == 0 {
		return nil, nil
	}
	return got.Kvs[0].Value, nil
}
