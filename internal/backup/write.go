package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"farmhand/internal/objects"
)

// PartSize is how much of a backup is one object; several are in memory while they
// are on their way.
const PartSize = 16 << 20

// partSize is PartSize but for tests, which have less to write.
var partSize = PartSize

// parallel is how many parts are sent or fetched at once.
const parallel = 3

// Recipient is a public key that backups are encrypted to.
type Recipient struct {
	text string
	key  age.Recipient
}

// ParseRecipients reads age public keys (age1…), one a line; lines that are empty
// or begin with # are passed over.
func ParseRecipients(text string) (all []Recipient, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		keys, err := age.ParseRecipients(strings.NewReader(line))
		if err != nil {
			return nil, fmt.Errorf("%q is not a public key: %w", line, err)
		}
		all = append(all, Recipient{line, keys[0]})
	}
	return all, nil
}

// encrypt returns a writer to out of what all of to can read, and who they are.
func encrypt(out io.Writer, to []Recipient) (secret io.WriteCloser, who []string, err error) {
	var keys []age.Recipient
	for _, r := range to {
		keys = append(keys, r.key)
		who = append(who, r.text)
	}
	secret, err = age.Encrypt(out, keys...)
	return secret, who, err
}

// end writes what a compressed stream, and the encryption around it, end with;
// secret is nil for none.
func end(zip *zstd.Encoder, secret io.WriteCloser) error {
	err := zip.Close()
	if err == nil && secret != nil {
		err = secret.Close()
	}
	return err
}

// Writer writes one full backup.
type Writer struct {
	store    objects.Store
	manifest Manifest
	ctx      context.Context
	cancel   context.CancelFunc

	zip    *zstd.Encoder
	secret io.WriteCloser // nil: not encrypted
	cut    *cutter
}

// NewID makes a name for a backup that is begun now.
func NewID(now time.Time) string {
	return now.UTC().Format("20060102T150405Z") + "-" + strings.ToLower(rand.Text()[:6])
}

// idPattern is what the names of backups are: the store lists them by time.
var idPattern = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[a-z0-9]{6}$`)

// CheckID says whether a text can be the name of a backup.
func CheckID(id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("%q is not the name of a backup; expected one such as 20261128T170406Z-gzhxgz", id)
	}
	return nil
}

// Create begins a full backup of a cluster under a name that none had before
// (NewID). Commit or Abort must follow.
func Create(ctx context.Context, store objects.Store, cluster, id string, to []Recipient) (*Writer, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	w := &Writer{store: store, manifest: Manifest{Format: format, Cluster: cluster, ID: id, Began: time.Now().UTC(), Compression: compression}}
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.cut = newCutter(w.ctx, store, func(number int) string { return partKey(cluster, w.manifest.ID, number) })
	var out io.Writer = w.cut
	if len(to) > 0 {
		var err error
		if w.secret, w.manifest.Recipients, err = encrypt(out, to); err != nil {
			return nil, errors.Join(fmt.Errorf("encrypt a backup: %w", err), w.Abort(ctx))
		}
		w.manifest.Encryption = encryption
		out = w.secret
	}
	var err error
	if w.zip, err = zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithAllLitEntropyCompression(true), zstd.WithWindowSize(1<<20), zstd.WithEncoderConcurrency(2)); err != nil {
		return nil, errors.Join(fmt.Errorf("compress a backup: %w", err), w.Abort(ctx))
	}
	return w, nil
}

// ID names the backup that is written.
func (w *Writer) ID() string { return w.manifest.ID }

// Write adds to the stream.
func (w *Writer) Write(b []byte) (int, error) {
	n, err := w.zip.Write(b)
	w.manifest.Bytes += int64(n)
	return n, err
}

// Commit ends the stream and makes the backup count, as fill has completed its
// manifest. After an error Abort must follow.
func (w *Writer) Commit(fill func(*Manifest)) (*Manifest, error) {
	err := end(w.zip, w.secret)
	if err == nil {
		err = w.cut.close()
	}
	if err != nil {
		return nil, fmt.Errorf("write backup %s: %w", w.manifest.ID, err)
	}
	m := w.manifest
	m.Parts = w.cut.parts
	m.Ended = time.Now().UTC()
	fill(&m)
	if err := m.check(w.manifest.Cluster, w.manifest.ID); err != nil {
		return nil, fmt.Errorf("write backup %s: %w", m.ID, err)
	}
	data, err := json.MarshalIndent(m, "", " ")
	if err == nil {
		_, err = w.store.Put(w.ctx, manifestKey(m.Cluster, m.ID), bytes.NewReader(data), objects.PutOptions{IfAbsent: true})
	}
	if err != nil {
		return nil, fmt.Errorf("write the manifest of backup %s: %w", m.ID, err)
	}
	w.cancel()
	return &m, nil
}

// Abort gives the backup up and removes what there is of it, as far as that is
// possible before ctx ends. What it must leave does not count; Prune removes it
// later.
func (w *Writer) Abort(ctx context.Context) error {
	w.cancel()
	if w.zip != nil {
		_ = w.zip.Close() // ends its goroutines, which write; they are refused
	}
	w.cut.abort()
	return remove(ctx, w.store, w.manifest.Cluster, w.manifest.ID)
}

// cutter puts what is written to it as parts.
type cutter struct {
	ctx    context.Context
	store  objects.Store
	key    func(number int) string
	group  *errgroup.Group
	free   chan []byte // buffers; nil ones are made when they are needed
	filled []byte      // the part that is being gathered

	number int

	mu    sync.Mutex
	parts []Part // by number
}

func newCutter(ctx context.Context, store objects.Store, key func(int) string) *cutter {
	c := &cutter{store: store, key: key, free: make(chan []byte, parallel+1)}
	c.group, c.ctx = errgroup.WithContext(ctx)
	for range cap(c.free) {
		c.free <- nil
	}
	return c
}

func (c *cutter) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		if c.filled == nil {
			if err := c.buffer(); err != nil {
				return n, err
			}
		}
		m := copy(c.filled[len(c.filled):partSize], b)
		c.filled = c.filled[:len(c.filled)+m]
		n += m
		b = b[m:]
		if len(c.filled) == partSize {
			c.send()
		}
	}
	return n, nil
}

func (c *cutter) buffer() error {
	select {
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	case b := <-c.free:
		if b == nil {
			b = make([]byte, partSize)
		}
		c.filled = b[:0]
		return nil
	}
}

// send puts the part that was gathered; others go on meanwhile.
func (c *cutter) send() {
	data := c.filled
	c.filled = nil
	c.number++
	number := c.number
	c.group.Go(func() error {
		defer func() { c.free <- data }()
		hash := sha256.Sum256(data)
		part := Part{Key: c.key(number), Size: int64(len(data)), SHA256: hex.EncodeToString(hash[:])}
		if _, err := c.store.Put(c.ctx, part.Key, bytes.NewReader(data), objects.PutOptions{SHA256: part.SHA256}); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for len(c.parts) < number {
			c.parts = append(c.parts, Part{})
		}
		c.parts[number-1] = part
		return nil
	})
}

// close sends what is left and waits for all parts.
func (c *cutter) close() error {
	if len(c.filled) > 0 {
		c.send()
	}
	return c.group.Wait()
}

// abort waits for what is on its way, which ends with the context.
func (c *cutter) abort() { _ = c.group.Wait() }
