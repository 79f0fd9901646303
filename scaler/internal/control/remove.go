package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"farmhand/internal/registry"
)

// settling is longer than etcd wants a member to have been there before it changes
// them.
const settling = 8 * time.Second

// removeSeat is patient with members that have only just come.
func removeSeat(ctx context.Context, client *registry.Client, id uint64) error {
	for end := time.Now().Add(settling); ; {
		err := client.RemoveSeat(ctx, id)
		if !errors.Is(err, registry.ErrUnsettled) || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(seatRetry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Remove takes a control node's seat and its record, whether it runs or not; if it
// runs, it ends. It can be repeated. etcd refuses what would leave the others
// without a majority that is there.
//
// The keys that the node has are not taken: the authority's is one of them.
func Remove(ctx context.Context, client *registry.Client, name string) error {
	s, err := client.Scaler(ctx, name)
	if err != nil {
		return fmt.Errorf("remove control node: %w", err)
	}
	all, err := client.Scalers(ctx)
	if err != nil {
		return err
	}
	seats, err := client.Seats(ctx)
	if err != nil {
		return err
	}
	others, _ := registry.Places(slices.DeleteFunc(all, func(other registry.Scaler) bool { return other.Name == name }))
	if len(others) == 0 {
		return errors.New("remove control node: it is the only one with a vote; the farm would have no registry")
	}
	client.SetEndpoints(others) // the one that goes is not to be asked to see to it
	for _, seat := range seats {
		if seat.Peer == s.Peer {
			if err := removeSeat(ctx, client, seat.ID); err != nil {
				return err
			}
		}
	}
	return client.ForgetScaler(ctx, name)
}
