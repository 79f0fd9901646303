package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"farmhand/internal/objects"
)

// A bundle is one object in place of many small segments: what they are, one after the
// other as they were, then their descriptions as a list in JSON, its length and this.
// Nothing is unpacked for it, and no key is needed. While there is a segment both by
// itself and in a bundle, it is there twice, which does no harm.
const bundleMagic = "FHBUND01"

// Bounds of bundles.
const (
	bundleSmall = 1 << 20  // a segment that is as large stays by itself
	bundleSize  = 16 << 20 // of one bundle, in memory while it is made
	bundleMost  = 1000     // segments in it: their descriptions are one of maxDescription
	bundleLeast = 64       // for fewer none is made
)

// inBundle is a segment as a bundle describes it.
type inBundle struct {
	Offset int64 `json:"offset"`
	Segment
}

func isBundle(tail []byte) bool { return bytes.HasSuffix(tail, []byte(bundleMagic)) }

// Object is the key of the object that holds the segment.
func (s *Segment) Object() string { return objectOf(s.Key) }

// objectOf is the object of a segment's key. No object's own key has that letter.
func objectOf(key string) string {
	object, _, _ := strings.Cut(key, "@")
	return object
}

// bundled reads the descriptions of a bundle whose segments have so many bytes.
func bundled(o objects.Object, text []byte, size int64) ([]Segment, error) {
	var all []inBundle
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("has descriptions that cannot be read: %w", err)
	}
	var list []Segment
	at := int64(0)
	for _, one := range all {
		s := one.Segment
		if s.Format != format || one.Offset != at || s.Size <= 0 {
			return nil, fmt.Errorf("describes a segment of format %d and %d bytes at %d, and the one before ends at %d", s.Format, s.Size, one.Offset, at)
		}
		s.Key, s.offset = o.Key+"@"+strconv.FormatInt(one.Offset, 10), one.Offset
		at += s.Size
		list = append(list, s)
	}
	if at != size || len(list) == 0 {
		return nil, fmt.Errorf("has %d bytes of segments, and describes %d", size, at)
	}
	return list, nil
}

// Bundle makes bundles of a cluster's small segments that were begun before a time, and
// removes those once a bundle has been read back. It goes on where it was stopped. It
// returns how many objects are fewer.
func Bundle(ctx context.Context, store objects.Store, cluster string, before time.Time) (fewer int, err error) {
	all, err := segmentObjects(ctx, store, segmentPrefix(cluster))
	if err != nil {
		return 0, fmt.Errorf("bundle the archive of %s: %w", cluster, err)
	}
	until := segmentPrefix(cluster) + before.UTC().Format("20060102T150405")
	var run []objects.Object
	size := int64(0)
	flush := func() error {
		defer func() { run, size = nil, 0 }()
		if len(run) < bundleLeast {
			return nil
		}
		n, err := bundle(ctx, store, run)
		fewer += n
		return err
	}
	for _, o := range all {
		if o.Key >= until {
			break
		}
		if o.Size >= bundleSmall || strings.HasSuffix(o.Key, bundleSuffix) {
			continue
		}
		if len(run) == bundleMost || size+o.Size > bundleSize {
			if err := flush(); err != nil {
				return fewer, fmt.Errorf("bundle the archive of %s: %w", cluster, err)
			}
		}
		run, size = append(run, o), size+o.Size
	}
	if err := flush(); err != nil {
		return fewer, fmt.Errorf("bundle the archive of %s: %w", cluster, err)
	}
	return fewer, nil
}

// bundleSuffix ends the key of a bundle, which begins with that of its first segment: so
// they are listed where that was.
const bundleSuffix = "-bundle"

