package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/farm"
)

var (
	// ErrTokenRefused: there is no such token; it was used, has lapsed, or was made
	// up.
	ErrTokenRefused = errors.New("the token is not valid")
	// ErrTokenUnfit: it is the true token, but not for that name or not for now.
	ErrTokenUnfit = errors.New("the token does not fit")
)

// Admission is what a token allows: one node, once.
type Admission struct {
	Role    string    `json:"role"`
	Names   string    `json:"names"` // the name, or a pattern as of path.Match
	Expires time.Time `json:"expires"`
}

// storedToken is what the registry knows of a token. The secret has 256 random
// bits, so a plain hash of it cannot be turned round.
type storedToken struct {
	Admission
	Hash string `json:"hash"` // SHA-256 of the secret, hexadecimal
}

// Bounds of a token's life.
const (
	MinToken = 10 * time.Second
	MaxToken = 7 * 24 * time.Hour
)

func (a Admission) check(life time.Duration) error {
	if err := farm.CheckName(a.Role); err != nil {
		return fmt.Errorf("role: %w", err)
	}
	if _, err := path.Match(a.Names, ""); err != nil || a.Names == "" || len(a.Names) > 64 {
		return fmt.Errorf("%q is not a name or a pattern of names such as web-*", a.Names)
	}
	if life < MinToken || life > MaxToken {
		return fmt.Errorf("a token for %v is not possible; expected %v to %v", life, MinToken, MaxToken)
	}
	return nil
}

// AddToken makes a token that admits one node with that role and a name that
// fits names, for life from now. The secret is not kept.
func (c *Client) AddToken(ctx context.Context, role, names string, life time.Duration) (id, secret string, a Admission, err error) {
	a = Admission{Role: role, Names: names, Expires: time.Now().Add(life).UTC().Truncate(time.Second)}
	if err := a.check(life); err != nil {
		return "", "", Admission{}, fmt.Errorf("make a token: %w", err)
	}
	var raw [8 + 32]byte
	_, _ = rand.Read(raw[:]) // never fails, see its documentation
	id, secret = hex.EncodeToString(raw[:8]), hex.EncodeToString(raw[8:])
	value, err := json.Marshal(storedToken{Admission: a, Hash: hash(secret)})
	if err != nil {
		return "", "", Admission{}, fmt.Errorf("make a token: %w", err)
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	// The lease tidies up; whether a token has expired, its own time says.
	lease, err := c.etcd.Grant(ctx, int64(life/time.Second)+1)
	if err == nil {
		_, err = c.etcd.Put(ctx, c.keys.token(id), string(value), clientv3.WithLease(lease.ID))
	}
	if err != nil {
		return "", "", Admission{}, c.failed(err, "store a token")
	}
	return id, secret, a, nil
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// SpendToken admits the node called name by a token, at the time now: the token
// is gone, the node is on record and has its rights. The error wraps
// ErrTokenRefused or ErrTokenUnfit if the token is to blame, and ErrNameTaken if the farm has, or
// had until lately, a node of that name: that one's certificate must not become
// good for another's keys.
func (c *Client) SpendToken(ctx context.Context, id, secret, name string, now time.Time) (Node, error) {
	if err := CheckNodeName(name); err != nil {
		return Node{}, fmt.Errorf("admit a node: %w", err)
	}
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 8 {
		return Node{}, fmt.Errorf("admit node %s: %w: its id is none", name, ErrTokenRefused)
	}
	token, revision, err := c.token(ctx, id)
	if err != nil {
		return Node{}, fmt.Errorf("admit node %s: %w", name, err)
	}
	fits, err := path.Match(token.Names, name)
	switch {
	case err != nil:
		return Node{}, fmt.Errorf("admit node %s: the token's pattern %q: %w", name, token.Names, err)
	case subtle.ConstantTimeCompare([]byte(token.Hash), []byte(hash(secret))) != 1:
		return Node{}, fmt.Errorf("admit node %s: %w: its secret is wrong", name, ErrTokenRefused)
	case !now.Before(token.Expires):
		return Node{}, fmt.Errorf("admit node %s: %w: it expired at %s", name, ErrTokenUnfit, token.Expires.Format(time.RFC3339))
	case !fits:
		return Node{}, fmt.Errorf("admit node %s: %w: it is for %s", name, ErrTokenUnfit, token.Names)
	}
	node := Node{Name: name, Role: token.Role, Admitted: now.UTC().Truncate(time.Second)}
	// The rights first: without a certificate nobody can use them, while a node on
	// record without rights would have to be cleared away. But not for a name that
	// is kept, whose certificate is still around.
	switch _, _, err := c.node(ctx, name); {
	case err == nil:
		return Node{}, taken(name)
	case !errors.Is(err, ErrUnknownNode):
		return Node{}, err
	}
	if err := c.allowNode(ctx, name); err != nil {
		return Node{}, err
	}
	return node, c.admit(ctx, id, revision, node)
}

func taken(name string) error {
	return fmt.Errorf("admit node %s: %w; expel that node first, or choose another name", name, ErrNameTaken)
}

func (c *Client) token(ctx context.Context, id string) (t storedToken, revision int64, err error) {
	revision, err = c.readToken(ctx, id, c.keys.token(id), &t)
	return t, revision, err
}

// readToken reads into t what is stored of the token with that id, of whichever kind,
// at key, and returns its revision.
func (c *Client) readToken(ctx context.Context, id, key string, t any) (revision int64, err error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.Get(ctx, key)
	if err != nil {
		return 0, c.failed(err, "read a token")
	}
	if len(r.Kvs) == 0 {
		return 0, fmt.Errorf("%w: it was used, has expired or never was", ErrTokenRefused)
	}
	if err := json.Unmarshal(r.Kvs[0].Value, t); err != nil {
		return 0, fmt.Errorf("registry: read token %s: %w", id, err)
	}
	return r.Kvs[0].ModRevision, nil
}

// admit takes the token away and puts the node on record, both or none.
func (c *Client) admit(ctx context.Context, id string, revision int64, node Node) error {
	record, err := json.Marshal(node)
	if err != nil {
		return fmt.Errorf("admit node %s: %w", node.Name, err)
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	token, key := c.keys.token(id), c.keys.node(node.Name)
	r, err := c.etcd.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(token), "=", revision), clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpDelete(token), clientv3.OpPut(key, string(record))).
		Else(clientv3.OpGet(key, clientv3.WithCountOnly())).
		Commit()
	switch {
	case err != nil:
		return c.failed(err, "admit node %s", node.Name)
	case r.Succeeded:
		return nil
	case r.Responses[0].GetResponseRange().Count > 0:
		return taken(node.Name)
	}
	return fmt.Errorf("admit node %s: %w: it was used just now", node.Name, ErrTokenRefused)
}
