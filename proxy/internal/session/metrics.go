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
	readsOnPrimary prometheus.Counter
	waits          prometheus.Counter
	malformedHints prometheus.Counter
	unknownCalls   prometheus.Counter
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
	reg.MustRegister(statements, durations)
	m := &Metrics{
		retries:        counter("farmhand_proxy_read_retries_total", "Reads that ran again on another server."),
		readsOnPrimary: counter("farmhand_proxy_reads_on_primary_total", "Reads that the primary served because no replica was fit."),
		waits:          counter("farmhand_proxy_primary_waits_total", "Statements that waited for a primary."),
		malformedHints: counter("farmhand_proxy_malformed_hints_total", "Hints that were ignored because they are malformed."),
		unknownCalls:   counter("farmhand_proxy_unknown_function_total", "Statements that went to the primary only because they call a function that is not known to be a built-in one."),
	}
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

func (m *Metrics) observe(onPrimary bool, d time.Duration) {
	i := 1
	if onPrimary {
		i = 0
	}
	m.durations[i].Observe(d.Seconds())
}
