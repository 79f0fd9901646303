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

// Of what a node tells its farm.
const (
	measureEvery = 2 * time.Second
	measureLimit = time.Second
	// maxDetail keeps a report within what the registry takes, in bytes.
	maxDetail = 2 << 10
)

// nodeFarm tells the farm how a node is. Nil is a node without a farm.
type nodeFarm struct {
	farm Farm
	log  *zap.Logger
	// samplers measure what there is to do, each for itself; they are not added to once it runs.
	samplers []sampler

	news chan struct{} // holds one while there is something to tell
	mu   sync.Mutex
	now  cluster.NodeReport
	// empty: the node is drained, so that nobody uses it, where nothing else is known of that.
	empty bool
}

// sampler measures a part of what a node has to do; what it could not is not there.
type sampler struct {
	what   string
	sample func(ctx context.Context, now time.Time) (map[string]float64, error)
}

// measures has one more part of the load told.
func (f *nodeFarm) measures(what string, sample func(context.Context, time.Time) (map[string]float64, error)) {
	if f != nil {
		f.samplers = append(f.samplers, sampler{what, sample})
	}
}

// drained says whether the node was drained.
func (f *nodeFarm) drained(so bool) {
	if f == nil {
		return
	}
	f.mu.Lock()
	f.empty = so
	f.mu.Unlock()
}

func newNodeFarm(name string, tools Tools) *nodeFarm {
	if tools.Farm == nil {
		return nil
	}
	return &nodeFarm{farm: tools.Farm, log: tools.Log, now: cluster.NodeReport{Name: name}, news: make(chan struct{}, 1)}
}

// change has the farm told what is new. What is not new is not told at once: who waits for
// the next change would have to wait for that as well.
func (f *nodeFarm) change(change func(*cluster.NodeReport)) {
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
func (f *nodeFarm) is(is report.Report, well bool) {
	if f == nil {
		return
	}
	detail := is.Detail
	if len(detail) > maxDetail {
		detail = detail[:maxDetail]
	}
	f.change(func(r *cluster.NodeReport) { r.State, r.PID, r.Detail, r.Well = string(is.State), is.PID, detail, well })
}

// wrote says which membership the proxy's topology file has.
func (f *nodeFarm) wrote(s membership.Snapshot) {
	if f != nil {
		f.change(func(r *cluster.NodeReport) { r.Epoch, r.Serial = s.Epoch, s.Serial })
	}
}

// run tells the farm every second and at every change, until ctx ends. While the
// registry is away nobody hears it, and nothing else is held up by that.
func (f *nodeFarm) run(ctx context.Context) error {
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
			err = f.farm.Report(ctx, cluster.NodeReportName, data)
		}
		if err != nil && !unheard && ctx.Err() == nil {
			f.log.Warn("the farm does not hear the node's reports; it goes on", zap.Error(err))
		}
		unheard = err != nil
	}
}

// measure keeps the load in the reports up to date, until ctx ends.
func (f *nodeFarm) measure(ctx context.Context) error {
	host, err := load.NewHost("")
	if err != nil {
		f.log.Warn("this machine's load is not known", zap.Error(err))
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
		for _, one := range f.samplers {
			limited, cancel := context.WithTimeout(ctx, measureLimit)
			sample, err := one.sample(limited, time.Now())
			cancel()
			if err != nil {
				f.log.Debug("not all of the load is known", zap.String("of", one.what), zap.Error(err))
			}
			maps.Copy(all, sample)
		}
		f.mu.Lock()
		if _, known := all[cluster.LoadClients]; f.empty && !known {
			all[cluster.LoadClients] = 0
		}
		f.now.Load = all // goes with the next report
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
