package member

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/enrol"
	"farmhand/internal/service"
)

// Waits before another attempt to join.
const (
	joinFirst = 500 * time.Millisecond
	joinMost  = 15 * time.Second
)

// Join makes the machine the node called name by the token in a file, unless a
// node has joined from dir already. It tries until ctx ends or the scaler refuses
// the token; the file is removed once the token is spent.
func Join(ctx context.Context, dir, tokenFile, name string, log *zap.Logger) error {
	for wait := joinFirst; ; wait = min(2*wait, joinMost) {
		node, err := enrol.Read(dir)
		switch {
		case err == nil && node.Name != name:
			return fmt.Errorf("%s is of the node %q, the configuration is of %q", dir, node.Name, name)
		case err == nil:
			return forget(tokenFile)
		case !errors.Is(err, enrol.ErrNotJoined) || tokenFile == "":
			return err
		}
		text, err := service.ReadSecret(tokenFile)
		if err != nil {
			return fmt.Errorf("join the farm: %w", err)
		}
		token, err := enrol.ParseToken(text)
		if err != nil {
			return fmt.Errorf("join the farm: %w", err)
		}
		node, err = enrol.Join(ctx, token, name, dir)
		switch {
		case err == nil:
			log.Info("joined", zap.String("farm", node.Farm), zap.String("role", node.Role))
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case isRefused(err), errors.Is(err, fs.ErrPermission):
			return err
		}
		log.Warn("cannot join the farm yet; tried again", zap.Error(err), zap.Duration("after", wait))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// isRefused reports whether the scaler has something against the request itself.
func isRefused(err error) bool {
	var refused *enrol.RefusedError
	return errors.As(err, &refused) && refused.Status/100 == 4 && refused.Status != http.StatusTooManyRequests
}

// forget removes the file with a token that is of no use any more.
func forget(tokenFile string) error {
	if tokenFile == "" {
		return nil
	}
	if err := os.Remove(tokenFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the token, which is spent: %w", err)
	}
	return nil
}
