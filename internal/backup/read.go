package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"farmhand/internal/objects"
)

// ErrNoKey: a backup is encrypted, and none of the keys is one of its own.
var ErrNoKey = errors.New("no key fits")

// Identity is a secret key for encrypted backups.
type Identity struct{ key age.Identity }

// ParseIdentities reads age secret keys (AGE-SECRET-KEY-…), one a line, as
// age-keygen writes them.
func ParseIdentities(text string) (all []Identity, err error) {
	keys, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil {
		return nil, errors.New("there is something that is not an age secret key") // the error could show it
	}
	for _, key := range keys {
		all = append(all, Identity{key})
	}
	return all, nil
}

// ReadIdentities reads the age secret keys in a file; none if path is empty.
func ReadIdentities(path string) ([]Identity, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the keys for encrypted backups: %w", err)
	}
	keys, err := ParseIdentities(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// Reader gives the stream of a backup.
type Reader struct {
	fetch *fetcher
	zip   *zstd.Decoder
	done  atomic.Int64 // stored bytes that have been passed on
	total int64
	read  int64
	want  int64
}

// Open opens the stream of a backup. Parts are fetched ahead of it, several at
// once, and each is checked before any of it is passed on. What is missing or
// altered is a FaultError. The reader must be closed.
func Open(ctx context.Context, store objects.Store, m *Manifest, keys []Identity) (*Reader, error) {
	r := &Reader{total: m.Stored(), want: m.Bytes}
	r.fetch = newFetcher(ctx, store, m.Parts, &r.done)
	var in io.Reader = r.fetch
	if m.Encryption != "" {
		var err error
		in, err = decrypt(in, keys, m.Recipients)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read backup %s: %w", m.ID, err), r.Close())
		}
	}
	var err error
	if r.zip, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxWindow(8<<20)); err != nil {
		return nil, errors.Join(fmt.Errorf("read backup %s: %w", m.ID, err), r.Close())
	}
	return r, nil
}

// decrypt reads what was encrypted to some recipients.
func decrypt(in io.Reader, keys []Identity, to []string) (io.Reader, error) {
	var ids []age.Identity
	for _, key := range keys {
		ids = append(ids, key.key)
	}
	noKey := fmt.Errorf("%w: it is encrypted to %s", ErrNoKey, strings.Join(to, ", "))
	if len(ids) == 0 {
		return nil, noKey
	}
	out, err := age.Decrypt(in, ids...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, noKey
	}
	return out, err
}

func (r *Reader) Read(b []byte) (int, error) {
	n, err := r.zip.Read(b)
	r.read += int64(n)
	if errors.Is(err, io.EOF) && r.read != r.want {
		err = fmt.Errorf("the backup has %d bytes, not the %d of its manifest", r.read, r.want)
	}
	return n, err
}

// Progress is how much of what is stored has been read, of how much. It may be
// called meanwhile.
func (r *Reader) Progress() (done, total int64) { return r.done.Load(), r.total }

// Close ends what is on its way.
func (r *Reader) Close() error {
	r.fetch.close()
	if r.zip != nil {
		r.zip.Close()
	}
	return nil
}

// fetcher is the parts in order, fetched ahead.
type fetcher struct {
	ctx    context.Context
	cancel context.CancelFunc
	queue  chan chan fetched // in order
	free   chan []byte
	all    sync.WaitGroup
	done   *atomic.Int64

	left int     // parts to come
	part fetched // that is being read
	at   int
	err  error
}

type fetched struct {
	data []byte
	err  error
}

func newFetcher(ctx context.Context, store objects.Store, parts []Part, done *atomic.Int64) *fetcher {
	ctx, cancel := context.WithCancel(ctx)
	f := &fetcher{
		ctx: ctx, cancel: cancel, done: done, left: len(parts),
		queue: make(chan chan fetched, parallel+1), free: make(chan []byte, parallel+1),
	}
	for range cap(f.free) {
		f.free <- nil
	}
	f.all.Go(func() {
		defer close(f.queue)
		for _, part := range parts {
			var buffer []byte
			select {
			case buffer = <-f.free:
			case <-ctx.Done():
				return
			}
			answer := make(chan fetched, 1)
			f.queue <- answer // has room: as many as there are buffers
			f.all.Go(func() {
				data, err := fetch(ctx, store, part, buffer)
				answer <- fetched{data, err}
			})
		}
	})
	return f
}

func (f *fetcher) Read(b []byte) (int, error) {
	for f.at == len(f.part.data) {
		if f.err != nil {
			return 0, f.err
		}
		if f.part.data != nil {
			f.free <- f.part.data[:0]
		}
		f.at, f.part = 0, fetched{}
		answer, more := <-f.queue
		switch {
		case f.left == 0:
			f.err = io.EOF
			continue
		case !more:
			f.err = context.Cause(f.ctx)
			continue
		}
		f.left--
		if f.part = <-answer; f.part.err != nil {
			f.err = f.part.err
			f.part.data = nil
		}
	}
	n := copy(b, f.part.data[f.at:])
	f.at += n
	f.done.Add(int64(n))
	return n, nil
}

func (f *fetcher) close() {
	f.cancel()
	f.all.Wait()
}

// fetch reads a part into buffer, or a larger one, and checks it.
func fetch(ctx context.Context, store objects.Store, part Part, buffer []byte) ([]byte, error) {
	r, object, err := store.Get(ctx, part.Key, objects.GetOptions{})
	switch {
	case errors.Is(err, objects.ErrNotFound):
		return nil, &FaultError{Key: part.Key, Reason: "is missing", Missing: true}
	case err != nil:
		return nil, err
	case object.Size != part.Size:
		return nil, errors.Join(&FaultError{Key: part.Key, Reason: fmt.Sprintf("has %d bytes, not %d", object.Size, part.Size)}, r.Close())
	}
	if int64(cap(buffer)) < part.Size {
		buffer = make([]byte, part.Size)
	}
	buffer = buffer[:part.Size]
	_, err = io.ReadFull(r, buffer)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", part.Key, err)
	}
	hash := sha256.Sum256(buffer)
	if sum := hex.EncodeToString(hash[:]); sum != part.SHA256 {
		return nil, &FaultError{Key: part.Key, Reason: "has other content than it was written with (sha256 " + sum + ", not " + part.SHA256 + ")"}
	}
	return buffer, nil
}

// Verify reads every part of a backup and returns a FaultsError with all that are
// missing or altered. It needs no key.
func Verify(ctx context.Context, store objects.Store, m *Manifest) error {
	var faults FaultsError
	var buffer []byte
	for _, part := range m.Parts {
		data, err := fetch(ctx, store, part, buffer)
		var fault *FaultError
		switch {
		case errors.As(err, &fault):
			faults = append(faults, fault)
		case err != nil:
			return err
		default:
			buffer = data
		}
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}
