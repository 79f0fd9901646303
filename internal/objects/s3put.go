package objects

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// maxParts is S3's limit.
const maxParts = 10000

func (b *bucket) Put(ctx context.Context, key string, r io.Reader, o PutOptions) (Object, error) {
	if err := checkKey(key); err != nil {
		return Object{}, err
	}
	if o.IfAbsent { // what is known to be in vain is not sent
		if _, err := b.Head(ctx, key); err == nil {
			return Object{}, fmt.Errorf("put %s: %w", key, ErrExists)
		} else if err != nil && !errors.Is(err, ErrNotFound) {
			return Object{}, err
		}
	}
	p := &put{bucket: b, key: key, options: o, name: rand.Text(), sum: sha256.New()}
	if ready, ok := r.(*bytes.Reader); ok && ready.Len() <= b.Part {
		return p.whole(ctx, ready)
	}
	var first bytes.Buffer
	n, err := io.CopyN(&first, r, int64(b.Part))
	switch {
	case errors.Is(err, io.EOF) && n < int64(b.Part):
		return p.whole(ctx, bytes.NewReader(first.Bytes()))
	case err != nil:
		return Object{}, err
	}
	return p.parts(ctx, first.Bytes(), r)
}

// put is one put.
type put struct {
	*bucket
	key     string
	options PutOptions
	name    string // kept with the object
	sum     hash.Hash
	size    int64
}

// whole puts what is in memory as a whole.
func (p *put) whole(ctx context.Context, body *bytes.Reader) (Object, error) {
	p.size = int64(body.Len())
	if _, err := body.WriteTo(p.sum); err != nil {
		return Object{}, err
	}
	sum := p.sum.Sum(nil)
	text := hex.EncodeToString(sum)
	if p.options.SHA256 != "" && p.options.SHA256 != text {
		return Object{}, other(p.key, p.options.SHA256, text)
	}
	in := &s3.PutObjectInput{
		Bucket: p.bucket.name, Key: p.full(p.key), ContentLength: &p.size,
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum)),
		Metadata:       map[string]string{sumMeta: text, putMeta: p.name},
	}
	if p.options.IfAbsent {
		in.IfNoneMatch = aws.String("*")
	}
	var id string
	err := p.try(ctx, "put", p.key, func(ctx context.Context) error {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return err
		}
		in.Body = body
		out, err := p.client.PutObject(ctx, in)
		if err == nil {
			id = version(out.VersionId)
		}
		return p.ours(ctx, err, ErrExists)
	})
	return Object{Key: p.key, Size: p.size, SHA256: text, Version: id}, err
}

// ours tells whether an object that is in the way, by the error that says so, is
// the one that this put has made: the answer to that was lost.
func (p *put) ours(ctx context.Context, err, kind error) error {
	err = meaning(err)
	if !errors.Is(err, kind) {
		return err
	}
	object, by, herr := p.head(ctx, p.key)
	switch {
	case errors.Is(meaning(herr), ErrNotFound):
		return err
	case herr != nil:
		return fmt.Errorf("%w: whether it was put is not known: %w", ErrUnavailable, herr)
	case by == p.name && object.Size == p.size:
		return nil
	}
	return err
}

// parts puts what first and then r give, in parts.
func (p *put) parts(ctx context.Context, first []byte, r io.Reader) (_ Object, err error) {
	id, err := p.upload(ctx)
	if err != nil {
		return Object{}, err
	}
	defer func() {
		if err != nil {
			// Also after the end of ctx; what cannot be removed now is left to Sweep.
			cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.Stall)
			defer cancel()
			_ = p.abort(cleanup, p.key, id)
		}
	}()
	done, err := p.send(ctx, id, first, r)
	if err != nil {
		return Object{}, err
	}
	sum := hex.EncodeToString(p.sum.Sum(nil))
	if p.options.SHA256 != "" && p.options.SHA256 != sum {
		return Object{}, other(p.key, p.options.SHA256, sum)
	}
	in := &s3.CompleteMultipartUploadInput{
		Bucket: p.bucket.name, Key: p.full(p.key), UploadId: &id, MultipartUpload: &types.CompletedMultipartUpload{Parts: done},
	}
	if p.options.IfAbsent {
		in.IfNoneMatch = aws.String("*")
	}
	object := Object{Key: p.key, Size: p.size, SHA256: sum}
	err = p.try(ctx, "put", p.key, func(ctx context.Context) error {
		out, err := p.client.CompleteMultipartUpload(ctx, in)
		if err == nil {
			object.Version = version(out.VersionId)
			return nil
		}
		// The upload is gone if its end was heard.
		return p.ours(ctx, p.ours(ctx, err, ErrExists), ErrNotFound)
	})
	return object, err
}

// upload begins an upload in parts.
func (p *put) upload(ctx context.Context) (id string, err error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket: p.bucket.name, Key: p.full(p.key), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		Metadata: map[string]string{putMeta: p.name},
	}
	if p.options.SHA256 != "" {
		in.Metadata[sumMeta] = p.options.SHA256
	}
	err = p.try(ctx, "begin to put", p.key, func(ctx context.Context) error {
		out, err := p.client.CreateMultipartUpload(ctx, in)
		if err == nil {
			id = aws.ToString(out.UploadId)
		}
		return err
	})
	return id, err
}

// send sends the parts, some at once. Each is tried again by itself: what the store
// has got of the others stays.
func (p *put) send(ctx context.Context, id string, first []byte, r io.Reader) ([]types.CompletedPart, error) {
	var mu sync.Mutex
	var done []types.CompletedPart
	group, ctx := errgroup.WithContext(ctx)
	buffers := make(chan []byte, p.Parallel)
	buffers <- first
	for range p.Parallel - 1 {
		buffers <- nil // made when it is needed
	}
	var readErr error
	for number, piece := int32(1), first; ; number++ {
		buffer := <-buffers
		if number > 1 {
			if buffer == nil {
				buffer = make([]byte, p.Part)
			}
			n, err := io.ReadFull(r, buffer[:p.Part])
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				readErr = err
				break
			}
			if piece = buffer[:n]; n == 0 {
				break
			}
		}
		if number > maxParts {
			readErr = fmt.Errorf("put %s: %w: it has more than %d parts of %d MiB", p.key, ErrInvalid, maxParts, p.Part>>20)
			break
		}
		p.sum.Write(piece) // never fails
		p.size += int64(len(piece))
		sum := sha256.Sum256(piece)
		checksum := base64.StdEncoding.EncodeToString(sum[:])
		group.Go(func() error {
			defer func() { buffers <- piece[:cap(piece)] }()
			part := types.CompletedPart{PartNumber: &number, ChecksumSHA256: &checksum}
			err := p.try(ctx, fmt.Sprintf("put part %d of", number), p.key, func(ctx context.Context) error {
				size := int64(len(piece))
				out, err := p.client.UploadPart(ctx, &s3.UploadPartInput{
					Bucket: p.bucket.name, Key: p.full(p.key), UploadId: &id, PartNumber: &number,
					Body: bytes.NewReader(piece), ContentLength: &size, ChecksumSHA256: &checksum,
				})
				if err == nil {
					part.ETag = out.ETag
				}
				return err
			})
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done = append(done, part)
			return nil
		})
		if ctx.Err() != nil {
			break // a part has failed
		}
	}
	if err := errors.Join(group.Wait(), readErr); err != nil {
		return nil, err
	}
	slices.SortFunc(done, func(a, b types.CompletedPart) int { return int(*a.PartNumber - *b.PartNumber) })
	return done, nil
}
