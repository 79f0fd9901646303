package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"farmhand/internal/objects"
)

// Entry is a backup as the store lists it.
type Entry struct {
	ID string
	// Manifest is nil for what does not count: it was never whole, or is being written
	// or removed.
	Manifest *Manifest
	// Fault is what is wrong with it at first sight: its manifest cannot be used, parts
	// are missing or of another size, or it has what was given up (Cut). Verify looks
	// closer.
	Fault  error
	Pin    *Pin // nil: it is not pinned
	Stored int64
	// Changed is when the newest of its objects was written.
	Changed time.Time
}

// Good: the backup counts, and nothing is seen to be wrong with it.
func (e *Entry) Good() bool { return e.Manifest != nil && e.Fault == nil }

// Pin says that a backup is to be kept, and why.
type Pin struct {
	By  string    `json:"by"`
	Why string    `json:"why"`
	At  time.Time `json:"at"`
}

const maxPin = 64 << 10

// List returns everything that there is of full backups of a cluster, the oldest
// first.
func List(ctx context.Context, store objects.Store, cluster string) ([]Entry, error) {
	var entries []Entry
	var sizes []map[string]int64 // of each entry's objects
	prefix := fullPrefix(cluster)
	err := store.List(ctx, prefix, func(o objects.Object) error {
		id, _, inside := strings.Cut(strings.TrimPrefix(o.Key, prefix), "/")
		if !inside {
			return nil // of somebody else
		}
		if n := len(entries); n == 0 || entries[n-1].ID != id {
			entries = append(entries, Entry{ID: id})
			sizes = append(sizes, map[string]int64{})
		}
		e := &entries[len(entries)-1]
		sizes[len(sizes)-1][o.Key] = o.Size
		e.Stored += o.Size
		if o.Modified.After(e.Changed) {
			e.Changed = o.Modified
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the backups of %s: %w", cluster, err)
	}
	cuts, err := Cuts(ctx, store, cluster)
	if err != nil {
		return nil, err
	}
	for i := range entries {
		e := &entries[i]
		if err := e.look(ctx, store, cluster, sizes[i]); err != nil {
			return nil, fmt.Errorf("list the backups of %s: %w", cluster, err)
		}
		if !e.Good() {
			continue
		}
		cut, err := givenUp(cuts, e.Manifest.Epoch, e.Manifest.Position)
		if err != nil {
			e.Fault = &FaultError{Key: manifestKey(cluster, e.ID), Reason: "has a position that cannot be read: " + err.Error()}
		} else if cut != nil {
			e.Fault = &FaultError{Key: manifestKey(cluster, e.ID), Reason: "is of a history that was given up: " + cut.String()}
		}
	}
	return entries, nil
}

// look reads what the store has of an entry beside its parts.
func (e *Entry) look(ctx context.Context, store objects.Store, cluster string, sizes map[string]int64) error {
	if key := home(cluster, e.ID) + pinName; sizes[key] > 0 {
		e.Pin = &Pin{Why: "its pin cannot be read"}
		data, err := readAll(ctx, store, key, maxPin)
		switch {
		case errors.Is(err, objects.ErrNotFound):
			e.Pin = nil // it was removed meanwhile
		case err != nil && !isFault(err):
			return err
		case err == nil:
			pin := new(Pin)
			if json.Unmarshal(data, pin) == nil {
				e.Pin = pin
			}
		}
	}
	if _, ok := sizes[manifestKey(cluster, e.ID)]; !ok {
		return nil
	}
	m, err := Load(ctx, store, cluster, e.ID)
	switch {
	case errors.Is(err, objects.ErrNotFound):
		return nil
	case isFault(err):
		e.Fault = err
		return nil
	case err != nil:
		return err
	}
	e.Manifest = m
	var faults FaultsError
	for _, part := range m.Parts {
		switch size, ok := sizes[part.Key]; {
		case !ok:
			faults = append(faults, &FaultError{Key: part.Key, Reason: "is missing", Missing: true})
		case size != part.Size:
			faults = append(faults, &FaultError{Key: part.Key, Reason: fmt.Sprintf("has %d bytes, not %d", size, part.Size)})
		}
	}
	if len(faults) > 0 {
		e.Fault = faults
	}
	return nil
}

func isFault(err error) bool {
	var fault *FaultError
	return errors.As(err, &fault)
}

// Newest returns the newest good one of entries that ended at or before a time; nil
// if there is none.
func Newest(entries []Entry, at time.Time) *Entry {
	for i := range slices.Backward(entries) {
		if e := &entries[i]; e.Good() && !e.Manifest.Ended.After(at) {
			return e
		}
	}
	return nil
}

// SetPin pins a backup, or with nil lets it go.
func SetPin(ctx context.Context, store objects.Store, cluster, id string, pin *Pin) error {
	if _, err := Load(ctx, store, cluster, id); err != nil {
		return fmt.Errorf("pin backup %s: %w", id, err)
	}
	key := home(cluster, id) + pinName
	if pin == nil {
		return store.Delete(ctx, key, "")
	}
	data, err := json.Marshal(pin)
	if err != nil {
		return fmt.Errorf("pin backup %s: %w", id, err)
	}
	_, err = store.Put(ctx, key, bytes.NewReader(data), objects.PutOptions{})
	return err
}

// Begun reports what there is of a backup: whether it counts, and whether anything of
// it is in the store.
func Begun(ctx context.Context, store objects.Store, cluster, id string) (m *Manifest, any bool, err error) {
	m, err = Load(ctx, store, cluster, id)
	switch {
	case err == nil:
		return m, true, nil
	case !errors.Is(err, objects.ErrNotFound):
		return nil, true, err
	}
	found := errors.New("there is something")
	err = store.List(ctx, home(cluster, id), func(objects.Object) error { return found })
	if errors.Is(err, found) {
		return nil, true, nil
	}
	return nil, false, err
}

// Remove removes a backup, or what there is of one that is not whole. It does not ask
// whether it should be kept.
func Remove(ctx context.Context, store objects.Store, cluster, id string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	return remove(ctx, store, cluster, id)
}
