package farmfile

import (
	"maps"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/queue"
	"farmhand/internal/service"
)

// MetricKind is what is measured.
type MetricKind string

// The kinds of metric.
const (
	LoadMetric        MetricKind = "load"
	CPUMetric         MetricKind = "cpu"
	ConnectionsMetric MetricKind = "connections"
	QueriesMetric     MetricKind = "queries"
	LagMetric         MetricKind = "lag"
	QueueWaitMetric   MetricKind = "queue_wait"
	ForcedReadsMetric MetricKind = "forced_reads"
	RequestsMetric    MetricKind = "http_requests"
	MissesMetric      MetricKind = "misses"
	CommandMetric     MetricKind = "command"
	QueueMetric       MetricKind = "queue"
	QueueAgeMetric    MetricKind = "queue_age"
)

// metricKinds are the kinds of metric that there are.
var metricKinds = map[MetricKind]struct {
	about string
	unit  Unit
	// spread is set if the servers of the role share what is measured, so that
	// one less raises it for the others.
	spread bool
	// only are the kinds of role that have the metric; all if empty.
	only []RoleKind
}{
	LoadMetric:        {"load average per CPU", Number, true, nil},
	CPUMetric:         {"CPU in use, such as 75%", Percent, true, nil},
	ConnectionsMetric: {"client connections per server", Number, true, []RoleKind{MySQLKind}},
	QueriesMetric:     {"queries per second and server", Number, true, []RoleKind{MySQLKind}},
	LagMetric:         {"how far replicas are behind, such as 10s", Seconds, false, []RoleKind{MySQLKind}},
	QueueWaitMetric:   {"what statements wait for a connection in the proxies, such as 50ms", Seconds, false, []RoleKind{MySQLKind}},
	ForcedReadsMetric: {"reads that went to the primary because no replica could serve them, such as 20%", Percent, false, []RoleKind{MySQLKind}},
	RequestsMetric:    {"requests per second and server, as haproxy or nginx counts them", Number, true, []RoleKind{LBKind, WebKind}},
	MissesMetric:      {"reads that found nothing, of all reads, such as 40%", Percent, false, []RoleKind{MemcachedKind}},
	CommandMetric:     {"the number that a program of your own prints", Number, false, nil},
	QueueMetric:       {"messages of an SQS queue that wait or are being worked on, and how many of them a server is for", Number, false, nil},
	QueueAgeMetric:    {"how long the message had waited that waited longest of those that workers got last, such as 5m", Seconds, false, []RoleKind{WorkerKind}},
}

func (MetricKind) choices() []string { return names(metricKinds) }

// MetricKinds lists every kind of metric.
func MetricKinds() []MetricKind { return slices.Sorted(maps.Keys(metricKinds)) }

func (MetricKind) about(name string) string { return metricKinds[MetricKind(name)].about }

// Metric is one thing to scale a role by, and when.
type Metric struct {
	Kind        MetricKind `yaml:"kind" about:"what is measured"`
	ScaleOut    Level      `yaml:"scale_out" about:"more servers above this"`
	ScaleIn     Level      `yaml:"scale_in" about:"fewer servers below this"`
	Window      Duration   `yaml:"window" is:"10s..1h" about:"the time over which the metric is averaged"`
	OutCooldown Duration   `yaml:"out_cooldown" is:"0..24h" about:"from when new servers are ready to the next scaling out"`
	InCooldown  Duration   `yaml:"in_cooldown" is:"0..24h" about:"from any scaling to the next scaling in"`
	OutStep     int        `yaml:"out_step" is:"1..20" about:"servers that may be launched at a time"`
	InStep      int        `yaml:"in_step" is:"1..20" about:"servers that may be terminated at a time"`
	Command     Command    `yaml:"command" about:"kind command: the program, which prints one number"`
	TimeLimit   Duration   `yaml:"time_limit" is:"1s..1m" about:"kinds command and queue: how long the program, or the queue, may take"`
	Queue       string     `yaml:"queue" is:"text?" about:"kind queue: the queue's URL; of another server than AWS's with ?region=NAME; credentials never stand here"`
	PerServer   int        `yaml:"per_server" is:"0..100000" about:"kind queue: how many messages one server is for"`
}

