package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"farmhand/internal/farm"
	"farmhand/internal/gtid"
	"farmhand/internal/objects"
)

// Segment is a piece of a cluster's binlog: a binlog file with some transactions,
// compressed and, if that is asked for, encrypted. It is one object, which ends
// with this description.
type Segment struct {
	// Key names it: its object or, if it is part of a bundle, that object and where in it.
	Key string `json:"-"`

	offset int64 // in its object

	Format  int        `json:"format"` // 1
	Cluster string     `json:"cluster"`
	Flavor  string     `json:"flavor"` // of the server, as farm.Flavor writes it
	Source  string     `json:"source"` // the node that gave it
	Epoch   farm.Epoch `json:"epoch"`

	// After is the GTID position before its first transaction, Position that of its
	// last: it holds everything between.
	After    string `json:"after"`
	Position string `json:"position"`
	// Lines are who wrote its transactions, of MariaDB: numbers alone do not tell.
	Lines []Line `json:"lines,omitempty"`
	// Writer is the UUID of the MySQL server that led, and Had what it had executed when
	// this was begun to be archived; see Overruled.
	Writer string `json:"writer,omitempty"`
	Had    string `json:"had,omitempty"`
	// First and Last are when the first and the last of its transactions were
	// committed, by the server's clock, in whole seconds.
	First        time.Time `json:"first"`
	Last         time.Time `json:"last"`
	Transactions int       `json:"transactions"`

	Encryption string   `json:"encryption,omitempty"`
	Recipients []string `json:"recipients,omitempty"`
	Bytes      int64    `json:"bytes"`  // of the binlog file
	Size       int64    `json:"size"`   // of what comes before the description
	SHA256     string   `json:"sha256"` // of that
}

// At is the positions before and after it.
func (s *Segment) At() (after, position gtid.Position, err error) {
	if after, err = gtid.Read(s.After); err == nil {
		position, err = gtid.Read(s.Position)
	}
	if err != nil {
		return after, position, fmt.Errorf("segment %s: %w", s.Key, err)
	}
	return after, position, nil
}

