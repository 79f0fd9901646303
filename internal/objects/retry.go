package objects

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The pauses between tries grow from the first to the second, each up to half
// shorter by chance.
const firstPause, longestPause = 100 * time.Millisecond, 5 * time.Second

// patiently calls do until it succeeds or what it says is not ErrUnavailable, for
// as long as patience lasts; a try that is under way then is ended.
func patiently(ctx context.Context, patience time.Duration, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := do(limited)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case limited.Err() != nil && last != nil:
			return fmt.Errorf("tried for %v: %w", patience, last) // it says more than the end of the time
		case !errors.Is(err, ErrUnavailable):
			return err
		}
		last = err
		timer := time.NewTimer(pause - rand.N(pause/2))
		select {
		case <-timer.C:
		case <-limited.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("tried for %v: %w", patience, last)
		}
	}
}
