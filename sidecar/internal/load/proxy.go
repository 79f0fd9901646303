package load

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"farmhand/internal/cluster"
)

// Proxy measures a proxy by the metrics that it shows. It is not for several
// goroutines at once.
type Proxy struct {
	url    string
	client *http.Client
	rates  rates
}

// NewProxy returns what measures the proxy whose admin endpoint is at address,
// host:port.
func NewProxy(address string) *Proxy {
	return &Proxy{url: "http://" + address + "/metrics", client: asksOnce()}
}

// maxMetrics bounds what is read of a proxy's metrics.
const maxMetrics = 16 << 20

// Sample measures. Of a proxy that does not answer nothing is known, and the error
// says why.
func (p *Proxy) Sample(ctx context.Context, now time.Time) (map[string]float64, error) {
	families, err := p.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure the proxy: %w", err)
	}
	const (
		commands = "farmhand_proxy_command_duration_seconds"
		waits    = "farmhand_proxy_server_connection_wait_seconds"
		forced   = "farmhand_proxy_reads_on_primary_total"
		waiting  = "farmhand_proxy_server_connections_waiting"
		sessions = "farmhand_proxy_sessions"
		begun    = "farmhand_proxy_sessions_begun_total"
	)
	if families[commands] == nil || families[waits] == nil || families[forced] == nil || families[sessions] == nil || families[begun] == nil {
		return nil, fmt.Errorf("measure the proxy: %s does not show the metrics of a proxy", p.url)
	}
	replica := func(m *dto.Metric) bool {
		for _, label := range m.GetLabel() {
			if label.GetName() == "role" && label.GetValue() == "replica" {
				return true
			}
		}
		return false
	}
	all := func(*dto.Metric) bool { return true }
	count := func(m *dto.Metric) float64 { return float64(m.GetHistogram().GetSampleCount()) }
	gauge := func(m *dto.Metric) float64 { return m.GetGauge().GetValue() }
	seconds := func(m *dto.Metric) float64 { return m.GetHistogram().GetSampleSum() }
	counter := func(m *dto.Metric) float64 { return m.GetCounter().GetValue() }
	load := map[string]float64{
		cluster.LoadClients:        sum(families[sessions], all, gauge),
		cluster.LoadWaitingClients: sum(families[waiting], all, gauge),
	}
	maps.Copy(load, p.rates.next(now, map[string]float64{
		cluster.LoadStatements:   sum(families[commands], all, count),
		cluster.LoadReplicaReads: sum(families[commands], replica, count),
		cluster.LoadWaits:        sum(families[waits], all, count),
		cluster.LoadCommandTime:  sum(families[commands], all, seconds),
		cluster.LoadWaitTime:     sum(families[waits], all, seconds),
		cluster.LoadForcedReads:  sum(families[forced], all, counter),
		cluster.LoadNewClients:   sum(families[begun], all, counter),
	}))
	return load, nil
}

// sum adds up a family's metrics; one that is not there has none yet.
func sum(family *dto.MetricFamily, is func(*dto.Metric) bool, value func(*dto.Metric) float64) float64 {
	total := 0.0
	for _, m := range family.GetMetric() {
		if is(m) {
			total += value(m)
		}
	}
	return total
}

func (p *Proxy) read(ctx context.Context) (families map[string]*dto.MetricFamily, err error) {
	err = get(ctx, p.client, p.url, maxMetrics, func(body io.Reader) (err error) {
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err = parser.TextToMetricFamilies(body)
		return err
	})
	return families, err
}
