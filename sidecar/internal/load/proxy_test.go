package load

import (
	"context"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"farmhand/internal/cluster"
)

// shown are metrics as a proxy shows them.
type shown struct {
	commands *prometheus.HistogramVec
	waits    prometheus.Histogram
	forced   *prometheus.CounterVec
	waiting  *prometheus.GaugeVec
	sessions prometheus.Gauge
	begun    prometheus.Counter
}

func show() (shown, http.Handler) {
	reg := prometheus.NewRegistry()
	s := shown{
		commands: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "farmhand_proxy_command_duration_seconds"}, []string{"role"}),
		waits:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "farmhand_proxy_server_connection_wait_seconds"}),
		forced:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "farmhand_proxy_reads_on_primary_total"}, []string{"reason"}),
		waiting:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "farmhand_proxy_server_connections_waiting"}, []string{"server"}),
	}
	s.sessions = prometheus.NewGauge(prometheus.GaugeOpts{Name: "farmhand_proxy_sessions"})
	s.begun = prometheus.NewCounter(prometheus.CounterOpts{Name: "farmhand_proxy_sessions_begun_total"})
	reg.MustRegister(s.commands, s.waits, s.forced, s.waiting, s.sessions, s.begun)
	s.commands.WithLabelValues("primary")
	s.commands.WithLabelValues("replica")
	s.forced.WithLabelValues("behind")
	return s, promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

func TestProxy(t *testing.T) {
	s, handler := show()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	defer server.Close()
	p := NewProxy(strings.TrimPrefix(server.URL, "http://"))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	sample := func(at time.Duration) map[string]float64 {
		t.Helper()
		got, err := p.Sample(ctx, start.Add(at))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want(t, sample(0), map[string]float64{cluster.LoadWaitingClients: 0, cluster.LoadClients: 0})
	for range 30 {
		s.commands.WithLabelValues("primary").Observe(0.001)
	}
	for range 70 {
		s.commands.WithLabelValues("replica").Observe(0.001)
	}
	s.waits.Observe(0.25)
	s.waits.Observe(0.75)
	s.forced.WithLabelValues("behind").Add(4)
	s.forced.WithLabelValues("no_replica").Add(6)
	s.waiting.WithLabelValues("db1").Set(2)
	s.waiting.WithLabelValues("db2").Set(3)
	s.sessions.Set(7)
	s.begun.Add(12)
	want(t, sample(2*time.Second), map[string]float64{
		cluster.LoadStatements: 50, cluster.LoadReplicaReads: 35, cluster.LoadWaits: 1, cluster.LoadWaitTime: 0.5,
		cluster.LoadCommandTime: 0.05,
		cluster.LoadForcedReads: 5, cluster.LoadWaitingClients: 5,
		cluster.LoadClients: 7, cluster.LoadNewClients: 6,
	})
	// A proxy that was started anew counts from zero: nobody knows what was between.
	_, handler = show()
	want(t, sample(4*time.Second), map[string]float64{cluster.LoadWaitingClients: 0, cluster.LoadClients: 0})
	if got := sample(6 * time.Second); got[cluster.LoadStatements] != 0 || len(got) != 9 {
		t.Errorf("an idle proxy: %v", got)
	}
	// What is no proxy has no metrics of one.
	handler = promhttp.HandlerFor(prometheus.NewRegistry(), promhttp.HandlerOpts{})
	if got, err := p.Sample(ctx, start.Add(8*time.Second)); err == nil || got != nil {
		t.Errorf("of no proxy: %v, %v", got, err)
	}
	server.Close()
	if got, err := p.Sample(ctx, start.Add(10*time.Second)); err == nil || got != nil {
		t.Errorf("of nobody: %v, %v", got, err)
	}
}

// TestProxyNames wants that the proxy still has the metrics that are read here.
func TestProxyNames(t *testing.T) {
	var source strings.Builder
	root := filepath.Join("..", "..", "..", "proxy", "internal")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		source.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"farmhand_proxy_command_duration_seconds", "farmhand_proxy_server_connection_wait_seconds",
		"farmhand_proxy_reads_on_primary_total", "farmhand_proxy_server_connections_waiting",
	} {
		if !strings.Contains(source.String(), `"`+name+`"`) {
			t.Errorf("the proxy does not have %s", name)
		}
	}
}
