package member

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/registry"
)

// maxNotes bounds the events that wait for the registry.
const maxNotes = 256

// Waits before an event is sent again.
const (
	noteFirst = time.Second
	noteMost  = 30 * time.Second
)

// Note has an event written into the farm's journal, if it is about this node:
// what it sees of others, they and the scaler tell themselves. It does not wait.
// While the registry is away, events wait for it; beyond maxNotes, and when the
// sidecar ends, they are only in the node's own journal.
func (m *Member) Note(e farm.Event) {
	if e.Host.Name != m.Node.Name {
		return
	}
	select {
	case m.notes <- entryOf(e):
	default:
		m.o.Log.Warn("an event is not in the farm's journal: too many wait for the registry", zap.String("event", e.ID), zap.String("kind", string(e.Kind)))
	}
}

// Bounds of an entry's fields that are smaller than those of an event's.
const (
	maxFields = 24
	maxField  = 1000
)

func entryOf(e farm.Event) registry.Entry {
	entry := registry.Entry{
		Time: e.Time, Kind: string(e.Kind),
		Text:   e.Sentence(),
		Fields: map[string]string{"id": e.ID, "host": e.Host.Name, "role": e.Host.Role, "address": e.Host.Address},
	}
	for _, key := range slices.Sorted(maps.Keys(e.Fields)) {
		if _, taken := entry.Fields[key]; !taken && len(entry.Fields) < maxFields {
			value := e.Fields[key]
			entry.Fields[key] = strings.ToValidUTF8(value[:min(len(value), maxField)], "") // a character may be cut
		}
	}
	return entry
}

// journal writes what is noted, each at least once: an answer that was lost is
// asked for again.
func (m *Member) journal(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-m.notes:
			m.write(ctx, e)
		}
	}
}

// write tries until it succeeds, ctx ends or trying again is of no use.
func (m *Member) write(ctx context.Context, e registry.Entry) {
	for wait := noteFirst; ; wait = min(2*wait, noteMost) {
		_, err := m.Append(ctx, e)
		switch {
		case err == nil, ctx.Err() != nil:
			return
		case !errors.Is(err, registry.ErrUnavailable) && !errors.Is(err, registry.ErrFull) && !errors.Is(err, registry.ErrDenied):
			m.o.Log.Warn("an event is not in the farm's journal", zap.String("event", e.Fields["id"]), zap.Error(err))
			return
		}
		m.o.Log.Debug("an event is not in the farm's journal yet", zap.Error(err), zap.Duration("after", wait))
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
