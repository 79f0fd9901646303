package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/objects"
)

// Cut says that a cluster was taken back to an earlier moment: what epochs before
// Epoch have after Position is not its history any more, though the numbers of its
// transactions are written again.
type Cut struct {
	Epoch    farm.Epoch `json:"epoch"` // the first one after it
	Position string     `json:"position"`
	At       time.Time  `json:"at"`
	Why      string     `json:"why"`

	position gtid.Position
}

const maxCut = 64 << 10

func cutPrefix(cluster string) string { return cluster + "/history/" }

func cutKey(cluster string, epoch farm.Epoch) string {
	return fmt.Sprintf("%s%020d", cutPrefix(cluster), epoch)
}

// PutCut notes a cut, which counts from then on. One of the same epoch is replaced.
func PutCut(ctx context.Context, store objects.Store, cluster string, c Cut) error {
	data, err := json.Marshal(c)
	if err == nil {
		_, err = store.Put(ctx, cutKey(cluster, c.Epoch), bytes.NewReader(data), objects.PutOptions{})
	}
	if err != nil {
		return fmt.Errorf("note where the history of %s is cut: %w", cluster, err)
	}
	return nil
}

// DropCut takes back a cut: the cluster goes on with the history that it had.
func DropCut(ctx context.Context, store objects.Store, cluster string, epoch farm.Epoch) error {
	if err := store.Delete(ctx, cutKey(cluster, epoch), ""); err != nil {
		return fmt.Errorf("take back where the history of %s was cut: %w", cluster, err)
	}
	return nil
}

// Cuts returns a cluster's, the oldest first. One that cannot be read is an error:
// without it a restore could mix two histories.
func Cuts(ctx context.Context, store objects.Store, cluster string) (cuts []Cut, err error) {
	var keys []string
	err = store.List(ctx, cutPrefix(cluster), func(o objects.Object) error {
		keys = append(keys, o.Key)
		return nil
	})
	for _, key := range keys {
		if err != nil {
			break
		}
		var data []byte
		if data, err = readAll(ctx, store, key, maxCut); errors.Is(err, objects.ErrNotFound) {
			err = nil // it was removed meanwhile
			continue
		}
		var c Cut
		if err == nil {
			err = json.Unmarshal(data, &c)
		}
		if err == nil {
			c.position, err = gtid.Read(c.Position)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", key, err)
		}
		cuts = append(cuts, c)
	}
	if err != nil {
		return nil, fmt.Errorf("where the history of %s was cut: %w", cluster, err)
	}
	return cuts, nil
}

// givenUp returns the cut by which something of an epoch that goes up to a position is
// not the cluster's history; nil if it is.
func givenUp(cuts []Cut, epoch farm.Epoch, position string) (*Cut, error) {
	for i := range cuts {
		c := &cuts[i]
		if epoch >= c.Epoch {
			continue
		}
		p, err := gtid.Read(position)
		if err != nil {
			return nil, err
		}
		if !c.position.Contains(p) {
			return c, nil
		}
	}
	return nil, nil
}

func (c *Cut) String() string {
	return fmt.Sprintf("the cluster was taken back to %s at %s (%s)", c.Position, c.At.UTC().Format(time.RFC3339), c.Why)
}

// historyOnly leaves out segments that have something that was given up, as a whole.
func historyOnly(segments []Segment, cuts []Cut) (left []Segment, err error) {
	left = slices.DeleteFunc(segments, func(s Segment) bool {
		c, wrong := givenUp(cuts, s.Epoch, s.Position)
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("segment %s: %w", s.Key, wrong))
		}
		return c != nil
	})
	return left, err
}
