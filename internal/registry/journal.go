package registry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farm"
)

// Decision is the kind of an entry that says what the scaler decided and why;
// every other kind is the name of an event, such as host-up.
const Decision = "decision"

// Minor is the field of a decision that comes often and is of no interest by
// itself; its value is "true".
const Minor = "minor"

// Entry is one event or decision.
type Entry struct {
	// Revision orders the entries of all writers: the registry gives it.
	Revision int64     `json:"revision"`
	Time     time.Time `json:"time"` // by the writer's clock; zero when appending means now
	Kind     string    `json:"kind"`
	// Who did or saw it. Of a node's entry the registry knows the name, whatever
	// the node says.
	Who    string            `json:"who"`
	Node   bool              `json:"node,omitempty"` // a node wrote it, not a scaler
	Text   string            `json:"text"`
	Fields map[string]string `json:"fields,omitempty"`
}

// Bounds of the journal. A writer's oldest entries make room for its new ones;
// the scalers together are one writer, each node is one.
const (
	ControlEntries = 10_000
	NodeEntries    = 500

	maxText   = 4 << 10 // bytes; longer ones are cut, for an event must not be lost
	maxFields = 32
	maxField  = 1 << 10
	maxTrim   = 100 // entries that one append deletes at most
)

// Append adds an entry to the journal: a node's own, or for the administrator
// that of the scalers. Its result is the entry as it was written.
func (c *Client) Append(ctx context.Context, e Entry) (Entry, error) {
	return c.append(ctx, e)
}

// AppendInTerm adds an entry if the term lasts; otherwise it returns
// [ErrDeposed] and wrote nothing.
func (c *Client) AppendInTerm(ctx context.Context, term Term, e Entry) (Entry, error) {
	if err := term.check(); err != nil {
		return Entry{}, fmt.Errorf("append to the journal: %w", err)
	}
	return c.append(ctx, e, term.guard())
}

func (c *Client) append(ctx context.Context, e Entry, guards ...clientv3.Cmp) (Entry, error) {
	journal, bound := c.keys.controlJournal(), int64(ControlEntries)
	if e.Node = c.name != Administrator; e.Node {
		journal, bound, e.Who = c.keys.nodeJournal(c.name), NodeEntries, c.name
	}
	return c.appendTo(ctx, journal, bound, e, guards...)
}

// appendTo adds to one writer's entries and deletes the oldest beyond bound.
func (c *Client) appendTo(ctx context.Context, journal string, bound int64, e Entry, guards ...clientv3.Cmp) (Entry, error) {
	e, err := e.checked()
	if err != nil {
		return Entry{}, fmt.Errorf("append to the journal: %w", err)
	}
	value, err := json.Marshal(e)
	if err != nil {
		return Entry{}, fmt.Errorf("append to the journal: %w", err)
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.Txn(ctx).If(guards...).Then(
		clientv3.OpPut(journal+entryName(), string(value)),
		clientv3.OpGet(journal, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(maxTrim)),
	).Commit()
	if err != nil {
		return Entry{}, c.failed(err, "append to the journal")
	}
	if !r.Succeeded {
		return Entry{}, fmt.Errorf("append to the journal: %w", ErrDeposed)
	}
	e.Revision = r.Header.Revision
	// Keys begin with the time, so the first are the oldest. What one append does
	// not delete, or what was written by a clock that is behind, the next will.
	there := r.Responses[1].GetResponseRange()
	var old []clientv3.Op
	for _, kv := range there.Kvs[:max(0, min(there.Count-bound, int64(len(there.Kvs))))] {
		old = append(old, clientv3.OpDelete(string(kv.Key)))
	}
	if len(old) > 0 {
		if _, err := c.etcd.Txn(ctx).Then(old...).Commit(); err != nil {
			return e, c.failed(err, "remove the journal's oldest entries")
		}
	}
	return e, nil
}

// entryName orders one writer's entries by time; the nonce keeps two of one
// moment apart.
func entryName() string {
	var nonce [6]byte
	_, _ = rand.Read(nonce[:]) // never fails, see its documentation
	return fmt.Sprintf("%016x-%s", time.Now().UnixNano(), hex.EncodeToString(nonce[:]))
}

// checked returns the entry within its bounds, or why it cannot be.
func (e Entry) checked() (Entry, error) {
	e.Revision = 0
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	if err := farm.CheckName(e.Kind); err != nil {
		return e, fmt.Errorf("kind: %w", err)
	}
	if e.Who == "" || len(e.Who) > maxField {
		return e, fmt.Errorf("who: %.100q is not possible; expected 1 to %d bytes", e.Who, maxField)
	}
	if len(e.Fields) > maxFields {
		return e, fmt.Errorf("%d fields; at most %d are kept", len(e.Fields), maxFields)
	}
	for key, value := range e.Fields {
		if err := farm.CheckName(key); err != nil {
			return e, fmt.Errorf("field: %w", err)
		}
		if len(value) > maxField {
			return e, fmt.Errorf("field %s: %d bytes; at most %d are kept", key, len(value), maxField)
		}
	}
	e.Text = cut(e.Text, maxText)
	return e, nil
}

// cut returns text with what is beyond most bytes counted, not kept.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return fmt.Sprintf("%s… (%d more bytes)", text[:most], len(text)-most)
}

