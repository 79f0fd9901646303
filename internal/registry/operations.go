package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farm"
)

// Operation is what an operator asks of the scaler that leads, and how far it is.
// What a kind of operation means, and its arguments, is between those two.
type Operation struct {
	ID    string            `json:"id"` // a number; later ones are higher
	Kind  string            `json:"kind"`
	Args  map[string]string `json:"args,omitempty"`
	By    string            `json:"by"` // who asked
	Asked time.Time         `json:"asked"`
	State OperationState    `json:"state"`
	Steps []OperationStep   `json:"steps,omitempty"`
	// Result is what came of it, Error why nothing did; of an operation that has
	// ended.
	Result string    `json:"result,omitempty"`
	Error  string    `json:"error,omitempty"`
	Ended  time.Time `json:"ended,omitzero"`
}

// OperationStep is one thing that was done for an operation, or is waited for.
type OperationStep struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}

// OperationState is how far an operation is.
type OperationState string

// The states of an operation: asked, then running, then one of the others, from
// which there is no way on. One that was only asked can fail or be cancelled.
const (
	OperationAsked     OperationState = "asked"
	OperationRunning   OperationState = "running"
	OperationDone      OperationState = "done"
	OperationFailed    OperationState = "failed"
	OperationCancelled OperationState = "cancelled"
)

// HasEnded reports whether nothing more will come of the operation.
func (o Operation) HasEnded() bool {
	return o.State == OperationDone || o.State == OperationFailed || o.State == OperationCancelled
}

// What callers branch on.
var (
	ErrUnknownOperation = errors.New("there is no such operation")
	// ErrOperationEnded: the operation has ended, such as by being cancelled, and is
	// changed no more.
	ErrOperationEnded = errors.New("the operation has ended")
	// ErrOperationBegun: the operation runs already, so it is too late to cancel it.
	ErrOperationBegun = errors.New("the operation has begun")
)

// Bounds of operations.
const (
	// KeptOperations is how many that have ended are kept; the oldest make room.
	KeptOperations = 200

	maxSteps = 100 // the first ones are forgotten
	maxWho   = 256 // bytes of who did something, for the journal
)

func (k keys) operation(id string) (string, error) {
	n, err := strconv.ParseUint(id, 10, 63)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != id {
		return "", fmt.Errorf("operation %q: %w; expected a number", id, ErrUnknownOperation)
	}
	return fmt.Sprintf("%s%019d", k.operations(), n), nil
}

// The kinds of entry that say who asked for an operation, and who took one back. They
// are written together with it: nothing is asked for without.
const (
	AskedEntry     = "operation-asked"
	CancelledEntry = "operation-cancelled"
)

// told has the journal say that by did something with an operation.
func (c *Client) told(kind, by, text string, o Operation) (clientv3.Op, error) {
	fields := map[string]string{}
	for key, value := range o.Args {
		if len(fields) < maxFields-1 {
			fields[key] = value
		}
	}
	fields["operation"] = o.ID
	e, err := Entry{Kind: kind, Who: cut(cmp.Or(by, "?"), maxWho), Text: text, Fields: fields}.checked()
	if err != nil {
		return clientv3.Op{}, fmt.Errorf("operation %s: %w", o.ID, err)
	}
	value, err := json.Marshal(e)
	if err != nil {
		return clientv3.Op{}, fmt.Errorf("operation %s: %w", o.ID, err)
	}
	return clientv3.OpPut(c.keys.controlJournal()+entryName(), string(value)), nil
}

