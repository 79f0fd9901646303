package load

import (
	"context"
	"fmt"
	"time"

	"farmhand/internal/cluster"
	"farmhand/sidecar/internal/work"
)

// Workers measures a node's workers by what they say of themselves, see package work.
type Workers struct {
	place work.Place
	names []string
}

// NewWorkers returns what measures the workers with the names in the place.
func NewWorkers(place work.Place, names []string) *Workers { return &Workers{place, names} }

// heardOf is how old what a worker says of the queue may be. One without a job asks more
// often; what one with a long job knows is from before that.
const heardOf = time.Minute

// Sample measures. How old the messages are is not known when no worker has asked for one
// just now.
func (w *Workers) Sample(_ context.Context, now time.Time) (map[string]float64, error) {
	jobs, age := 0, time.Duration(-1)
	for _, name := range w.names {
		busy, state, err := work.Ask(w.place.BusyFile(name))
		if err != nil {
			return nil, fmt.Errorf("measure the workers: %w", err)
		}
		if busy {
			jobs++
		}
		if state != nil && now.Sub(state.Received) <= heardOf {
			age = max(age, state.Age)
		}
	}
	load := map[string]float64{cluster.LoadJobs: float64(jobs)}
	if age >= 0 {
		load[cluster.LoadQueueAge] = age.Seconds()
	}
	return load, nil
}
