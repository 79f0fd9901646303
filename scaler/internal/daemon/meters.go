package daemon

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"farmhand/scaler/internal/safekeep"
)

// meters are the leader's metrics about backups. What is not known is NaN, as all is
// on a scaler that does not lead.
type meters struct {
	loss, lastFull, lastProven, fulls, failures, gaps *prometheus.GaugeVec
}

// newMeters registers them; a nil registry is none.
func newMeters(r *prometheus.Registry) *meters {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "farmhand", Subsystem: "scaler", Name: name, Help: help}, labels)
		if r != nil {
			r.MustRegister(g)
		}
		return g
	}
	m := &meters{
		loss:       gauge("loss_seconds", "Time whose acknowledged commits would be lost now, if the primary or everything died; +Inf is all, NaN unknown.", "of"),
		lastFull:   gauge("backup_last_full_timestamp_seconds", "When the newest good full backup ended."),
		lastProven: gauge("backup_last_proven_timestamp_seconds", "The moment up to which a restore has been proven last."),
		fulls:      gauge("backup_full_count", "Full backups that count."),
		failures:   gauge("backup_failures", "Attempts that have failed since one succeeded.", "kind"),
		gaps:       gauge("archive_gaps", "Gaps in the archive since the oldest full backup, forks included."),
	}
	m.forget()
	return m
}

func (m *meters) forget() {
	for _, of := range []string{"primary", "everything"} {
		m.loss.WithLabelValues(of).Set(math.NaN())
	}
	for _, kind := range []string{"full", "drill"} {
		m.failures.WithLabelValues(kind).Set(math.NaN())
	}
	for _, g := range []*prometheus.GaugeVec{m.lastFull, m.lastProven, m.fulls, m.gaps} {
		g.WithLabelValues().Set(math.NaN())
	}
}

func (m *meters) set(meter safekeep.Meter, stock *safekeep.Assessment, memory safekeep.Memory) {
	for of, loss := range map[string]safekeep.Loss{"primary": meter.Primary, "everything": meter.Everything} {
		seconds := loss.Seconds
		switch {
		case !loss.Known:
			seconds = math.NaN()
		case seconds < 0:
			seconds = math.Inf(1)
		}
		m.loss.WithLabelValues(of).Set(seconds)
	}
	m.failures.WithLabelValues("full").Set(float64(memory.Full.Failures))
	m.failures.WithLabelValues("drill").Set(float64(memory.Drill.Failures))
	if _, proof := newestProof(memory.Proven); proof != nil {
		m.lastProven.WithLabelValues().Set(float64(proof.Until.Unix()))
	}
	if stock == nil {
		return
	}
	m.fulls.WithLabelValues().Set(float64(len(stock.Fulls)))
	if stock.Newest >= 0 {
		m.lastFull.WithLabelValues().Set(float64(stock.Fulls[stock.Newest].Ended.Unix()))
	}
	gaps := len(stock.Gaps)
	if stock.Fork != nil {
		gaps++
	}
	m.gaps.WithLabelValues().Set(float64(gaps))
}
