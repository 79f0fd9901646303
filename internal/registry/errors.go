package registry

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// is reports whether err is etcd's error want, which comes as gRPC's status or
// as etcd's own type, depending on the call.
func is(err, want error) bool {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Error() == rpctypes.ErrorDesc(want)
	}
	s, ok := status.FromError(err)
	return ok && s.Message() == rpctypes.ErrorDesc(want)
}

// isUnavailable reports whether err says nothing about the question, only that
// no answer came.
func isUnavailable(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errSilent) {
		return true
	}
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code() == codes.Unavailable || e.Code() == codes.DeadlineExceeded
	}
	s, ok := status.FromError(err)
	// The last two are what a member says that has just been removed, and what gRPC makes of
	// the answer of one that ends: HTTP without a gRPC header.
	return ok && (s.Code() == codes.Unavailable || s.Code() == codes.DeadlineExceeded || s.Message() == "raft: stopped" ||
		s.Code() == codes.Unknown && strings.HasPrefix(s.Message(), "unexpected HTTP status code received from server"))
}
