package config

import (
	"fmt"

	"farmhand/internal/queue"
	"farmhand/internal/service"
)

// Worker is the configuration of the role "worker".
type Worker struct {
	Frame `yaml:",inline"`
	// Queue is the queue's URL.
	Queue string `yaml:"queue"`
	// Command is the program that is run for each message, and its arguments.
	Command []string `yaml:"command"`
	// Processes is how many messages are worked on at a time.
	Processes int `yaml:"processes"`
	// Hold is how long a message is held at a time, Limit how long the program may take for
	// one, Retry after how long one is given again for which it has failed.
	Hold  service.Duration `yaml:"hold"`
	Limit service.Duration `yaml:"limit"`
	Retry service.Duration `yaml:"retry"`
	// RunAs is a system account; empty for the sidecar's own.
	RunAs string `yaml:"run_as"`
	// Environment is the program's, beyond the sidecar's.
	Environment map[string]string `yaml:"environment"`
}

// WorkerProgram is the name of the n-th process among the node's programs.
func WorkerProgram(n int) string { return fmt.Sprintf("worker%d", n) }

func defaultWorker() Worker {
	return Worker{
		Frame: defaultFrame(), Command: []string{}, Processes: 1, Hold: duration("30s"), Limit: duration("1h"), Retry: duration("5s"),
		Environment: map[string]string{},
	}
}

func (w Worker) validate(path string) service.Problems {
	var own []string
	for n := range min(w.Processes, maxProcesses) {
		own = append(own, WorkerProgram(n+1))
	}
	p := w.Frame.validate(path, nil, own)
	absolute(&p, path+".directory", w.Directory)
	if _, err := queue.ParseAddress(w.Queue); err != nil {
		p.Add(path+".queue", "%v", err)
	}
	if len(w.Command) == 0 || w.Command[0] == "" {
		p.Add(path+".command", "it is missing or empty")
	}
	p.Between(path+".processes", w.Processes, 1, maxProcesses)
	p.DurationBetween(path+".hold", w.Hold, duration("2s"), duration("11h"))
	p.DurationBetween(path+".limit", w.Limit, duration("1s"), duration("11h"))
	p.DurationBetween(path+".retry", w.Retry, 0, duration("11h"))
	return p
}

const maxProcesses = 64
