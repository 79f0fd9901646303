package registry

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// storedScalerToken is what the registry knows of a token for a control node. It
// stands apart from the tokens for nodes, so that none can pass for the other.
type storedScalerToken struct {
	Scaler  Scaler    `json:"scaler"`
	Expires time.Time `json:"expires"`
	Hash    string    `json:"hash"` // SHA-256 of the secret, hexadecimal
}

// AddScalerToken makes a token that admits one control node, by that name and at
// those places, for life from now. The secret is not kept.
func (c *Client) AddScalerToken(ctx context.Context, s Scaler, life time.Duration) (id, secret string, expires time.Time, err error) {
	fail := func(err error) (string, string, time.Time, error) {
		return "", "", time.Time{}, fmt.Errorf("make a token for control node %s: %w", s.Name, err)
	}
	if err := s.check(); err != nil {
		return fail(err)
	}
	if life < MinToken || life > MaxToken {
		return fail(fmt.Errorf("for %v is not possible; expected %v to %v", life, MinToken, MaxToken))
	}
	all, err := c.Scalers(ctx)
	if err != nil {
		return fail(err)
	}
	if err := s.clash(all); err != nil {
		return fail(err)
	}
	var raw [8 + 32]byte
	_, _ = rand.Read(raw[:]) // never fails, see its documentation
	id, secret = hex.EncodeToString(raw[:8]), hex.EncodeToString(raw[8:])
	expires = time.Now().Add(life).UTC().Truncate(time.Second)
	value, err := json.Marshal(storedScalerToken{Scaler: s, Expires: expires, Hash: hash(secret)})
	if err != nil {
		return fail(err)
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	lease, err := c.etcd.Grant(ctx, int64(life/time.Second)+1)
	if err == nil {
		_, err = c.etcd.Put(ctx, c.keys.controlToken(id), string(value), clientv3.WithLease(lease.ID))
	}
	if err != nil {
		return fail(c.failed(err, "store a token"))
	}
	return id, secret, expires, nil
}

// clash says which control node has the name or one of the places already.
func (s Scaler) clash(all []Scaler) error {
	for _, other := range all {
		if other.Name == s.Name {
			return fmt.Errorf("%w: control node %s is at %s", ErrNameTaken, other.Name, other.Peer)
		}
		for _, place := range []string{other.Client, other.Peer, other.Join} {
			if place == s.Client || place == s.Peer || place == s.Join {
				return fmt.Errorf("%w: control node %s is at %s", ErrNameTaken, other.Name, place)
			}
		}
	}
	return nil
}

// SpendScalerToken puts a control node on record by a token, at the time now: the
// token is gone, and the control node on its way in. The error wraps
// ErrTokenRefused or ErrTokenUnfit if the token is to blame, and ErrNameTaken if
// there is a control node of that name or at one of its places.
func (c *Client) SpendScalerToken(ctx context.Context, id, secret string, s Scaler, now time.Time) error {
	fail := func(err error) error { return fmt.Errorf("admit control node %s: %w", s.Name, err) }
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 8 {
		return fail(fmt.Errorf("%w: its id is none", ErrTokenRefused))
	}
	if err := s.check(); err != nil {
		return fail(err)
	}
	token, revision, err := c.scalerToken(ctx, id)
	if err != nil {
		return fail(err)
	}
	asked := s
	asked.Key, asked.Joined = "", time.Time{}
	switch {
	case subtle.ConstantTimeCompare([]byte(token.Hash), []byte(hash(secret))) != 1:
		return fail(fmt.Errorf("%w: its secret is wrong", ErrTokenRefused))
	case !now.Before(token.Expires):
		return fail(fmt.Errorf("%w: it expired at %s", ErrTokenUnfit, token.Expires.Format(time.RFC3339)))
	case asked != token.Scaler:
		return fail(fmt.Errorf("%w: it is for %s at %s, %s and %s", ErrTokenUnfit, token.Scaler.Name, token.Scaler.Client, token.Scaler.Peer, token.Scaler.Join))
	}
	all, err := c.Scalers(ctx)
	if err != nil {
		return fail(err)
	}
	if err := s.clash(all); err != nil {
		return fail(err)
	}
	s.Joined = time.Time{}
	value, err := json.Marshal(s)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(c.keys.controlToken(id)), "=", revision), clientv3.Compare(clientv3.CreateRevision(c.keys.scaler(s.Name)), "=", 0)).
		Then(clientv3.OpDelete(c.keys.controlToken(id)), clientv3.OpPut(c.keys.scaler(s.Name), string(value))).
		Commit()
	if err != nil {
		return fail(c.failed(err, "put it on record"))
	}
	if !r.Succeeded {
		return fail(fmt.Errorf("%w: it was used just now", ErrTokenRefused))
	}
	return nil
}

func (c *Client) scalerToken(ctx context.Context, id string) (t storedScalerToken, revision int64, err error) {
	revision, err = c.readToken(ctx, id, c.keys.controlToken(id), &t)
	return t, revision, err
}