// bundle makes one of some segments. Those that are damaged are left as they are.
func bundle(ctx context.Context, store objects.Store, run []objects.Object) (fewer int, err error) {
	var body bytes.Buffer
	var list []inBundle
	var gone []string
	described := 0
	for _, o := range run {
		s, content, err := whole(ctx, store, o)
		var fault *FaultError
		if errors.As(err, &fault) || err == nil && s == nil {
			continue
		}
		if err != nil {
			return 0, err
		}
		one := inBundle{int64(body.Len()), *s}
		text, err := json.Marshal(one)
		if err != nil {
			return 0, err
		}
		if described += len(text) + 1; described > maxDescription-2 {
			break // the rest comes next time
		}
		list, gone = append(list, one), append(gone, o.Key)
		body.Write(content) // never fails
	}
	if len(list) < bundleLeast {
		return 0, nil
	}
	text, err := json.Marshal(list)
	if err != nil {
		return 0, err
	}
	body.Write(text)
	body.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(text))))
	body.WriteString(bundleMagic)
	hash := sha256.Sum256(body.Bytes())
	key := gone[0] + bundleSuffix
	_, err = store.Put(ctx, key, bytes.NewReader(body.Bytes()), objects.PutOptions{IfAbsent: true, SHA256: hex.EncodeToString(hash[:])})
	if err != nil && !errors.Is(err, objects.ErrExists) { // of an attempt that was stopped, or of another scaler
		return 0, err
	}
	gone, err = inThere(ctx, store, key, list, gone)
	if err != nil {
		return 0, err
	}
	return len(gone) - 1, RemoveSegments(ctx, store, gone)
}

// inThere reads a bundle back. It returns the keys of those segments that are in it.
func inThere(ctx context.Context, store objects.Store, key string, list []inBundle, keys []string) (there []string, err error) {
	o, err := store.Head(ctx, key)
	if err != nil {
		return nil, err
	}
	o.Key = key
	all, err := describe(ctx, store, o)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if err := all[i].Verify(ctx, store); err != nil {
			return nil, err
		}
	}
	for i, one := range list {
		if slices.ContainsFunc(all, func(s Segment) bool { return s.same(&one.Segment) }) {
			there = append(there, keys[i])
		}
	}
	return there, nil
}

// same: both are of the same content.
func (s *Segment) same(other *Segment) bool {
	return s.SHA256 == other.SHA256 && s.Size == other.Size && s.After == other.After && s.Position == other.Position && s.Epoch == other.Epoch
}

// whole reads a segment's object: its description, and its content, which is compared
// with that. Nil for one that is not there any more.
func whole(ctx context.Context, store objects.Store, o objects.Object) (*Segment, []byte, error) {
	r, _, err := store.Get(ctx, o.Key, objects.GetOptions{})
	if errors.Is(err, objects.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, bundleSmall))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, nil, err
	}
	fault := func(reason string) error { return &FaultError{Key: o.Key, Reason: reason} }
	text, length, err := description(data)
	if err != nil || text == nil || isBundle(data) {
		return nil, nil, fault("is no segment by itself")
	}
	s := &Segment{Key: o.Key}
	if err := json.Unmarshal(text, s); err != nil || s.Size+int64(length+4+len(segmentMagic)) != int64(len(data)) {
		return nil, nil, fault("has another size than its description says")
	}
	hash := sha256.New()
	hash.Write(data[:s.Size]) // never fails
	return s, data[:s.Size], s.compare(hash)
}

// moved finds the segment in a bundle; nil if it is in none.
func (s *Segment) moved(ctx context.Context, store objects.Store) (*Segment, error) {
	all, err := segmentObjects(ctx, store, segmentPrefix(s.Cluster))
	if err != nil {
		return nil, err
	}
	for _, o := range slices.Backward(all) {
		first, is := strings.CutSuffix(o.Key, bundleSuffix)
		if !is || first > s.Key {
			continue
		}
		list, err := describe(ctx, store, o)
		if err != nil && !isFault(err) {
			return nil, err
		}
		for i := range list {
			if list[i].Key != s.Key && list[i].same(s) {
				return &list[i], nil
			}
		}
	}
	return nil, nil
}
