package objects

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Check is one thing that Probe has looked at.
type Check struct {
	What string
	Err  error  // why it is not as it must be; nil if it is
	Note string // what is to be known of it besides; may be empty
}

// skewed is how far a store's clock may be from this machine's: signatures are refused
// after some minutes, and times of objects are compared with ours.
const skewed = 30 * time.Second

// Probe tries whether a store does what backups need, with a small object of its own
// whose key begins with prefix, which it removes. It stops where nothing that follows can work.
func Probe(ctx context.Context, s Store, prefix string) (checks []Check) {
	add := func(what string, err error, note string) bool {
		checks = append(checks, Check{what, err, note})
		return err == nil
	}
	if !add("the store "+s.String()+" can be listed", s.List(ctx, prefix, func(Object) error { return errEnough }), "") {
		if !errors.Is(checks[0].Err, errEnough) {
			return checks
		}
		checks[0].Err = nil
	}
	key, text := prefix+"probe-"+strings.ToLower(rand.Text()), "farmhand looks whether it can write here"
	began := time.Now()
	_, err := s.Put(ctx, key, strings.NewReader(text), PutOptions{IfAbsent: true})
	if !add("it can be written to", err, "") {
		return checks
	}
	ended := time.Now()
	_, err = s.Put(ctx, key, strings.NewReader("another"), PutOptions{IfAbsent: true})
	switch {
	case err == nil:
		err = errors.New("it has written over an object that was there: two servers could take each other's backups apart")
	case errors.Is(err, ErrExists):
		err = nil
	}
	add("it honours If-None-Match", err, "")
	add("it can be read", readBack(ctx, s, key, text), "")
	object, err := s.Head(ctx, key)
	if err == nil {
		if early, late := began.Sub(object.Modified), object.Modified.Sub(ended); early > skewed || late > skewed {
			err = fmt.Errorf("it says that what was written at %s is of %s", began.UTC().Format(time.RFC3339), object.Modified.UTC().Format(time.RFC3339))
		}
	}
	add("its clock is this machine's", err, "")
	note := ""
	if err = s.Delete(ctx, key, ""); errors.Is(err, ErrDenied) {
		err, note = nil, "it refuses to: retention lets nothing go, and "+key+" stays"
	}
	add("objects can be removed", err, note)
	if b, isBucket := s.(*bucket); isBucket {
		checks = append(checks, b.versions(ctx))
	}
	return checks
}

var errEnough = errors.New("there is something")

func readBack(ctx context.Context, s Store, key, want string) error {
	r, _, err := s.Get(ctx, key, GetOptions{})
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%s holds %q, and %q was written", key, got, want)
	}
	return nil
}

// versions says whether a mistake, or a thief of the credentials, can remove what there
// is. Both are the bucket's owner's to decide, and to ask is a right that backups do not need.
func (b *bucket) versions(ctx context.Context) Check {
	c := Check{What: "what is removed can be got back"}
	var kept []string
	v, err := b.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: b.name})
	if err != nil {
		c.Note = "not known: we may not ask (s3:GetBucketVersioning)"
		return c
	}
	if v.Status == types.BucketVersioningStatusEnabled {
		kept = append(kept, "the bucket keeps versions")
	}
	if l, err := b.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: b.name}); err == nil &&
		l.ObjectLockConfiguration != nil && l.ObjectLockConfiguration.ObjectLockEnabled == types.ObjectLockEnabledEnabled {
		kept = append(kept, "it has an object lock")
	}
	if c.Note = strings.Join(kept, ", "); c.Note == "" {
		c.Note = "no: the bucket has neither versions nor an object lock"
	}
	return c
}
