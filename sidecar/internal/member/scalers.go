package member

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"farmhand/internal/enrol"
	"farmhand/internal/registry"
)

// followScalers keeps where the registry and the scalers are, also over a restart:
// those that the node joined by may be gone for good one day.
func (m *Member) followScalers(ctx context.Context) error {
	err := m.WatchScalers(ctx, func(all []registry.Scaler) error {
		endpoints, joins := registry.Places(all)
		m.SetEndpoints(endpoints)
		changed, err := enrol.Follow(m.o.Dir, endpoints, joins)
		switch {
		case err != nil:
			m.o.Log.Warn("the control nodes cannot be kept for the next start", zap.Error(err))
		case changed:
			m.o.Log.Info("control nodes changed", zap.Strings("endpoints", endpoints))
		}
		return nil
	})
	if ctx.Err() == nil && errors.Is(err, registry.ErrDenied) {
		// An expelled node; the membership tells what follows from that.
		m.o.Log.Warn("control nodes not known any more", zap.Error(err))
		return nil
	}
	return err
}
