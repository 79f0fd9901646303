package role

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"farmhand/internal/service"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/load"
	"farmhand/sidecar/internal/work"
)

// newWorker is a node with workers: processes of this program that take messages from a
// queue, see package work. When it begins to leave they take no more, and it is empty when
// each has done what it has.
func newWorker(c config.Config, tools Tools) (Role, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("where this program is: %w", err)
	}
	w := c.Worker
	environment := maps.Clone(w.Environment)
	for _, m := range w.Mounts {
		environment[m.Variable()] = m.Path
	}
	if err := os.MkdirAll(w.Directory, 0o755); err != nil {
		return nil, fmt.Errorf("the workers' directory: %w", err)
	}
	place := work.Place{Directory: w.Directory}
	var own []*program
	var names []string
	for n := range w.Processes {
		name := config.WorkerProgram(n + 1)
		p, err := newProgram(config.Program{
			Name: name, RunAs: w.RunAs, Environment: environment, StopAfter: w.Limit + service.Duration(workerSpare),
			Command: slices.Concat([]string{
				self, "work", "--queue", w.Queue, "--directory", w.Directory, "--name", name,
				"--hold", time.Duration(w.Hold).String(), "--limit", time.Duration(w.Limit).String(), "--retry", time.Duration(w.Retry).String(), "--",
			}, w.Command),
		}, c.State)
		if err == nil {
			err = place.Make(name, p.credential)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		own, names = append(own, p), append(names, name)
	}
	n, err := newNode(c, tools, own...)
	if err != nil {
		return nil, err
	}
	n.drain.steps = slices.Insert(n.drain.steps, 0, drainStep{"have the workers rest", place.Rest})
	n.drain.undo = place.Work
	n.farm.measures("the workers", load.NewWorkers(place, names).Sample)
	return n, nil
}

// workerSpare is what a worker may take to end beside the job that it has.
const workerSpare = 30 * time.Second
