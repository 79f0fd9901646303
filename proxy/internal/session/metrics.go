package session

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/route"
)

// Metrics counts what sessions do.
type Metrics struct {
	statements     [route.Console + 1]prometheus.Counter
	durations      [2]prometheus.Observer // on the primary, on a replica
	retries        prometheus.Counter
	readsOnPrimary [route.Freshness + 1]prometheus.Counter
	// Reads that the primary serves because it could not be asked for its
	// position, and those whose wait for a replica was in vain.
	readsWithoutIndex, readsWaitedInVain prometheus.Counter
	positionWaits                        prometheus.Observer
	replays, replaysFailed               prometheus.Counter
	readsExcused                         prometheus.Counter
	waits                                prometheus.Counter
	lanes, laneMisses                    prometheus.Counter
	malformedHints                       prometheus.Counter
	unknownCalls                         prometheus.Counter
}

// NewMetrics registers the metrics of sessions with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	statements := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "farmhand_proxy_queries_total", Help: "Statements of COM_QUERY, by where they were routed.",
	}, []string{"target"})
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "farmhand_proxy_command_duration_seconds", Help: "Time from a command's routing to the end of its answer, by the role of the server that gave it.",
		Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"role"})
	onPrimary := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "farmhand_proxy_reads_on_primary_total",
		Help: "Reads that the primary served, or was to serve, though a replica could: none was fit; one was fit but behind; one was waited for in vain; the primary could not be asked for its position.",
	}, []string{"reason"})
	positionWaits := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "farmhand_proxy_position_wait_seconds", Help: "How long reads waited for a replica to reach the position that they need.",
		Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5},
	})
	reg.MustRegister(statements, durations, onPrimary, positionWaits)
	m := &Metrics{
		retries:        counter("farmhand_proxy_read_retries_total", "Reads that ran again on another server."),
		readsExcused:   counter("farmhand_proxy_reads_excused_total", "Reads that replicas served without proof that they are fresh, because the primary was down (reads.without_primary: serve)."),
		replays:        counter("farmhand_proxy_transaction_replays_total", "Attempts to run a transaction again that lost its primary (writes.replay)."),
		replaysFailed:  counter("farmhand_proxy_transaction_replays_failed_total", "Transactions that could not be run again."),
		lanes:          counter("farmhand_proxy_lane_reads_total", "Reads that were sent back to back with other sessions' on a shared connection (pool.pipelining)."),
		laneMisses:     counter("farmhand_proxy_lane_misses_total", "Reads that were to share a connection and ran on one of their own: those that share were busy, or the answer was late, long or an error."),
		waits:          counter("farmhand_proxy_primary_waits_total", "Statements that waited for a primary."),
		malformedHints: counter("farmhand_proxy_malformed_hints_total", "Hints that were ignored because they are malformed."),
		unknownCalls:   counter("farmhand_proxy_unknown_function_total", "Statements that went to the primary only because they call a function that is not known to be a built-in one."),
	}
	m.readsOnPrimary[route.Fitness], m.readsOnPrimary[route.Freshness] = onPrimary.WithLabelValues("no_replica"), onPrimary.WithLabelValues("behind")
	m.readsWithoutIndex, m.readsWaitedInVain = onPrimary.WithLabelValues("no_index"), onPrimary.WithLabelValues("waited")
	m.positionWaits = positionWaits
	for t, label := range map[route.Target]string{
		route.Primary: "primary", route.Replica: "replica", route.Transaction: "transaction",
		route.Last: "last", route.Anywhere: "any", route.Console: "console",
	} {
		m.statements[t] = statements.WithLabelValues(label)
	}
	m.durations[0], m.durations[1] = durations.WithLabelValues("primary"), durations.WithLabelValues("replica")
	return m
}

func (m *Metrics) statement(meaning *classify.Meaning, t route.Target) {
	m.statements[t].Inc()
	if meaning.Flags&classify.UnknownFunction != 0 {
		m.unknownCalls.Inc()
	}
}

// readOnPrimary counts a read on the primary by what the replicas lacked.
func (m *Metrics) readOnPrimary(want route.Want) {
	if want != route.Nothing {
		m.readsOnPrimary[want].Inc()
	}
}

func (m *Metrics) observe(onPrimary bool, d time.Duration) {
	i := 1
	if onPrimary {
		i = 0
	}
	m.durations[i].Observe(d.Seconds())
}
