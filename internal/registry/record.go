package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farm"
)

// stands reports whether the leader's key that was read is the term's.
func (t Term) stands(kvs []*mvccpb.KeyValue) bool {
	return len(kvs) == 1 && kvs[0].CreateRevision == t.Number
}

// Record is where the leader keeps what others read, such as a cluster's
// assignment. Records can be compared and be keys of a map.
type Record struct{ path string }

func (r Record) String() string { return r.path }

// MaxRecord bounds a record's value, in bytes.
const MaxRecord = 128 << 10

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

// ControlRecord is what the scalers keep for each other, under a name; no node can
// read it.
func ControlRecord(name string) (Record, error) {
	if err := farm.CheckName(name); err != nil {
		return Record{}, fmt.Errorf("record of the scalers: %w", err)
	}
	return Record{"control/" + name}, nil
}

// Write puts value into r if the term lasts, in one transaction; otherwise it
// returns [ErrDeposed] and nothing was written. A nil value removes the record.
func (c *Client) Write(ctx context.Context, term Term, r Record, value []byte) error {
	return c.WriteAll(ctx, term, map[Record][]byte{r: value})
}

// maxRecords is how many one transaction of etcd takes, with some to spare.
const maxRecords = 100

// WriteAll is [Client.Write] of several records in one transaction: all of them
// are written or none.
func (c *Client) WriteAll(ctx context.Context, term Term, values map[Record][]byte) error {
	records := slices.SortedFunc(maps.Keys(values), func(a, b Record) int { return strings.Compare(a.path, b.path) })
	var what []string
	var ops []clientv3.Op
	for _, r := range records {
		op, err := c.put(r, values[r])
		if err != nil {
			return err
		}
		what, ops = append(what, r.path), append(ops, op)
	}
	all := strings.Join(what, ", ")
	if err := term.check(); err != nil {
		return fmt.Errorf("write %s: %w", all, err)
	}
	if len(ops) == 0 || len(ops) > maxRecords {
		return fmt.Errorf("write %d records: expected 1 to %d", len(ops), maxRecords)
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	done, err := c.etcd.Txn(ctx).If(term.guard()).Then(ops...).Commit()
	if err != nil {
		return c.failed(err, "write %s in term %d", all, term.Number)
	}
	if !done.Succeeded {
		return fmt.Errorf("write %s in term %d: %w", all, term.Number, ErrDeposed)
	}
	return nil
}

// put is the operation that makes value that of r.
func (c *Client) put(r Record, value []byte) (clientv3.Op, error) {
	switch {
	case r == Record{}:
		return clientv3.Op{}, errors.New("write a record: it has no name")
	case value == nil:
		return clientv3.OpDelete(c.keys.root + r.path), nil
	case len(value) == 0 || len(value) > MaxRecord:
		return clientv3.Op{}, fmt.Errorf("write %s: %d bytes; expected 1 to %d", r.path, len(value), MaxRecord)
	}
	return clientv3.OpPut(c.keys.root+r.path, string(value)), nil
}

// Read returns the value of r, nil if there is none. A majority of the registry's
// members agrees on it: no later value was there when Read began.
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

// Value is what a record holds.
type Value struct {
	Data []byte // nil if there is no such record
	// Revision is the registry's when the value was written; 0 if there is none.
	Revision int64
	// Lost is why the value may be old: the registry cannot be reached. Data is then
	// what was known last, nil also if nothing was ever known.
	Lost error
}

// Watch tells the value of r, and then again at every change, until ctx ends
// (whose cause it returns), tell returns an error or reading r is not allowed.
// It survives restarts and compactions of the registry.
func (c *Client) Watch(ctx context.Context, r Record, tell func(Value) error) error {
	if r == (Record{}) {
		return errors.New("watch a record: it has no name")
	}
	key := c.keys.root + r.path
	var known Value
	set := func(kv *mvccpb.KeyValue) error {
		known = Value{}
		if kv != nil {
			known = Value{Data: kv.Value, Revision: kv.ModRevision}
		}
		return tell(known)
	}
	get := func(ctx context.Context) (*clientv3.GetResponse, error) {
		ctx, cancel := limited(ctx)
		defer cancel()
		got, err := c.etcd.Get(ctx, key)
		return got, c.failed(err, "read %s", r.path)
	}
	return c.follow(ctx, key, get, followed{
		snapshot: func(got *clientv3.GetResponse) error {
			if len(got.Kvs) == 0 {
				return set(nil)
			}
			return set(got.Kvs[0])
		},
		change: func(e *clientv3.Event) error {
			switch {
			case string(e.Kv.Key) != key:
				return nil // its name only begins the same
			case e.Type == clientv3.EventTypePut:
				return set(e.Kv)
			}
			return set(nil)
		},
		lost: func(err error) error {
			known.Lost = err
			return tell(known)
		},
	})
}