// Line is transactions in a row that one server wrote in one replication domain.
type Line struct {
	Domain uint32 `json:"domain"`
	Server uint32 `json:"server"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
}

// A segment's object ends with its description in JSON, the length of that in 4
// bytes, little-endian, and this.
const segmentMagic = "FHSEGM01"

// maxDescription bounds the description.
const maxDescription = 1 << 20

func segmentPrefix(cluster string) string { return cluster + "/binlog/" }

// SegmentWriter writes a segment.
type SegmentWriter struct {
	segment Segment
	zip     *zstd.Encoder
	secret  io.WriteCloser // nil: not encrypted
	body    *summed
	pipe    *io.PipeWriter
	done    chan struct{}
	err     error // of the put; set before done is closed
	abort   sync.Once
}

// CreateSegment begins a segment, of which s has what is known beforehand. It is
// sent while it is written. Commit or Abort must follow.
func CreateSegment(ctx context.Context, store objects.Store, s Segment, to []Recipient) (*SegmentWriter, error) {
	s.Format = format
	s.Key = segmentPrefix(s.Cluster) + time.Now().UTC().Format("20060102T150405.000000Z") + "-" + strings.ToLower(rand.Text()[:6])
	r, pipe := io.Pipe()
	w := &SegmentWriter{segment: s, pipe: pipe, body: &summed{to: pipe, sum: sha256.New()}, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		_, w.err = store.Put(ctx, s.Key, r, objects.PutOptions{IfAbsent: true})
		// Who still writes is told.
		_ = r.CloseWithError(errors.Join(errors.New("the segment was not stored"), w.err))
	}()
	var out io.Writer = w.body
	if len(to) > 0 {
		var err error
		if w.secret, w.segment.Recipients, err = encrypt(out, to); err != nil {
			w.Abort()
			return nil, fmt.Errorf("encrypt a segment: %w", err)
		}
		w.segment.Encryption = encryption
		out = w.secret
	}
	var err error
	if w.zip, err = zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20), zstd.WithEncoderConcurrency(1)); err != nil {
		w.Abort()
		return nil, fmt.Errorf("compress a segment: %w", err)
	}
	return w, nil
}

// Write adds to the binlog file.
func (w *SegmentWriter) Write(b []byte) (int, error) {
	n, err := w.zip.Write(b)
	w.segment.Bytes += int64(n)
	return n, err
}

// Commit ends the segment, as fill has completed its description. It returns when
// it is stored.
func (w *SegmentWriter) Commit(fill func(*Segment)) (*Segment, error) {
	err := end(w.zip, w.secret)
	s := w.segment
	if err == nil {
		s.Size, s.SHA256 = w.body.size, hex.EncodeToString(w.body.sum.Sum(nil))
		fill(&s)
		var tail []byte
		if tail, err = json.Marshal(s); err == nil {
			tail = binary.LittleEndian.AppendUint32(tail, uint32(len(tail)))
			_, err = w.pipe.Write(append(tail, segmentMagic...))
		}
	}
	if err != nil {
		w.Abort()
		return nil, fmt.Errorf("write segment %s: %w", s.Key, errors.Join(err, w.err))
	}
	_ = w.pipe.Close() // never fails
	<-w.done
	if w.err != nil {
		return nil, fmt.Errorf("write segment %s: %w", s.Key, w.err)
	}
	return &s, nil
}

var errAborted = errors.New("the segment was given up")

// Abort gives the segment up; nothing of it counts.
func (w *SegmentWriter) Abort() {
	w.abort.Do(func() {
		_ = w.pipe.CloseWithError(errAborted) // never fails
		<-w.done
		if w.zip != nil {
			_ = w.zip.Close() // ends its goroutines; what it writes is refused
		}
	})
}

// summed makes a checksum of what is written.
type summed struct {
	to   io.Writer
	sum  hash.Hash
	size int64
}

func (s *summed) Write(b []byte) (int, error) {
	n, err := s.to.Write(b)
	s.sum.Write(b[:n]) // never fails
	s.size += int64(n)
	return n, err
}

// ListSegments returns a cluster's segments in the order in which they were begun,
// and faults: those whose description cannot be read. What a Cut has given up is not
// among them.
func ListSegments(ctx context.Context, store objects.Store, cluster string) (segments []Segment, faults FaultsError, err error) {
	return RelistSegments(ctx, store, cluster, nil)
}

// RelistSegments is ListSegments for who has listed them before: known ones, by their
// objects (Segment.Object), are not read again. What a segment is does not change.
func RelistSegments(ctx context.Context, store objects.Store, cluster string, known map[string][]Segment) (segments []Segment, faults FaultsError, err error) {
	for range listTries {
		var gone bool
		if segments, faults, gone, err = relist(ctx, store, cluster, known); err != nil || !gone {
			break
		}
		// What has gone into a bundle since it was listed is in that.
		err = errMoved
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list the segments of %s: %w", cluster, err)
	}
	return segments, faults, nil
}

// listTries is how often a list is made of what changes meanwhile.
const listTries = 5

// errMoved: what was listed was gone when it was read, each time.
var errMoved = errors.New("it is changed all the time; try again")

// relist lists once. gone: something was listed, and was not there any more.
func relist(ctx context.Context, store objects.Store, cluster string, known map[string][]Segment) (segments []Segment, faults FaultsError, gone bool, err error) {
	all, err := segmentObjects(ctx, store, segmentPrefix(cluster))
	if err != nil {
		return nil, nil, false, err
	}
	// After the list: what a cut gives up can come while that is made.
	cuts, err := Cuts(ctx, store, cluster)
	if err != nil {
		return nil, nil, false, err
	}
	segments, faults, gone, err = describeAll(ctx, store, all, known)
	if err == nil {
		segments, err = historyOnly(segments, cuts)
	}
	return segments, faults, gone, err
}

func segmentObjects(ctx context.Context, store objects.Store, prefix string) (all []objects.Object, err error) {
	err = store.List(ctx, prefix, func(o objects.Object) error {
		all = append(all, o)
		return nil
	})
	return all, err
}

// newest is how many segments are read at a time.
const newest = 64

// NewestSegments calls each with a cluster's segments, the last begun first, until it
// returns false. It reads no more than it must.
func NewestSegments(ctx context.Context, store objects.Store, cluster string, now time.Time, each func([]Segment) bool) error {
	prefix := segmentPrefix(cluster)
	cuts, err := Cuts(ctx, store, cluster)
	if err != nil {
		return err
	}
	var all []objects.Object
	// Mostly there are some of this hour or the last. Clocks may differ.
	for hour := 1; hour >= -2; hour-- {
		some, err := segmentObjects(ctx, store, prefix+now.UTC().Add(time.Duration(hour)*time.Hour).Format("20060102T15"))
		if err != nil {
			return fmt.Errorf("list the newest segments of %s: %w", cluster, err)
		}
		all = append(some, all...)
	}
	for seen := 0; ; {
		for len(all) > seen {
			part := all[max(0, len(all)-seen-newest) : len(all)-seen]
			segments, _, gone, err := describeAll(ctx, store, part, nil)
			if gone {
				err = errors.Join(err, errMoved)
			}
			if err == nil {
				segments, err = historyOnly(segments, cuts)
			}
			if err != nil {
				return fmt.Errorf("read the newest segments of %s: %w", cluster, err)
			}
			if !each(segments) {
				return nil
			}
			seen += len(part)
		}
		whole, err := segmentObjects(ctx, store, prefix)
		if err != nil {
			return fmt.Errorf("list the segments of %s: %w", cluster, err)
		}
		if len(whole) <= len(all) {
			return nil
		}
		all = whole
	}
}

// RemoveSegments removes segments by their keys, as far as the store lets it. A bundle
// goes as a whole: name all of it.
func RemoveSegments(ctx context.Context, store objects.Store, keys []string) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	removed := map[string]bool{}
	for _, key := range keys {
		object := objectOf(key)
		if removed[object] {
			continue
		}
		removed[object] = true
		group.Go(func() error { return store.Delete(gctx, object, "") })
	}
	return group.Wait()
}

// describeAll reads the descriptions of segments, but for those that are known. gone:
// an object was not there any more.
func describeAll(ctx context.Context, store objects.Store, all []objects.Object, known map[string][]Segment) (segments []Segment, faults FaultsError, gone bool, err error) {
	read := make([][]Segment, len(all))
	wrong := make([]*FaultError, len(all))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i, o := range all {
		if read[i] = known[o.Key]; read[i] != nil {
			continue
		}
		group.Go(func() (err error) {
			read[i], err = describe(gctx, store, o)
			if errors.As(err, &wrong[i]) {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, false, err
	}
	for i := range all {
		switch {
		case wrong[i] != nil:
			faults = append(faults, wrong[i])
		case read[i] == nil:
			gone = true
		}
		segments = append(segments, read[i]...)
	}
	return segments, faults, gone, nil
}

// describe reads the description at the end of a segment's object, or those of a
// bundle; none if the object is not there any more.
func describe(ctx context.Context, store objects.Store, o objects.Object) ([]Segment, error) {
	const suffix = 4 + len(segmentMagic)
	fault := func(reason string) error { return &FaultError{Key: o.Key, Reason: reason} }
	for most := min(o.Size, 4<<10); ; most = min(o.Size, maxDescription) {
		r, _, err := store.Get(ctx, o.Key, objects.GetOptions{Offset: o.Size - most})
		if errors.Is(err, objects.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		tail, err := io.ReadAll(io.LimitReader(r, most))
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, err
		}
		text, length, err := description(tail)
		switch {
		case err != nil:
			return nil, fault(err.Error())
		case text == nil && (most == o.Size || most == maxDescription):
			return nil, fault("has a description of " + fmt.Sprint(length) + " bytes")
		case text == nil:
			continue
		case isBundle(tail):
			all, err := bundled(o, text, o.Size-int64(length+suffix))
			if err != nil {
				return nil, fault(err.Error())
			}
			return all, nil
		}
		s := Segment{Key: o.Key}
		if err := json.Unmarshal(text, &s); err != nil {
			return nil, fault("has a description that cannot be read: " + err.Error())
		}
		if s.Format != format || s.Size+int64(length+suffix) != o.Size {
			return nil, fault(fmt.Sprintf("has %d bytes and the format %d, which does not fit its description", o.Size, s.Format))
		}
		return []Segment{s}, nil
	}
}

// description finds the text of a description in the end of an object: nil if that is
// longer.
func description(tail []byte) (text []byte, length int, err error) {
	const suffix = 4 + len(segmentMagic)
	if len(tail) < suffix || !isBundle(tail) && !bytes.HasSuffix(tail, []byte(segmentMagic)) {
		return nil, 0, errors.New("is no segment, or not all of one")
	}
	length = int(binary.LittleEndian.Uint32(tail[len(tail)-suffix:]))
	if length > len(tail)-suffix {
		return nil, length, nil
	}
	return tail[len(tail)-suffix-length : len(tail)-suffix], length, nil
}

// Save writes a segment's binlog file to w. Only if there is no error is what was
// written the segment: a FaultError names one that is missing or altered.
func (s *Segment) Save(ctx context.Context, store objects.Store, keys []Identity, w io.Writer) error {
	return s.read(ctx, store, func(body io.Reader) error { return s.unpack(body, keys, w) })
}

// Verify reads a segment and compares its checksum: a FaultError names one that is
// missing or altered. It needs no key.
func (s *Segment) Verify(ctx context.Context, store objects.Store) error {
	return s.read(ctx, store, func(io.Reader) error { return nil })
}

// read gives the content to use, which need not read all of it, and compares it. What
// is wrong with the content comes before what use says, but for a key that is lacking.
func (s *Segment) read(ctx context.Context, store objects.Store, use func(io.Reader) error) (err error) {
	r, _, err := store.Get(ctx, s.Object(), objects.GetOptions{Offset: s.offset, Length: s.Size})
	if errors.Is(err, objects.ErrNotFound) {
		// It may have gone into a bundle since it was listed.
		moved, err := s.moved(ctx, store)
		if err != nil {
			return err
		}
		if moved != nil {
			return moved.read(ctx, store, use)
		}
		return &FaultError{Key: s.Key, Reason: "is missing", Missing: true}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	hash := sha256.New()
	body := io.TeeReader(r, hash)
	used := use(body)
	if errors.Is(used, ErrNoKey) {
		return used
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	if err := s.compare(hash); err != nil {
		return err
	}
	return used
}

// compare says whether the content that was read is that of the description.
func (s *Segment) compare(read hash.Hash) error {
	if sum := hex.EncodeToString(read.Sum(nil)); sum != s.SHA256 {
		return &FaultError{Key: s.Key, Reason: "has other content than it was written with (sha256 " + sum + ", not " + s.SHA256 + ")"}
	}
	return nil
}

func (s *Segment) unpack(body io.Reader, keys []Identity, w io.Writer) error {
	if s.Encryption != "" {
		var err error
		if body, err = decrypt(body, keys, s.Recipients); err != nil {
			return err
		}
	}
	zip, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return err
	}
	defer zip.Close()
	n, err := io.Copy(w, zip)
	if err == nil && n != s.Bytes {
		err = fmt.Errorf("%s has %d bytes, not the %d of its description", s.Key, n, s.Bytes)
	}
	return err
}