// Ask puts an operation before the scaler that leads, or will lead next, and
// returns it with its ID. Only Kind, Args and By are the caller's. The journal says
// who asked.
func (c *Client) Ask(ctx context.Context, o Operation) (Operation, error) {
	if err := farm.CheckName(o.Kind); err != nil {
		return Operation{}, fmt.Errorf("ask for an operation: kind: %w", err)
	}
	if len(o.Args) > maxFields {
		return Operation{}, fmt.Errorf("ask for %s: %d arguments; at most %d are possible", o.Kind, len(o.Args), maxFields)
	}
	for key, value := range o.Args {
		if err := farm.CheckName(key); err != nil || len(value) > maxField {
			return Operation{}, fmt.Errorf("ask for %s: argument %.100q of %d bytes; expected a name and at most %d bytes", o.Kind, key, len(value), maxField)
		}
	}
	for {
		all, revision, err := c.readOperations(ctx)
		if err != nil {
			return Operation{}, err
		}
		asked, ops, err := c.next(o, all)
		if err != nil {
			return Operation{}, err
		}
		call, cancel := limited(ctx)
		// Nobody asked meanwhile, so the number is free and the rest as it was read.
		r, err := c.etcd.Txn(call).
			If(clientv3.Compare(clientv3.CreateRevision(c.keys.operations()).WithPrefix(), "<", revision+1)).
			Then(ops...).Commit()
		cancel()
		if err != nil {
			return Operation{}, c.failed(err, "ask for %s", o.Kind)
		}
		if r.Succeeded {
			return asked, nil
		}
	}
}

// next returns the operation as it is asked after all those that there are, and
// what has to be written for it.
func (c *Client) next(o Operation, all []Operation) (Operation, []clientv3.Op, error) {
	number := uint64(1)
	var ended []Operation
	for _, old := range all {
		if n, err := strconv.ParseUint(old.ID, 10, 63); err == nil {
			number = max(number, n+1)
		}
		if old.HasEnded() {
			ended = append(ended, old)
		}
	}
	o = Operation{
		ID: strconv.FormatUint(number, 10), Kind: o.Kind, Args: o.Args, By: cut(o.By, maxField),
		Asked: time.Now().UTC().Truncate(time.Millisecond), State: OperationAsked,
	}
	put, err := c.putOperation(o)
	if err != nil {
		return Operation{}, nil, err
	}
	entry, err := c.told(AskedEntry, o.By, fmt.Sprintf("%s is asked for", o.Kind), o)
	if err != nil {
		return Operation{}, nil, err
	}
	ops := []clientv3.Op{put, entry}
	for _, old := range ended[:min(max(0, len(ended)-KeptOperations), maxTrim)] {
		key, err := c.keys.operation(old.ID)
		if err != nil {
			return Operation{}, nil, err
		}
		ops = append(ops, clientv3.OpDelete(key))
	}
	return o, ops, nil
}

func (c *Client) putOperation(o Operation) (clientv3.Op, error) {
	key, err := c.keys.operation(o.ID)
	if err != nil {
		return clientv3.Op{}, err
	}
	value, err := json.Marshal(o)
	if err != nil {
		return clientv3.Op{}, fmt.Errorf("operation %s: %w", o.ID, err)
	}
	return clientv3.OpPut(key, string(value)), nil
}

// Operations lists those that have not ended and the last ones that have, oldest
// first.
func (c *Client) Operations(ctx context.Context) ([]Operation, error) {
	all, _, err := c.readOperations(ctx)
	return all, err
}

