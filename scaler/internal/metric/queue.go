package metric

import (
	"context"
	"fmt"
	"time"

	"farmhand/internal/queue"
	"farmhand/scaler/internal/farmfile"
)

// askQueue asks how many messages of a queue wait or are being worked on. What is delayed
// is for later. Credentials are looked for once.
func askQueue(_ string, m *farmfile.Metric) asker {
	var q *queue.Queue
	return func(ctx context.Context) (float64, error) {
		limit := time.Duration(m.TimeLimit)
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than its time limit of %s", limit))
		defer cancel()
		if q == nil {
			a, err := queue.ParseAddress(m.Queue)
			if err == nil {
				q, err = queue.Open(ctx, a)
			}
			if err != nil {
				return 0, fmt.Errorf("metric %s: %w", m.Name(), err)
			}
		}
		c, err := q.Counts(ctx)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", m.Name(), err)
		}
		return float64(c.Visible + c.InFlight), nil
	}
}
