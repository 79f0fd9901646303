package metric

import "farmhand/scaler/internal/farmfile"

// measure makes the value of a metric of what was reported: NaN if nobody said
// what it takes, and how many nodes did not.
type measure func(*Seen) (value float64, silent int)

// kinds are the metrics that nodes report. A command's is what its program prints,
// and a schedule is for decide alone.
var kinds = map[farmfile.MetricKind]measure{
	farmfile.LoadMetric:        loadAverage,
	farmfile.CPUMetric:         cpu,
	farmfile.ConnectionsMetric: connections,
	farmfile.QueriesMetric:     queries,
	farmfile.LagMetric:         lag,
	farmfile.QueueWaitMetric:   queueWait,
	farmfile.ForcedReadsMetric: forcedReads,
	farmfile.RequestsMetric:    requests,
	farmfile.MissesMetric:      misses,
	farmfile.QueueAgeMetric:    queueAge,
}

// average is that of what each node has; silent are those of which it is not known.
func average(nodes []Node, of func(Node) (float64, bool)) (value float64, silent int) {
	sum, n := 0.0, 0
	for _, node := range nodes {
		if v, ok := of(node); ok {
			sum, n = sum+v, n+1
		} else {
			silent++
		}
	}
	return sum / float64(n), silent // of none NaN
}

// ratio is that of the sums of what each node has; 0 if there is nothing of the
// whole, because then there is none of the part.
func ratio(nodes []Node, of func(Node) (part, whole float64, ok bool)) (value float64, silent int) {
	var parts, wholes float64
	for _, node := range nodes {
		part, whole, ok := of(node)
		if !ok {
			silent++
			continue
		}
		parts, wholes = parts+part, wholes+whole
	}
	if wholes == 0 && silent < len(nodes) {
		return 0, silent
	}
	return parts / wholes, silent // of none NaN
}
