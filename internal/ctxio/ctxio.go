// Package ctxio makes readers end with a context. It is for files: a read that waits is
// not woken.
package ctxio

import (
	"context"
	"io"
)

// Reader reads From until Ctx ends; then the error is its cause.
type Reader struct {
	Ctx  context.Context
	From io.Reader
}

// Read implements io.Reader.
func (r Reader) Read(b []byte) (int, error) {
	if err := context.Cause(r.Ctx); err != nil {
		return 0, err
	}
	return r.From.Read(b)
}
