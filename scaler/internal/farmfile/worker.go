package farmfile

import (
	"fmt"
	"time"

	"farmhand/internal/queue"
	"farmhand/internal/service"
)

// Worker is servers that do the jobs of a queue: for each message a program is run.
type Worker struct {
	Queue       string      `yaml:"queue" is:"text" about:"the queue's URL; of another server than AWS's with ?region=NAME; credentials never stand here"`
	Command     Command     `yaml:"command" about:"the program that is run for each message, which is its standard input"`
	Processes   int         `yaml:"processes" is:"1..64" about:"how many messages a server works on at a time"`
	Hold        Duration    `yaml:"hold" is:"2s..11h" about:"how long a message is held at a time, whole seconds; the shorter, the sooner another has what a lost server had"`
	Limit       Duration    `yaml:"limit" is:"1s..11h" about:"how long the program may take for a message"`
	Retry       Duration    `yaml:"retry" is:"0..11h" about:"after how long a message is given again whose program has failed, whole seconds"`
	RunAs       string      `yaml:"run_as" is:"text?" about:"the system account that the program runs as; \"\" for the sidecar's own"`
	Environment Environment `yaml:"environment" about:"the program's environment, beyond the sidecar's"`
	Frame       `yaml:",inline"`
}

// WorkerProgram is the name of the n-th process among a worker's programs.
func WorkerProgram(n int) string { return fmt.Sprintf("worker%d", n) }

func checkWorker(p *service.Problems, path string, r *Role, f *Farm) {
	checkDatabase(p, path, f)
	path += ".parameters"
	w := r.Parameters.Worker
	var own []string
	for n := range w.Processes {
		own = append(own, WorkerProgram(n+1))
	}
	w.check(p, path, own...)
	if _, err := queue.ParseAddress(w.Queue); w.Queue != "" && err != nil {
		p.Add(path+".queue", "%v", err)
	}
	if len(w.Command) == 0 {
		p.Add(path+".command", "it is missing or empty; expected the program that is run for each message")
	}
	for key, d := range sorted(map[string]Duration{"hold": w.Hold, "retry": w.Retry}) {
		if time.Duration(d)%time.Second != 0 {
			p.Add(path+"."+key, "%v is no number of whole seconds, which is what SQS counts in", d)
		}
	}
	if w.DrainLimit < w.Limit {
		p.Add(path+".drain_limit", "a server that leaves would be ended after %v, within a job that may take limit, %v; expected at least that", w.DrainLimit, w.Limit)
	}
}
