package role

import (
	"context"
	"maps"
	"reflect"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/report"
	"farmhand/sidecar/internal/load"
	"farmhand/sidecar/internal/membership"
)

// Of what a web node tells its farm.
const (
	measureEvery = 2 * time.Second
	measureLimit = time.Second
	// maxDetail keeps a report within what the registry takes, in bytes.
	maxDetail = 2 << 10
)

// webFarm tells the farm how a web node is. Nil is a node without a farm.
type webFarm struct {
	farm    Farm
	metrics string // the proxy's admin address; empty for none
	log     *zap.Logger

	news chan struct{} // holds one while there is something to tell
	mu   sync.Mutex
	now  cluster.WebReport
}

func newWebFarm(name, metrics string, tools Tools) *webFarm {
	if tools.Farm == nil {
		return nil
	}
	return &webFarm{farm: tools.Farm, metrics: metrics, log: tools.Log, now: cluster.WebReport{Name: name}, news: make(chan struct{}, 1)}
}

// change has the farm told what is new. What is not new is not told at once: who waits for
// the next change would have to wait for that as well.
func (f *webFarm) change(change func(*cluster.WebReport)) {
	f.mu.Lock()
	was := f.now
	change(&f.now)
	same := reflect.DeepEqual(was, f.now)
	f.mu.Unlock()
	if same {
		return
	}
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// is says how the node is.
func (f *webFarm) is(state report.State, pid int, detail string) {
	if f == nil {
		return
	}
	if len(detail) > maxDetail {
		detail = detail[:maxDetail]
	}
	f.change(func(r *cluster.WebReport) { r.State, r.PID, r.Detail = string(state), pid, detail })
}

// wrote says which membership the proxy's topology file has.
func (f *webFarm) wrote(s membership.Snapshot) {
	if f != nil {
		f.change(func(r *cluster.WebReport) { r.Epoch, r.Serial = s.Epoch, s.Serial })
	}
}

// run tells the farm every second and at every change, until ctx ends. While the
// registry is away nobody hears it, and nothing else is held up by that.
func (f *webFarm) run(ctx context.Context) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	unheard := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.news:
		case <-tick.C:
		}
		f.mu.Lock()
		r := f.now
		f.mu.Unlock()
		r.Time = time.Now().UTC().Truncate(time.Millisecond)
		data, err := r.Encode()
		if err == nil {
			err = f.farm.Report(ctx, cluster.WebReportName, data)
		}
		if err != nil && !unheard && ctx.Err() == nil {
			f.log.Warn("the farm does not hear the node's reports; it goes on", zap.Error(err))
		}
		unheard = err != nil
	}
}

// measure keeps the load in the reports up to date, until ctx ends.
func (f *webFarm) measure(ctx context.Context) error {
	host, err := load.NewHost("")
	if err != nil {
		f.log.Warn("this machine's load is not known", zap.Error(err))
	}
	var proxy *load.Proxy
	if f.metrics != "" {
		proxy = load.NewProxy(f.metrics)
	}
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	for {
		all := map[string]float64{}
		if host != nil {
			sample, err := host.Sample(time.Now())
			if err != nil {
				f.log.Debug("not all of this machine's load is known", zap.Error(err))
			}
			maps.Copy(all, sample)
		}
		if proxy != nil {
			limited, cancel := context.WithTimeout(ctx, measureLimit)
			sample, err := proxy.Sample(limited, time.Now())
			cancel()
			if err != nil {
				f.log.Debug("the proxy's load is not known", zap.Error(err))
			}
			maps.Copy(all, sample)
		}
		f.mu.Lock()
		f.now.Load = all // goes with the next report
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
