package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

// bucket is a store in an S3 bucket.
type bucket struct {
	Config
	client *s3.Client
	name   *string // Bucket, as the client wants it
}

// What is kept with every object.
const (
	sumMeta = "sha256"
	// putMeta names the put that made the object: one whose answer was lost finds out
	// by it that it was itself who was first.
	putMeta = "put"
)

func openS3(ctx context.Context, c Config) (Store, error) {
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.ResponseHeaderTimeout = 0 // transport's alarm does that
		})),
		// Tries are ours to repeat: the client's own would not tell why it gave up.
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Bucket, err)
	}
	if loaded.Region == "" {
		loaded.Region = "us-east-1"
	}
	loaded.HTTPClient = &transport{
		base: loaded.HTTPClient, send: limiterOf(c.Rate), receive: limiterOf(c.Rate), stall: c.Stall,
	}
	// Other stores than AWS's know the client's newer checksums only in part; ours go
	// with every object and every part.
	loaded.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	loaded.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	if _, err := loaded.Credentials.Retrieve(ctx); err != nil {
		return nil, fmt.Errorf("open %s: find credentials: %w: %w", c.Bucket, ErrDenied, err)
	}
	return &bucket{Config: c, name: &c.Bucket, client: s3.NewFromConfig(loaded, func(o *s3.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint, o.UsePathStyle = &c.Endpoint, true
		}
	})}, nil
}

func (b *bucket) String() string {
	name := "s3://" + b.Bucket
	if b.Prefix != "" {
		name += "/" + b.Prefix
	}
	if b.Endpoint != "" {
		name += " at " + b.Endpoint
	}
	return name
}

// full is a key as the bucket has it.
func (b *bucket) full(key string) *string {
	if b.Prefix != "" {
		key = b.Prefix + "/" + key
	}
	return &key
}

// own is the reverse of full.
func (b *bucket) own(full *string) string {
	if b.Prefix != "" {
		return strings.TrimPrefix(aws.ToString(full), b.Prefix+"/")
	}
	return aws.ToString(full)
}

// try calls do, which talks to the store, with patience.
func (b *bucket) try(ctx context.Context, what, key string, do func(context.Context) error) error {
	err := patiently(ctx, b.Patience, func(ctx context.Context) error { return meaning(do(ctx)) })
	if err != nil {
		return fmt.Errorf("%s %s in %v: %w", what, key, b, err)
	}
	return nil
}

// meaning adds to an error of the client what it means to callers.
func meaning(err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{ErrNotFound, ErrExists, ErrDenied, ErrUnavailable, ErrInvalid} {
		if errors.Is(err, known) {
			return err
		}
	}
	kind := ErrUnavailable // no answer, or one that is none
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		switch status := answer.HTTPStatusCode(); {
		case status == http.StatusNotFound:
			kind = ErrNotFound
		case status == http.StatusPreconditionFailed:
			kind = ErrExists
		case status == http.StatusForbidden, status == http.StatusUnauthorized:
			kind = ErrDenied
		case status == http.StatusConflict, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		case status >= 300 && status < 500 && !transient(err):
			kind = ErrInvalid
		}
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// transient are errors that S3 gives a status of the caller's fault and that go
// away by themselves: what arrived was not what was sent, or late.
func transient(err error) bool {
	var e smithy.APIError
	if !errors.As(err, &e) {
		return false
	}
	switch e.ErrorCode() {
	case "RequestTimeout", "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody", "ThrottlingException":
		return true
	}
	return false
}

func (b *bucket) Head(ctx context.Context, key string) (object Object, err error) {
	if err := checkKey(key); err != nil {
		return Object{}, err
	}
	err = b.try(ctx, "look at", key, func(ctx context.Context) (err error) {
		object, _, err = b.head(ctx, key)
		return err
	})
	return object, err
}

// head also tells which put made the object.
func (b *bucket) head(ctx context.Context, key string) (Object, string, error) {
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b.name, Key: b.full(key)})
	if err != nil {
		return Object{}, "", err
	}
	return Object{
		Key: key, Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified), SHA256: out.Metadata[sumMeta],
		Version: version(out.VersionId), etag: aws.ToString(out.ETag),
	}, out.Metadata[putMeta], nil
}

// version is empty for what S3 calls the null version: that of a bucket without.
func version(id *string) string {
	if aws.ToString(id) == "null" {
		return ""
	}
	return aws.ToString(id)
}

func (b *bucket) List(ctx context.Context, prefix string, each func(Object) error) error {
	in := &s3.ListObjectsV2Input{Bucket: b.name, Prefix: b.full(prefix)}
	for {
		var page *s3.ListObjectsV2Output
		err := b.try(ctx, "list", prefix, func(ctx context.Context) (err error) {
			page, err = b.client.ListObjectsV2(ctx, in)
			return err
		})
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			if err := each(Object{Key: b.own(o.Key), Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified)}); err != nil {
				return err
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return nil
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

func (b *bucket) Delete(ctx context.Context, key, version string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	in := &s3.DeleteObjectInput{Bucket: b.name, Key: b.full(key)}
	if version != "" {
		in.VersionId = &version
	}
	err := b.try(ctx, "delete", key, func(ctx context.Context) error {
		_, err := b.client.DeleteObject(ctx, in)
		return err
	})
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "NoSuchKey" {
		return nil // some stores say so
	}
	return err
}

func (b *bucket) Sweep(ctx context.Context, prefix string, before time.Time) (swept int, err error) {
	err = b.uploads(ctx, prefix, func(key, id string, begun time.Time) error {
		if !begun.Before(before) {
			return nil
		}
		swept++
		return b.abort(ctx, key, id)
	})
	return swept, err
}

// uploads calls each with every upload in parts that has not ended.
func (b *bucket) uploads(ctx context.Context, prefix string, each func(key, id string, begun time.Time) error) error {
	in := &s3.ListMultipartUploadsInput{Bucket: b.name, Prefix: b.full(prefix)}
	for {
		var page *s3.ListMultipartUploadsOutput
		err := b.try(ctx, "list uploads of", prefix, func(ctx context.Context) (err error) {
			page, err = b.client.ListMultipartUploads(ctx, in)
			return err
		})
		if err != nil {
			return err
		}
		for _, u := range page.Uploads {
			if err := each(b.own(u.Key), aws.ToString(u.UploadId), aws.ToTime(u.Initiated)); err != nil {
				return err
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return nil
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
}

func (b *bucket) abort(ctx context.Context, key, id string) error {
	err := b.try(ctx, "abort an upload of", key, func(ctx context.Context) error {
		_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: b.name, Key: b.full(key), UploadId: &id})
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func (b *bucket) Get(ctx context.Context, key string, o GetOptions) (io.ReadCloser, Object, error) {
	if err := checkKey(key); err != nil {
		return nil, Object{}, err
	}
	r := &s3Reader{ctx: ctx, from: b, options: o, object: Object{Key: key}}
	if o.Offset < 0 || o.Length < 0 {
		return nil, Object{}, fmt.Errorf("get %s: %w: %d bytes from %d on", key, ErrInvalid, o.Length, o.Offset)
	}
	if err := b.try(ctx, "get", key, r.open); err != nil {
		return nil, Object{}, err
	}
	return r, r.object, nil
}