// Entries returns the last n entries of all writers, oldest first; all there
// are if n is 0.
func (c *Client) Entries(ctx context.Context, n int) ([]Entry, error) {
	if n < 0 {
		return nil, errors.New("read the journal: a negative number of entries")
	}
	r, err := c.lastEntries(ctx, n)
	if err != nil {
		return nil, err
	}
	return c.readEntries(r), nil
}

func (c *Client) lastEntries(ctx context.Context, n int) (*clientv3.GetResponse, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.Get(ctx, c.keys.journal(), clientv3.WithPrefix(), clientv3.WithLimit(int64(n)),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend))
	return r, c.failed(err, "read the journal")
}

// readEntries decodes what was read newest first.
func (c *Client) readEntries(r *clientv3.GetResponse) []Entry {
	entries := make([]Entry, len(r.Kvs))
	for i, kv := range r.Kvs {
		entries[len(r.Kvs)-1-i] = c.readEntry(kv)
	}
	return entries
}

// readEntry decodes an entry and corrects what its writer cannot know or must
// not say. What cannot be read is an entry as well: a reader shall see that it
// is there.
func (c *Client) readEntry(kv *mvccpb.KeyValue) Entry {
	node, _, isNode := strings.Cut(strings.TrimPrefix(string(kv.Key), c.keys.nodeJournals()), "/")
	isNode = isNode && strings.HasPrefix(string(kv.Key), c.keys.nodeJournals())
	var e Entry
	if err := json.Unmarshal(kv.Value, &e); err != nil {
		e = Entry{Kind: "unreadable", Who: "?", Text: err.Error()}
	}
	e.Revision, e.Node = kv.CreateRevision, isNode
	if isNode {
		e.Who = node
		if e.Kind == Decision {
			e.Kind = "unreadable"
			e.Text = "a node cannot decide: " + e.Text
		}
	}
	return e
}

// FollowEntries tells the last n entries and then every new one, in order and
// each once, until ctx ends (whose cause it returns) or tell returns an error.
// While the registry cannot be reached, it waits; lost, which may be nil, is
// told so once.
func (c *Client) FollowEntries(ctx context.Context, n int, tell func(Entry) error, lost func(error)) error {
	var last int64 // the revision told last
	first := true
	one := func(e Entry) error {
		if e.Revision <= last {
			return nil
		}
		last = e.Revision
		return tell(e)
	}
	get := func(ctx context.Context) (*clientv3.GetResponse, error) {
		if first {
			return c.lastEntries(ctx, max(n, 1))
		}
		// After a gap: all that the journal still has.
		return c.lastEntries(ctx, 0)
	}
	return c.follow(ctx, c.keys.journal(), get, followed{
		snapshot: func(r *clientv3.GetResponse) error {
			if first {
				first = false
				if n == 0 { // the one that was read says only where to begin
					last = r.Header.Revision
					return nil
				}
			}
			for _, e := range c.readEntries(r) {
				if err := one(e); err != nil {
					return err
				}
			}
			return nil
		},
		change: func(e *clientv3.Event) error {
			if !e.IsCreate() {
				return nil // trimmed, or a node rewriting its history, which counts once
			}
			return one(c.readEntry(e.Kv))
		},
		lost: func(err error) error {
			if lost != nil {
				lost(err)
			}
			return nil
		},
	})
}
