package backend

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	opened, reused, failed, taken *prometheus.CounterVec
	closed                        *prometheus.CounterVec
	idle, active, queued          *prometheus.GaugeVec
	waited                        prometheus.Histogram
}

// newMetrics registers the metrics of a pool with reg.
func newMetrics(reg prometheus.Registerer) metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"server"})
		reg.MustRegister(g)
		return g
	}
	waited := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "farmhand_proxy_server_connection_wait_seconds", Help: "How long sessions waited for a connection to a server because of a limit.",
		Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5, 10},
	})
	reg.MustRegister(waited)
	return metrics{
		opened: counter("farmhand_proxy_server_connections_opened_total", "Connections opened to a server.", "server"),
		reused: counter("farmhand_proxy_server_connections_reused_total", "Connections to a server taken from the pool.", "server"),
		taken:  counter("farmhand_proxy_server_connections_taken_total", "Connections to a server taken from another session that was between commands.", "server"),
		failed: counter("farmhand_proxy_server_connect_errors_total", "Failures to connect or log in to a server.", "server"),
		closed: counter("farmhand_proxy_server_connections_closed_total", "Connections to a server closed by the proxy, by reason.", "server", "reason"),
		idle:   gauge("farmhand_proxy_server_connections_idle", "Idle connections to a server."),
		active: gauge("farmhand_proxy_server_connections_active", "Connections to a server that sessions hold."),
		queued: gauge("farmhand_proxy_server_connections_waiting", "Sessions that wait for a connection to a server because of a limit."),
		waited: waited,
	}
}