func (c *Client) readOperations(ctx context.Context) (all []Operation, revision int64, err error) {
	r, err := c.tree(c.keys.operations())(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, kv := range r.Kvs {
		all = append(all, c.readOperation(kv.Key, kv.Value))
	}
	return all, r.Header.Revision, nil
}

// readOperation decodes an operation. One that cannot be read is there all the
// same, for its number is taken; it counts as failed.
func (c *Client) readOperation(key, value []byte) Operation {
	var o Operation
	if err := json.Unmarshal(value, &o); err != nil {
		c.log.Warn("unreadable operation", zap.ByteString("key", key), zap.Error(err))
		o = Operation{Kind: "unreadable", State: OperationFailed, Error: err.Error()}
	}
	o.ID = strings.TrimLeft(strings.TrimPrefix(string(key), c.keys.operations()), "0")
	return o
}

// Operation returns one; [ErrUnknownOperation] if there is none, or none any more.
func (c *Client) Operation(ctx context.Context, id string) (Operation, error) {
	o, _, err := c.operation(ctx, id)
	return o, err
}

func (c *Client) operation(ctx context.Context, id string) (Operation, int64, error) {
	key, err := c.keys.operation(id)
	if err != nil {
		return Operation{}, 0, err
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.Get(ctx, key)
	if err != nil {
		return Operation{}, 0, c.failed(err, "read operation %s", id)
	}
	if len(r.Kvs) == 0 {
		return Operation{}, 0, fmt.Errorf("operation %s: %w", id, ErrUnknownOperation)
	}
	return c.readOperation(r.Kvs[0].Key, r.Kvs[0].Value), r.Kvs[0].ModRevision, nil
}

// UpdateOperation writes how far an operation is, if the term lasts and the
// operation has not ended: otherwise it returns [ErrDeposed] or
// [ErrOperationEnded]. What was asked stays as it was; texts that are too long are
// cut, and the first steps of too many forgotten.
func (c *Client) UpdateOperation(ctx context.Context, term Term, o Operation) error {
	if err := term.check(); err != nil {
		return fmt.Errorf("update operation %s: %w", o.ID, err)
	}
	if o.State == OperationAsked || o.State == OperationCancelled || !o.HasEnded() && o.State != OperationRunning {
		return fmt.Errorf("update operation %s: the leader makes none %q", o.ID, o.State)
	}
	return c.change(ctx, o.ID, &term, func(was Operation) (Operation, error) {
		was.State, was.Result, was.Error, was.Ended = o.State, cut(o.Result, maxText), cut(o.Error, maxText), time.Time{}
		was.Steps = slices.Clone(o.Steps[max(0, len(o.Steps)-maxSteps):])
		for i := range was.Steps {
			was.Steps[i].Text = cut(was.Steps[i].Text, maxField)
		}
		if was.HasEnded() {
			was.Ended = time.Now().UTC().Truncate(time.Millisecond)
		}
		return was, nil
	})
}

// CancelOperation ends an operation that was not begun, and has the journal say that by
// did; otherwise it returns [ErrOperationBegun] or [ErrOperationEnded].
func (c *Client) CancelOperation(ctx context.Context, id, by string) error {
	return c.changeWith(ctx, id, nil, func(was Operation) (Operation, []clientv3.Op, error) {
		if was.State != OperationAsked {
			return was, nil, fmt.Errorf("cancel operation %s: %w", id, ErrOperationBegun)
		}
		was.State, was.Ended = OperationCancelled, time.Now().UTC().Truncate(time.Millisecond)
		entry, err := c.told(CancelledEntry, by, fmt.Sprintf("%s, asked for by %s, is taken back", was.Kind, was.By), was)
		return was, []clientv3.Op{entry}, err
	})
}

// change is changeWith for what has nothing beside it.
func (c *Client) change(ctx context.Context, id string, term *Term, f func(Operation) (Operation, error)) error {
	return c.changeWith(ctx, id, term, func(was Operation) (Operation, []clientv3.Op, error) {
		now, err := f(was)
		return now, nil, err
	})
}

// changeWith makes of an operation that has not ended what f makes of it, and writes
// what else f returns with it; again if somebody changes it at the same time.
func (c *Client) changeWith(ctx context.Context, id string, term *Term, f func(Operation) (Operation, []clientv3.Op, error)) error {
	for {
		was, revision, err := c.operation(ctx, id)
		if err != nil {
			return err
		}
		if was.HasEnded() {
			return fmt.Errorf("operation %s is %s: %w", id, was.State, ErrOperationEnded)
		}
		now, beside, err := f(was)
		if err != nil {
			return err
		}
		put, err := c.putOperation(now)
		if err != nil {
			return err
		}
		conditions := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(string(put.KeyBytes())), "=", revision)}
		var look []clientv3.Op
		if term != nil {
			conditions, look = append(conditions, term.guard()), append(look, clientv3.OpGet(term.key))
		}
		call, cancel := limited(ctx)
		r, err := c.etcd.Txn(call).If(conditions...).Then(append(beside, put)...).Else(look...).Commit()
		cancel()
		switch {
		case err != nil:
			return c.failed(err, "change operation %s", id)
		case r.Succeeded:
			return nil
		case term != nil && !term.stands(r.Responses[0].GetResponseRange().Kvs):
			return fmt.Errorf("change operation %s: %w", id, ErrDeposed)
		}
	}
}
