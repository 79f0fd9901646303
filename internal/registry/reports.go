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

// MaxReport bounds what a node says of itself under one name, in bytes. The
// registry keeps every version for as long as its history reaches back.
const MaxReport = 16 << 10

// Report puts what this node says of itself under a name, such as "mysql". It
// stays until the next one, or until the node is expelled: that a node is there
// is what its membership says, and how old a report is, whoever watches knows.
func (c *Client) Report(ctx context.Context, name string, value []byte) error {
	if err := farm.CheckName(name); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if c.name == Administrator {
		return errors.New("report: the administrator is no node")
	}
	if len(value) == 0 || len(value) > MaxReport {
		return fmt.Errorf("report %s: %d bytes; expected 1 to %d", name, len(value), MaxReport)
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	_, err := c.etcd.Put(ctx, c.keys.report(c.name, name), string(value))
	return c.failed(err, "report %s", name)
}

// Reported is what a node reported of itself.
type Reported struct {
	// Node is whose it is; the registry knows that, whatever the report says.
	Node     string
	Name     string // such as "mysql"
	Data     []byte
	Revision int64 // of the registry when it was written: another report has a higher one
	Gone     bool  // it was removed, or is too long to be one; Data is nil
}

func (r Reported) key() [2]string { return [2]string{r.Node, r.Name} }

// ReportsView is what all nodes say of themselves, at one moment of the registry.
type ReportsView struct {
	Reports []Reported // by node and name
	// Changed are those that came, went or were written again since the view before;
	// also those that say the same as before.
	Changed []Reported
	// Lost is why the view may be old: the registry cannot be reached.
	Lost error
}

// Reports lists what all nodes say of themselves, by node and name.
func (c *Client) Reports(ctx context.Context) ([]Reported, error) {
	r, err := c.tree(c.keys.healthTrees())(ctx)
	if err != nil {
		return nil, err
	}
	return ordered(c.readReports(r)), nil
}

// WatchReports tells what all nodes say of themselves, and then again at every
// change, until ctx ends (whose cause it returns) or tell returns an error. It
// survives restarts and compactions of the registry. It is for the administrator.
func (c *Client) WatchReports(ctx context.Context, tell func(ReportsView) error) error {
	known := map[[2]string]Reported{}
	view := func(lost error, changed ...Reported) error {
		return tell(ReportsView{Reports: ordered(known), Changed: changed, Lost: lost})
	}
	tree := c.keys.healthTrees()
	return c.follow(ctx, tree, c.tree(tree), followed{
		snapshot: func(r *clientv3.GetResponse) error {
			now := c.readReports(r)
			var changed []Reported
			for _, r := range ordered(now) {
				if known[r.key()].Revision != r.Revision {
					changed = append(changed, r)
				}
			}
			for _, r := range ordered(known) {
				if _, still := now[r.key()]; !still {
					changed = append(changed, Reported{Node: r.Node, Name: r.Name, Revision: r.Revision, Gone: true})
				}
			}
			known = now
			return view(nil, changed...)
		},
		change: func(e *clientv3.Event) error {
			r, ok := c.readReport(e.Kv)
			if !ok {
				return nil
			}
			if r.Gone = r.Gone || e.Type != clientv3.EventTypePut; r.Gone {
				r.Data = nil
				delete(known, r.key())
			} else {
				known[r.key()] = r
			}
			return view(nil, r)
		},
		lost: func(err error) error { return view(err) },
	})
}

func (c *Client) readReports(r *clientv3.GetResponse) map[[2]string]Reported {
	all := map[[2]string]Reported{}
	for _, kv := range r.Kvs {
		if r, ok := c.readReport(kv); ok && !r.Gone {
			all[r.key()] = r
		}
	}
	return all
}

// readReport returns a report; false for what a node wrote that is none.
func (c *Client) readReport(kv *mvccpb.KeyValue) (Reported, bool) {
	node, name, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), c.keys.healthTrees()), "/")
	if farm.CheckName(node) != nil || farm.CheckName(name) != nil {
		return Reported{}, false
	}
	if len(kv.Value) > MaxReport {
		return Reported{Node: node, Name: name, Revision: kv.ModRevision, Gone: true}, true
	}
	return Reported{Node: node, Name: name, Data: kv.Value, Revision: kv.ModRevision}, true
}

func ordered(reports map[[2]string]Reported) []Reported {
	return slices.SortedFunc(maps.Values(reports), func(a, b Reported) int {
		if a.Node != b.Node {
			return strings.Compare(a.Node, b.Node)
		}
		return strings.Compare(a.Name, b.Name)
	})
}
