package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// s3Reader reads an object, over several connections if it must.
type s3Reader struct {
	ctx     context.Context
	from    *bucket
	options GetOptions
	object  Object // with its etag once it was opened

	body io.ReadCloser // nil: there is no connection
	read int64         // so many bytes have been given
	left int64         // so many are to come
}

// open connects for what is left.
func (r *s3Reader) open(ctx context.Context) error {
	in := &s3.GetObjectInput{Bucket: r.from.name, Key: r.from.full(r.object.Key)}
	if r.options.Version != "" {
		in.VersionId = &r.options.Version
	}
	if r.object.etag != "" {
		in.IfMatch = &r.object.etag
	}
	start := r.options.Offset + r.read
	if start > 0 || r.options.Length > 0 {
		text := fmt.Sprintf("bytes=%d-", start)
		if r.options.Length > 0 {
			text += strconv.FormatInt(r.options.Offset+r.options.Length-1, 10)
		}
		in.Range = &text
	}
	// The body lives longer than the patience for its beginning.
	body, cancel := context.WithCancel(r.ctx)
	stop := context.AfterFunc(ctx, cancel)
	out, err := r.from.client.GetObject(body, in)
	if err == nil && !stop() {
		err = errors.Join(context.Cause(ctx), out.Body.Close())
	}
	if err != nil {
		cancel()
		return r.fault(ctx, err, start)
	}
	if r.object.etag == "" {
		size := aws.ToInt64(out.ContentLength)
		if _, whole, ok := strings.Cut(aws.ToString(out.ContentRange), "/"); ok {
			if size, err = strconv.ParseInt(whole, 10, 64); err != nil {
				cancel()
				return errors.Join(fmt.Errorf("the store says that it gives %q", *out.ContentRange), out.Body.Close())
			}
		}
		r.object.Size, r.object.Modified, r.object.SHA256 = size, aws.ToTime(out.LastModified), out.Metadata[sumMeta]
		r.object.Version, r.object.etag = version(out.VersionId), aws.ToString(out.ETag)
		r.left = size - r.options.Offset
		if r.options.Length > 0 {
			r.left = min(r.left, r.options.Length)
		}
	}
	if r.body != nil {
		_ = r.body.Close() // it has failed
	}
	r.body = cancelled{out.Body, cancel}
	return nil
}

// fault says why an object could not be opened.
func (r *s3Reader) fault(ctx context.Context, err error, start int64) error {
	var answer *awshttp.ResponseError
	if !errors.As(err, &answer) {
		return err
	}
	switch answer.HTTPStatusCode() {
	case http.StatusPreconditionFailed:
		return fmt.Errorf("%w: it was replaced while it was read", ErrNotFound)
	case http.StatusRequestedRangeNotSatisfiable:
		object, _, herr := r.from.head(ctx, r.object.Key)
		if herr != nil {
			return herr
		}
		if object.Size == start { // the end of the object, where there is nothing
			r.object, r.body = object, io.NopCloser(strings.NewReader(""))
			return nil
		}
	}
	return err
}

func (r *s3Reader) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if len(b) == 0 {
		return 0, nil
	}
	n := 0
	err := r.from.try(r.ctx, "get", r.object.Key, func(ctx context.Context) (err error) {
		if r.body == nil {
			if err := r.open(ctx); err != nil {
				return err
			}
		}
		n, err = r.body.Read(b[:min(int64(len(b)), r.left)])
		if n > 0 || err == nil {
			return nil // what is wrong shows again
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		_ = r.body.Close() // it has failed
		r.body = nil
		return err
	})
	r.read += int64(n)
	r.left -= int64(n)
	return n, err
}

func (r *s3Reader) Close() error {
	r.left = 0
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}

// cancelled is a body with its context.
type cancelled struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (c cancelled) Close() error {
	c.cancel() // first: what is not wanted any more is not waited for
	_ = c.ReadCloser.Close()
	return nil
}