// UnmarshalYAML reads the metric over the defaults of its kind. One whose kind is
// not known has nothing else that could be judged.
func (m *Metric) UnmarshalYAML(n ast.Node) error {
	kind, err := kindOf(n)
	if err != nil {
		return err
	}
	metric, ok := defaults().metrics[MetricKind(kind)]
	if !ok {
		*m = Metric{Kind: MetricKind(kind)}
		return nil
	}
	type plain Metric // without this method
	if err := over(n, (*plain)(&metric)); err != nil {
		return err
	}
	*m = metric
	return nil
}

// check says what is wrong with the metric at path of the role r.
func (m *Metric) check(p *service.Problems, path string, r *Role) {
	kind, ok := metricKinds[m.Kind]
	if !ok {
		return // as checkKeys says
	}
	if len(kind.only) > 0 && !slices.Contains(kind.only, r.Kind) {
		p.Add(path+".kind", "a role of kind %s has no metric %s", r.Kind, m.Kind)
	}
	switch {
	case m.Kind == CommandMetric && len(m.Command) == 0:
		p.Add(path, "the key command is missing; expected the program that prints the metric")
	case m.Kind != CommandMetric && len(m.Command) > 0:
		p.Add(path+".command", "only a metric of kind command has a command")
	}
	if m.checkQueue(p, path); m.Kind == QueueMetric {
		return
	}
	out := m.ScaleOut.check(p, path, "scale_out", kind.unit)
	in := m.ScaleIn.check(p, path, "scale_in", kind.unit)
	if !out || !in {
		return
	}
	if m.ScaleIn.Value >= m.ScaleOut.Value {
		p.Add(path+".scale_in", "%v is not below scale_out, %v: the role would grow and shrink in turns", m.ScaleIn, m.ScaleOut)
		return
	}
	if kind.spread {
		m.checkRebound(p, path, r)
	}
}

func (m *Metric) checkQueue(p *service.Problems, path string) {
	if m.Kind != QueueMetric {
		if m.Queue != "" {
			p.Add(path+".queue", "only a metric of kind queue has a queue")
		}
		if m.PerServer != 0 {
			p.Add(path+".per_server", "only a metric of kind queue has it")
		}
		return
	}
	if _, err := queue.ParseAddress(m.Queue); err != nil {
		p.Add(path+".queue", "%v", err)
	}
	if m.PerServer == 0 {
		p.Add(path, "the key per_server is missing; expected how many messages one server is for")
	}
	for key, level := range sorted(map[string]Level{"scale_out": m.ScaleOut, "scale_in": m.ScaleIn}) {
		if level.Unit != "" {
			p.Add(path+"."+key, "a metric of kind queue has per_server in its place: it says how many servers there are to be")
		}
	}
}

// checkRebound wants that what fewer servers have to carry each does not make
// the role grow again. It matters most where there are fewest.
func (m *Metric) checkRebound(p *service.Problems, path string, r *Role) {
	step := min(m.InStep, r.Count.Max-r.Count.Min)
	if step <= 0 {
		return
	}
	after := r.Count.Min
	if r.Kind == MySQLKind { // replicas serve the reads, as long as there is one
		after = max(after-1, 1)
	}
	before := after + step
	load := Level{m.ScaleIn.Value * float64(before) / float64(after), m.ScaleIn.Unit}
	if load.Value >= m.ScaleOut.Value {
		bound := Level{m.ScaleOut.Value * float64(after) / float64(before), m.ScaleIn.Unit}
		p.Add(path+".scale_in", "at %v each, %d servers that become %d have %v each, which is not below scale_out, %v, and the role grows again; expected less than %v",
			m.ScaleIn, before, after, load, m.ScaleOut, bound)
	}
}
