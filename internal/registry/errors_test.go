package registry

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestWhatSaysNothingAboutTheQuestion(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{status.Error(codes.Unavailable, "transport is closing"), true},
		{status.Error(codes.Unknown, "raft: stopped"), true},
		{status.Error(codes.Unknown, "unexpected HTTP status code received from server: 200 (OK); malformed header: missing HTTP content-type"), true},
		{fmt.Errorf("asked: %w", context.DeadlineExceeded), true},
		{status.Error(codes.Unknown, "something else"), false},
		{status.Error(codes.PermissionDenied, "no"), false},
		{errors.New("no"), false},
	} {
		if got := isUnavailable(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
