// Package departure has a node's hooks told of the hosts that leave its farm, which
// stand in a record of the registry, and the farm told when these hooks have ended.
//
// It decides nothing: how long a host that leaves is kept for hooks is the scaler's
// to say. That the registry is away holds up nobody; what was told stays told.
package departure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/registry"
	"farmhand/internal/service"
)

// Hooks are those of this node.
type Hooks interface {
	// PutOnce has the hooks of an event run, if they were not before.
	PutOnce(farm.Event) error
	// Await returns how many of them did not end well, once those that are waited for
	// have ended.
	Await(ctx context.Context, id string) (failed int, err error)
}

// Options are what a watch over departures needs.
type Options struct {
	// Node is the node's name in the farm, Cluster the one whose departures are
	// watched.
	Node, Cluster string
	// Watch and Report are those of the farm's registry.
	Watch  func(context.Context, registry.Record, func(registry.Value) error) error
	Report func(ctx context.Context, name string, value []byte) error
	// Hooks is nil on a node without any.
	Hooks Hooks
	Log   *zap.Logger
}

// retryEvery is how often what did not succeed is tried again.
const retryEvery = time.Second

// Run watches until ctx ends.
func Run(ctx context.Context, o Options) error {
	record, err := registry.ClusterRecord(o.Cluster, cluster.DeparturesRecord)
	if err != nil {
		return err
	}
	w := &watch{Options: o, under: map[string]bool{}, ended: map[string]int{}, news: make(chan struct{}, 1)}
	group := service.NewGroup(ctx)
	w.begin = func(d cluster.Departure) {
		group.Go("hooks before the end of "+d.Host.Name, func(ctx context.Context) error { w.run(ctx, d); return nil })
	}
	group.Go("departures", func(ctx context.Context) error {
		err := o.Watch(ctx, record, func(v registry.Value) error { w.heard(v); return nil })
		if errors.Is(err, registry.ErrDenied) {
			<-ctx.Done() // the node was expelled, which is for who holds the membership to say
			return nil
		}
		return err
	})
	group.Go("reports about hooks", func(ctx context.Context) error { w.report(ctx); return nil })
	return group.Wait()
}

// watch is what is known of the departures that there are.
type watch struct {
	Options
	begin func(cluster.Departure)
	news  chan struct{} // holds one while there is something to report

	mu    sync.Mutex
	under map[string]bool // the events that are in the record, begun each
	ended map[string]int  // of these, those whose hooks have ended, with how many failed
}

func (w *watch) heard(v registry.Value) {
	if v.Lost != nil {
		return // what was known stays
	}
	d, err := cluster.DecodeDepartures(v.Data)
	if err != nil {
		w.Log.Error("who leaves the farm cannot be read; no hooks are run for it", zap.Error(err))
		return
	}
	var begin []cluster.Departure
	w.mu.Lock()
	there := map[string]bool{}
	for _, one := range d.Hosts {
		if one.Event == "" {
			continue
		}
		there[one.Event] = true
		if !w.under[one.Event] {
			begin = append(begin, one)
		}
	}
	for event := range w.under {
		if !there[event] {
			delete(w.ended, event)
		}
	}
	w.under = there
	w.mu.Unlock()
	for _, one := range begin {
		w.begin(one)
	}
	w.poke()
}

func (w *watch) poke() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// run has the hooks of one departure run, and waits for them.
func (w *watch) run(ctx context.Context, d cluster.Departure) {
	failed := 0
	for w.Hooks != nil {
		err := w.Hooks.PutOnce(d.BeforeTerminate())
		if err == nil {
			failed, err = w.Hooks.Await(ctx, d.Event)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			break
		}
		w.Log.Error("the hooks before a host's end cannot be run; tried again", zap.String("host", d.Host.Name), zap.Error(err), zap.Duration("after", retryEvery))
		select {
		case <-time.After(retryEvery):
		case <-ctx.Done():
			return
		}
	}
	w.mu.Lock()
	if w.under[d.Event] {
		w.ended[d.Event] = failed
	}
	w.mu.Unlock()
	w.poke()
}

// report tells the farm what has ended, until it hears it.
func (w *watch) report(ctx context.Context) {
	var last []byte
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.news:
		case <-again:
		}
		again = nil
		data, err := w.says()
		if err == nil && !bytes.Equal(data, last) {
			err = w.Report(ctx, cluster.HooksReportName, data)
		}
		if err == nil {
			last = data
			continue
		}
		if ctx.Err() == nil {
			w.Log.Warn("the farm does not hear that hooks have ended; tried again", zap.Error(err))
		}
		again = time.After(retryEvery)
	}
}

func (w *watch) says() ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := cluster.HooksReport{Name: w.Node, Ended: []cluster.EndedHooks{}}
	for event, failed := range w.ended {
		r.Ended = append(r.Ended, cluster.EndedHooks{Event: event, Failed: failed})
	}
	slices.SortFunc(r.Ended, func(a, b cluster.EndedHooks) int { return bytes.Compare([]byte(a.Event), []byte(b.Event)) })
	data, err := r.Encode()
	if err != nil {
		return nil, fmt.Errorf("report about hooks: %w", err)
	}
	return data, nil
}
