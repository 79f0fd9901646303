package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// What callers branch on. Every error of a store is one of these, or the reader's
// that was given to it, or the end of the context.
var (
	// ErrNotFound: there is no such object, version or bucket.
	ErrNotFound = errors.New("not found")
	// ErrExists: a put with IfAbsent lost.
	ErrExists = errors.New("it exists already")
	// ErrDenied: the store knows us and refuses, or does not know us. To try again
	// does not help.
	ErrDenied = errors.New("denied")
	// ErrUnavailable: the store did not answer properly, or has no room. It was tried
	// again for as long as the store's patience lasts.
	ErrUnavailable = errors.New("the store is unavailable")
	// ErrInvalid: what was asked for makes no sense to the store.
	ErrInvalid = errors.New("the store does not take that")
)

// Store keeps objects. Its methods may be called from any goroutine.
type Store interface {
	// Put stores what r gives until its end. An error of r stores nothing, and is
	// returned.
	Put(ctx context.Context, key string, r io.Reader, o PutOptions) (Object, error)
	// Get opens an object. Its reader goes on by itself after a broken connection,
	// within the same version of the object. It must be closed, and ends with ctx.
	Get(ctx context.Context, key string, o GetOptions) (io.ReadCloser, Object, error)
	// Head describes an object.
	Head(ctx context.Context, key string) (Object, error)
	// List calls each with every object whose key begins with prefix, in the order of
	// the keys' bytes, until it returns an error. SHA256 and Version are not told.
	List(ctx context.Context, prefix string, each func(Object) error) error
	// Delete removes an object; there may be none. On a store with versions the
	// newest is hidden, or, if one is named, that one is removed.
	Delete(ctx context.Context, key, version string) error
	// Sweep removes what puts that were begun before a time and never ended have left.
	// It returns how many there were.
	Sweep(ctx context.Context, prefix string, before time.Time) (int, error)
	// String names the store for people.
	String() string
}

// Object describes a stored object.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
	// SHA256 is the content's checksum in hexadecimal as it was when the object was
	// put; empty if the store was not told it: see PutOptions.
	SHA256 string
	// Version names this content among those that the key has had; empty in a store
	// without versions.
	Version string

	etag string
}

// PutOptions say how an object is put.
type PutOptions struct {
	// IfAbsent makes the put fail with ErrExists if there is an object of that key.
	IfAbsent bool
	// SHA256 is the content's checksum in hexadecimal, if it is known beforehand:
	// other content is refused. An object that is larger than one part in an S3 store
	// has a checksum only by this.
	SHA256 string
}

// GetOptions say what of an object is read.
type GetOptions struct {
	Offset int64 // the first byte
	// Length is the number of bytes; 0 is all that there are from Offset on.
	Length  int64
	Version string // empty: the newest
}

// Config says which store is meant: a directory, or a bucket.
type Config struct {
	// Directory is an absolute path; it is made if it is missing.
	Directory string

	// Bucket must exist.
	Bucket string
	// Prefix is put in front of every key, with a slash between; may be empty.
	Prefix string
	// Endpoint is the URL of an S3 server other than AWS's; buckets are then part of
	// the path and not of the host's name.
	Endpoint string
	// Region is the bucket's; empty is what the environment says.
	Region string

	// Rate bounds what is sent and what is received, each, in bytes per second; 0 is
	// no bound. It is for S3 stores.
	Rate int64
	// Patience is how long a call is tried again; default 2 minutes.
	Patience time.Duration
	// Stall is how long one try may stand still; default 30 seconds.
	Stall time.Duration
	// Part is how much of an object is held in memory, and sent again after a failure,
	// up to Parallel of them at once; defaults 16 MiB and 2.
	Part     int
	Parallel int
}

// Open opens the store that c names, after finding the credentials for it if it
// needs any.
func Open(ctx context.Context, c Config) (Store, error) {
	if c.Patience == 0 {
		c.Patience = 2 * time.Minute
	}
	if c.Stall == 0 {
		c.Stall = 30 * time.Second
	}
	if c.Part == 0 {
		c.Part = 16 << 20
	}
	if c.Parallel == 0 {
		c.Parallel = 2
	}
	switch {
	case (c.Directory == "") == (c.Bucket == ""):
		return nil, errors.New("a store is either a directory or a bucket")
	case c.Directory != "":
		return openDir(c.Directory)
	}
	return openS3(ctx, c)
}

// maxKey is S3's limit, less room for a prefix.
const maxKey = 900

// checkKey refuses keys that not every store can have.
func checkKey(key string) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("%w: a key of %d bytes", ErrInvalid, len(key))
	}
	for part := range strings.SplitSeq(key, "/") {
		// A leading dot is what a directory's own files have.
		if part == "" || part[0] == '.' || len(part) > 255 {
			return fmt.Errorf("%w: the key %q", ErrInvalid, key)
		}
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`\"<>?*|%#&+`, c) >= 0 {
			return fmt.Errorf("%w: the key %q", ErrInvalid, key)
		}
	}
	return nil
}

// other says that what was read is not what was announced.
func other(key, want, got string) error {
	return fmt.Errorf("put %s: %w: its content has the sha256 %s, not %s", key, ErrInvalid, got, want)
}
