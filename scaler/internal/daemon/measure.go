package daemon

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"farmhand/internal/service"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/metric"
)

// measured is the samples of every role's metrics.
type measured struct {
	mu    sync.Mutex
	roles map[string]*metric.History
}

func newMeasured(f *farmfile.Farm) *measured {
	m := &measured{roles: map[string]*metric.History{}}
	for role := range f.Roles {
		m.roles[role] = &metric.History{}
	}
	return m
}

// poll runs the programs of the metrics that have one, until ctx ends.
func (m *measured) poll(ctx context.Context, f *farmfile.Farm, log *zap.Logger) error {
	group := service.NewGroup(ctx)
	for name, role := range f.Roles {
		group.Go("metrics of "+name, func(ctx context.Context) error {
			metric.Poll(ctx, name, role.Scaling, func(one *farmfile.Metric, s decide.Sample, err error) {
				if err != nil {
					log.Warn("metric not measured", zap.String("role", name), zap.Error(err))
				}
				m.mu.Lock()
				defer m.mu.Unlock()
				m.roles[name].Add(one, s)
			})
			return nil
		})
	}
	err := group.Wait()
	<-ctx.Done()
	if err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// measure returns what takes a sample of what the role's nodes report and returns all
// samples. Unwanted, they are only kept: a person says how many servers there are.
func (m *measured) measure(f *farmfile.Farm, role string, wanted bool, at *moment) func([]decide.Server) [][]decide.Sample {
	nodes, proxies := map[string]metric.Node{}, []metric.Node{}
	for name, a := range at.databases {
		nodes[name] = metric.DatabaseNode(a.report, a.at)
	}
	for name, a := range at.nodes {
		n := metric.Node{Name: name, Heard: a.at, Load: a.report.Load}
		if nodes[name].Name == "" {
			nodes[name] = n
		}
		proxies = append(proxies, n)
	}
	return func(servers []decide.Server) [][]decide.Sample {
		m.mu.Lock()
		defer m.mu.Unlock()
		readings := m.roles[role].Measure(at.now, f.Roles[role].Scaling, nodes, proxies)(servers)
		if !wanted {
			return nil
		}
		return readings
	}
}
