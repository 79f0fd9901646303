package daemon

import (
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"farmhand/internal/farm"
	"farmhand/internal/topology"
)

// observer brings accepted topologies into force and tells of refused ones.
type observer struct {
	d        *Daemon
	accepted prometheus.Counter
	refused  *prometheus.CounterVec
	epoch    prometheus.Gauge
	good     prometheus.Gauge
}

func newObserver(d *Daemon) *observer {
	o := &observer{
		d:        d,
		accepted: prometheus.NewCounter(prometheus.CounterOpts{Name: "farmhand_proxy_topology_accepted_total", Help: "Contents of the topology file that were brought into force."}),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "farmhand_proxy_topology_refused_total", Help: "Contents of the topology file that were refused, by reason."}, []string{"reason"}),
		epoch:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "farmhand_proxy_topology_epoch", Help: "Epoch of the topology in force."}),
		good:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "farmhand_proxy_topology_good", Help: "1 if the topology file as it is now is in force, 0 if it was refused."}),
	}
	d.metrics.MustRegister(o.accepted, o.refused, o.epoch, o.good)
	for _, r := range topology.Reasons() {
		o.refused.WithLabelValues(string(r))
	}
	return o
}

// Accepted implements topology.Observer.
func (o *observer) Accepted(old, now *farm.Topology) {
	cluster := o.d.config.Cluster
	o.good.Set(1)
	if old == now {
		o.d.log.Info("topology file is good again")
		return
	}
	o.accepted.Inc()
	o.epoch.Set(float64(now.Clusters[cluster].Epoch))
	var before farm.Cluster
	if old != nil {
		before = old.Clusters[cluster]
	}
	o.d.log.Info("topology in force", zap.Uint64("epoch", uint64(now.Clusters[cluster].Epoch)),
		zap.String("change", topology.Diff(before, now.Clusters[cluster])))
	o.d.setTopology(now)
}

// Refused implements topology.Observer.
func (o *observer) Refused(r *topology.Refusal) {
	o.good.Set(0)
	o.refused.WithLabelValues(string(r.Reason)).Inc()
	o.d.log.Error("topology file refused, the last good one stays in force", zap.String("reason", string(r.Reason)), zap.Error(r))
}

// Blind implements topology.Observer.
func (o *observer) Blind(err error) {
	o.d.log.Warn("topology file cannot be watched, it is looked at every second instead", zap.Error(err))
}
