package monitor

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the monitor's. Those with a server label lose the label's value
// when the server leaves the topology.
type metrics struct {
	up, eligible, writable, weight *prometheus.GaugeVec
	branches                       *prometheus.GaugeVec
	diskReads                      *prometheus.GaugeVec
	lag                            *prometheus.GaugeVec // absent while unknown: unknown is not zero
	failures, reports, transitions *prometheus.CounterVec
	probeSeconds                   *prometheus.HistogramVec
	lookups, queries               prometheus.Counter
}

func newMetrics() *metrics {
	server := []string{"server"}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, server)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(labels, "server"))
	}
	return &metrics{
		up:       gauge("farmhand_proxy_server_up", "1 while the server answers probes, else 0."),
		eligible: gauge("farmhand_proxy_server_eligible", "1 while the server may take reads, its lag aside, else 0."),
		writable: gauge("farmhand_proxy_server_writable", "1 while the server is the primary and takes writes, else 0."),
		weight:   gauge("farmhand_proxy_server_weight", "The server's weight among the readers, slow start included; 0 while it takes no reads."),
		branches: gauge("farmhand_proxy_server_prepared_transactions",
			"Prepared XA transactions on a MariaDB replica that applies in parallel and logs it: while there are any, reads that need a position rather go elsewhere."),
		diskReads: gauge("farmhand_proxy_server_disk_reads",
			"Pages that a statement has had the server read from its disk of late, on average; 0 where that is not known."),
		lag: gauge("farmhand_proxy_replication_lag_seconds",
			"Upper bound of the age of the replica's data when it was last probed; absent while unknown."),
		failures:    counter("farmhand_proxy_probe_failures_total", "Probes of the server that failed."),
		reports:     counter("farmhand_proxy_server_reports_total", "Errors of the server that the data path reported."),
		transitions: counter("farmhand_proxy_server_transitions_total", "Changes of the server's status, by the new one.", "to"),
		probeSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "farmhand_proxy_probe_duration_seconds",
			Help:    "Time that successful probes of the server took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 12),
		}, server),
		lookups: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "farmhand_proxy_account_lookups_total", Help: "Look-ups of a user in the account table.",
		}),
		queries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "farmhand_proxy_account_queries_total", Help: "Queries that answered the look-ups, several at a time.",
		}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.up, m.eligible, m.writable, m.weight, m.branches, m.diskReads, m.lag, m.failures, m.reports, m.transitions, m.probeSeconds,
		m.lookups, m.queries,
	}
}

// register makes the metrics visible until the returned function is called.
func (m *metrics) register(to prometheus.Registerer) (unregister func(), err error) {
	registered := make([]prometheus.Collector, 0, 12)
	unregister = func() {
		for _, c := range registered {
			to.Unregister(c)
		}
	}
	for _, c := range m.collectors() {
		if err := to.Register(c); err != nil {
			unregister()
			var already prometheus.AlreadyRegisteredError
			if errors.As(err, &already) {
				return nil, fmt.Errorf("another monitor has registered the same metrics: %w", err)
			}
			return nil, fmt.Errorf("register the monitor's metrics: %w", err)
		}
		registered = append(registered, c)
	}
	return unregister, nil
}

// show sets the gauges to what a view says of a server.
func (m *metrics) show(s *Server) {
	set := func(g *prometheus.GaugeVec, on bool) {
		v := 0.0
		if on {
			v = 1
		}
		g.WithLabelValues(s.Name).Set(v)
	}
	set(m.up, s.Status == Up)
	set(m.eligible, s.Eligible)
	set(m.writable, s.Writable)
	m.weight.WithLabelValues(s.Name).Set(float64(s.EffectiveWeight))
	m.branches.WithLabelValues(s.Name).Set(float64(s.Branches))
	m.diskReads.WithLabelValues(s.Name).Set(s.DiskReads)
	if s.LagKnown {
		m.lag.WithLabelValues(s.Name).Set(s.Lag.Seconds())
	} else {
		m.lag.DeleteLabelValues(s.Name)
	}
}

// forget deletes what is shown of a server.
func (m *metrics) forget(server string) {
	labels := prometheus.Labels{"server": server}
	for _, g := range []*prometheus.GaugeVec{m.up, m.eligible, m.writable, m.weight, m.branches, m.diskReads, m.lag} {
		g.DeletePartialMatch(labels)
	}
	for _, c := range []*prometheus.CounterVec{m.failures, m.reports, m.transitions} {
		c.DeletePartialMatch(labels)
	}
	m.probeSeconds.DeletePartialMatch(labels)
}
