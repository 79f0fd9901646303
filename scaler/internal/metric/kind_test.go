package metric

import (
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"farmhand/internal/cluster"
	"farmhand/scaler/internal/decide"
	"farmhand/scaler/internal/farmfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// everything is what a node says that says all; a measurement is as many times n.
func everything(name string, n float64) Node {
	beat := n
	return Node{Name: name, Heard: start.Add(-time.Second), Beat: &beat, Load: map[string]float64{
		cluster.LoadProcessors: 2, cluster.Load1: 2 * n, cluster.LoadCPUShare: n / 10,
		cluster.LoadClients: 10 * n, cluster.LoadQueries: 100 * n,
		cluster.LoadStatements: 100, cluster.LoadWaits: n, cluster.LoadWaitTime: n, cluster.LoadWaitingClients: 0,
		cluster.LoadReplicaReads: 50, cluster.LoadForcedReads: 50 * n,
		cluster.LoadRequests: 100 * n, cluster.LoadCacheReads: 100, cluster.LoadCacheMisses: 10 * n, cluster.LoadQueueAge: 60 * n,
	}}
}

// seen is a role of a primary and replicas, and as many proxies.
func seen(replicas ...Node) *Seen {
	servers := []decide.Server{{Name: "db1", State: decide.Ready, Primary: true}}
	nodes := map[string]Node{"db1": everything("db1", 0)}
	for _, n := range replicas {
		servers = append(servers, decide.Server{Name: n.Name, State: decide.Ready})
		nodes[n.Name] = n
	}
	return See(start, servers, nodes, replicas)
}

// want is what the kinds make of two nodes, one of which says once, the other
// three times as much.
var want = map[farmfile.MetricKind]float64{
	farmfile.LoadMetric:        2,
	farmfile.CPUMetric:         0.2,
	farmfile.ConnectionsMetric: 20,
	farmfile.QueriesMetric:     200,
	farmfile.LagMetric:         2,
	farmfile.QueueWaitMetric:   4.0 / 200,
	farmfile.RequestsMetric:    200,
	farmfile.MissesMetric:      40.0 / 200,
	farmfile.QueueAgeMetric:    180,         // the oldest of all
	farmfile.ForcedReadsMetric: 200.0 / 300, // not the average of 1/2 and 3/4
}

// TestContract holds every kind to the same: docs and decide trust it.
func TestContract(t *testing.T) {
	for _, kind := range farmfile.MetricKinds() {
		if askers[kind] != nil {
			continue
		}
		t.Run(string(kind), func(t *testing.T) { contract(t, kind) })
	}
}

func contract(t *testing.T, kind farmfile.MetricKind) {
	measure := kinds[kind]
	if measure == nil {
		t.Fatal("it is not in the table")
	}
	check := func(what string, s *Seen, value float64, silent int) {
		t.Helper()
		got, n := measure(s)
		if n != silent || math.IsNaN(got) != math.IsNaN(value) || math.Abs(got-value) > 1e-9 {
			t.Errorf("%s: %v with %d silent, expected %v with %d", what, got, n, value, silent)
		}
	}
	one, three := everything("db2", 1), everything("db3", 3)
	alone, _ := measure(seen(one))
	check("two nodes", seen(one, three), want[kind], 0)

	silent := map[string]Node{
		"that never spoke":     {Name: "db3"},
		"that spoke long ago":  {Name: "db3", Heard: start.Add(-Stale - time.Second), Load: three.Load, Beat: three.Beat},
		"that says nothing":    {Name: "db3", Heard: start},
		"that does not answer": DatabaseNode(&cluster.Report{Name: "db3", Load: three.Load}, start),
	}
	for what, value := range map[string]float64{"NaN": math.NaN(), "infinite": math.Inf(1), "negative": -1} {
		n := three
		n.Load = maps.Clone(three.Load)
		for name := range n.Load {
			n.Load[name] = value
		}
		n.Beat = &value
		silent["that says "+what] = n
	}
	for what, n := range silent {
		check("one of them one "+what, seen(one, n), alone, 1)
		check("one "+what, seen(n), math.NaN(), 1)
	}
	check("nobody", &Seen{Now: start}, math.NaN(), 0)

	// More is more.
	last := -1.0
	for _, n := range []float64{0, 0.5, 1, 2, 3} {
		value, silent := measure(seen(everything("db2", n), everything("db3", n)))
		if silent != 0 || value <= last {
			t.Errorf("%v times as much is %v, after %v", n, value, last)
		}
		last = value
	}
}

func TestReport(t *testing.T) {
	beat := 1500 * time.Millisecond
	n := DatabaseNode(&cluster.Report{Name: "db2", Answers: true, Beat: &beat, Load: map[string]float64{cluster.Load1: 1}}, start)
	if n.Name != "db2" || n.Heard != start || *n.Beat != 1.5 || n.Load[cluster.Load1] != 1 {
		t.Errorf("%+v", n)
	}
}

// TestLag: only what a replica lacks of its primary is lag.
func TestLag(t *testing.T) {
	s := seen(everything("db2", 60), everything("db3", 61))
	*s.Primary = everything("db1", 60) // it cannot commit
	if value, silent := lag(s); value != 0.5 || silent != 0 {
		t.Errorf("while the primary cannot commit: %v with %d silent", value, silent)
	}
	s.Primary = nil
	if value, silent := lag(s); !math.IsNaN(value) || silent != 2 {
		t.Errorf("without a primary: %v with %d silent", value, silent)
	}
}

func TestProxiesThatDoNothing(t *testing.T) {
	idle := everything("web1", 0)
	for _, name := range []string{cluster.LoadStatements, cluster.LoadReplicaReads} {
		idle.Load[name] = 0
	}
	s := &Seen{Now: start, Proxies: []Node{idle}}
	for kind, measure := range map[string]measure{"queue_wait": queueWait, "forced_reads": forcedReads} {
		if value, silent := measure(s); value != 0 || silent != 0 {
			t.Errorf("%s of an idle proxy: %v with %d silent", kind, value, silent)
		}
	}
	idle.Load[cluster.LoadWaitingClients] = 3
	if value, silent := queueWait(s); !math.IsNaN(value) || silent != 1 {
		t.Errorf("if all wait: %v with %d silent", value, silent)
	}
	idle.Load[cluster.LoadWaits], idle.Load[cluster.LoadWaitTime] = 2, 20
	if value, silent := queueWait(s); value != 10 || silent != 0 {
		t.Errorf("if all waited in vain: %v with %d silent", value, silent)
	}
}

// TestSee: who shares the load.
func TestSee(t *testing.T) {
	nodes := map[string]Node{"db1": everything("db1", 1), "db2": everything("db2", 1)}
	servers := []decide.Server{
		{Name: "db1", State: decide.Ready, Primary: true},
		{Name: "db2", State: decide.Warming},
		{Name: "db3", State: decide.Draining},
		{Name: "db4", State: decide.Unwell},
	}
	names := func(nodes []Node) (list []string) {
		for _, n := range nodes {
			list = append(list, n.Name)
		}
		return list
	}
	s := See(start, servers, nodes, nil)
	if !slices.Equal(names(s.Carriers), []string{"db1"}) || len(s.Replicas) != 0 || s.Primary == nil {
		t.Errorf("a primary alone: %+v", s)
	}
	servers[1].State = decide.Ready
	servers = append(servers, decide.Server{Name: "db5", State: decide.Ready}) // which has not said anything
	s = See(start, servers, nodes, nil)
	if !slices.Equal(names(s.Carriers), []string{"db2", "db5"}) || len(s.Replicas) != 2 {
		t.Errorf("with replicas: %+v", s)
	}
	if _, silent := cpu(s); silent != 1 {
		t.Errorf("%d are silent", silent)
	}
}
