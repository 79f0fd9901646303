package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farm"
)

// Node is a node that was admitted to the farm, whether it is there or not.
type Node struct {
	Name     string    `json:"name"`
	Role     string    `json:"role"`
	Admitted time.Time `json:"admitted"`
	// Expelled is when the node was put out of the farm; zero if it was not. Its
	// name is kept for as long as the certificates that it may have last.
	Expelled time.Time `json:"expelled,omitzero"`
}

// What a node's name cannot be. Wrapped by errors of CheckNodeName and SpendToken.
var (
	ErrNameTaken   = errors.New("the name is taken")
	ErrUnknownNode = errors.New("the farm has no such node")
)

// CheckNodeName says what is wrong with a node's name.
func CheckNodeName(name string) error {
	if err := farm.CheckName(name); err != nil {
		return err
	}
	if strings.EqualFold(name, Administrator) {
		return fmt.Errorf("%q is the name of the registry's administrator", name)
	}
	return nil
}

// Nodes lists all nodes that were admitted, by name.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	r, err := c.tree(c.keys.nodes())(ctx)
	if err != nil {
		return nil, err
	}
	nodes := make([]Node, len(r.Kvs))
	for i, kv := range r.Kvs {
		if err := json.Unmarshal(kv.Value, &nodes[i]); err != nil {
			return nil, fmt.Errorf("registry: read %s: %w", kv.Key, err)
		}
	}
	return nodes, nil
}

// Node returns one node; ErrUnknownNode if it was never admitted or is expelled.
func (c *Client) Node(ctx context.Context, name string) (Node, error) {
	n, _, err := c.node(ctx, name)
	if err == nil && !n.Expelled.IsZero() {
		err = fmt.Errorf("node %s was expelled at %s: %w", name, n.Expelled.Format(time.RFC3339), ErrUnknownNode)
	}
	return n, err
}

func (c *Client) node(ctx context.Context, name string) (n Node, revision int64, err error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.Get(ctx, c.keys.node(name))
	if err != nil {
		return Node{}, 0, c.failed(err, "read node %s", name)
	}
	if len(r.Kvs) == 0 {
		return Node{}, 0, fmt.Errorf("node %s: %w", name, ErrUnknownNode)
	}
	if err := json.Unmarshal(r.Kvs[0].Value, &n); err != nil {
		return Node{}, 0, fmt.Errorf("registry: read node %s: %w", name, err)
	}
	return n, r.Kvs[0].ModRevision, nil
}

// Expel puts a node out of the farm: at once its certificate is good for
// nothing, and its membership and reports are gone. For hold, which is how long
// a certificate of its name can still be around, nobody else gets the name.
// It can be repeated; with a hold of 0 the name is free at once.
func (c *Client) Expel(ctx context.Context, name string, hold time.Duration) error {
	n, revision, err := c.node(ctx, name)
	if err != nil {
		return fmt.Errorf("expel: %w", err)
	}
	// First the record, so that no renewal comes in between.
	n.Expelled = time.Now().UTC().Truncate(time.Second)
	value, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("expel %s: %w", name, err)
	}
	call, cancel := limited(ctx)
	defer cancel()
	// Also for a name that is to be free at once: until all is done, so that an
	// attempt that broke off can be repeated.
	lease, err := c.etcd.Grant(call, int64(max(hold, time.Minute)/time.Second))
	if err != nil {
		return c.failed(err, "expel node %s", name)
	}
	r, err := c.etcd.Txn(call).
		If(clientv3.Compare(clientv3.ModRevision(c.keys.node(name)), "=", revision)).
		Then(
			clientv3.OpPut(c.keys.node(name), string(value), clientv3.WithLease(lease.ID)),
			clientv3.OpDelete(c.keys.memberTree(name), clientv3.WithPrefix(), clientv3.WithPrevKV()),
			clientv3.OpDelete(c.keys.healthTree(name), clientv3.WithPrefix()),
			clientv3.OpDelete(c.keys.ordersTree(name), clientv3.WithPrefix()),
		).Commit()
	if err != nil {
		return c.failed(err, "expel node %s", name)
	}
	if !r.Succeeded {
		return fmt.Errorf("expel node %s: somebody else changed it just now; look again", name)
	}
	if err := c.denyNode(ctx, name); err != nil {
		return err
	}
	if err := c.clear(ctx, name, r.Responses[1].GetResponseDeleteRange().PrevKvs); err != nil || hold > 0 {
		return err
	}
	_, err = c.etcd.Revoke(call, lease.ID)
	return c.failed(err, "free the name of node %s", name)
}

// clear ends the leases of a node that has lost its rights, by which its process
// learns of it, and removes what it wrote until it had.
func (c *Client) clear(ctx context.Context, name string, deleted []*mvccpb.KeyValue) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	for _, tree := range []string{c.keys.memberTree(name), c.keys.healthTree(name)} {
		r, err := c.etcd.Delete(ctx, tree, clientv3.WithPrefix(), clientv3.WithPrevKV())
		if err != nil {
			return c.failed(err, "expel node %s", name)
		}
		deleted = append(deleted, r.PrevKvs...)
	}
	for _, kv := range deleted {
		if kv.Lease == 0 {
			continue
		}
		if _, err := c.etcd.Revoke(ctx, clientv3.LeaseID(kv.Lease)); unless(err, rpctypes.ErrLeaseNotFound) != nil {
			return c.failed(err, "end the lease of node %s", name)
		}
	}
	return nil
}
