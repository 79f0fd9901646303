package page

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/registry"
)

// What is kept of the measurements, and when one is too old to be one.
const (
	samplePace = 2 * time.Second
	sampleKept = 450 // of each series: a quarter of an hour
	maxSeries  = 1000
	stale      = 5 * time.Second
)

// plot is one of the page's plots: a line for each node, or for each role.
type plot struct {
	id string
	of func(*measured) (float64, bool)
}

// measured is what a node said last that can be plotted.
type measured struct {
	Load map[string]float64 `json:"load"`
	// Of a database server.
	Task    cluster.Task   `json:"task"`
	Answers *bool          `json:"answers"`
	Beat    *time.Duration `json:"beat"`

	at time.Time
}

func (m *measured) load(name string) (float64, bool) {
	if m.Answers != nil && !*m.Answers {
		return 0, false // numbers of its last answer
	}
	v, ok := m.Load[name]
	return v, ok
}

// instances is the plot of how many instances each role has, which no node reports.
const instances = "instances"

// plots are the page's; assets/plots.js has their titles.
var plots = []plot{
	{"queries", func(m *measured) (float64, bool) { return m.load(cluster.LoadQueries) }},
	{"latency", func(m *measured) (float64, bool) {
		seconds, ok := m.load(cluster.LoadCommandTime)
		statements, ok2 := m.load(cluster.LoadStatements)
		return seconds / statements, ok && ok2 && statements > 0
	}},
	{"lag", func(m *measured) (float64, bool) {
		if m.Beat == nil || m.Task != cluster.Follow {
			return 0, false
		}
		return m.Beat.Seconds(), true
	}},
	{"queue", func(m *measured) (float64, bool) { return m.load(cluster.LoadWaitingClients) }},
	{"cpu", func(m *measured) (float64, bool) { return m.load(cluster.LoadCPUShare) }},
}

// samples is the plots' lines. The zero value is ready. It is not for several
// goroutines at once.
type samples struct {
	latest map[[2]string]*measured // by node and report
	count  int                     // of samples that were ever taken
	times  []int64                 // of those kept, in Unix milliseconds
	lines  map[string]map[string][]number
}

// number is what was measured; NaN, which is null for the browser, if it was not.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	if v := float64(n); !math.IsNaN(v) && !math.IsInf(v, 0) {
		return strconv.AppendFloat(nil, v, 'g', 4, 64), nil
	}
	return []byte("null"), nil
}

var unknown = number(math.NaN())

// hear takes what a node has reported. What is not a report with numbers has nothing
// to be plotted.
func (s *samples) hear(r registry.Reported, now time.Time) {
	if s.latest == nil {
		s.latest = map[[2]string]*measured{}
	}
	key := [2]string{r.Node, r.Name}
	delete(s.latest, key)
	if r.Gone {
		return
	}
	m := &measured{at: now}
	if json.Unmarshal(r.Data, m) == nil && m.Load != nil {
		s.latest[key] = m
	}
}

// take adds a sample of everything.
func (s *samples) take(now time.Time, live map[string]int) {
	if s.lines == nil {
		s.lines = map[string]map[string][]number{}
	}
	s.times, s.count = append(s.times, now.UnixMilli()), s.count+1
	for _, p := range plots {
		values := map[string]float64{}
		for key, m := range s.latest {
			if v, ok := p.of(m); ok && v >= 0 && now.Sub(m.at) <= stale {
				values[key[0]] = v
			}
		}
		s.extend(p.id, values)
	}
	values := map[string]float64{}
	for role, n := range live {
		values[role] = float64(n)
	}
	s.extend(instances, values)
	if over := len(s.times) - sampleKept; over > 0 {
		s.times = s.times[over:]
	}
}

// extend adds a value to each of a plot's lines, and lines that are new. One of which
// nothing is known any more is let go.
func (s *samples) extend(id string, values map[string]float64) {
	lines := s.lines[id]
	if lines == nil {
		lines = map[string][]number{}
		s.lines[id] = lines
	}
	for name := range values {
		if lines[name] == nil && len(lines) < maxSeries {
			line := make([]number, len(s.times)-1, sampleKept+1)
			for i := range line {
				line[i] = unknown
			}
			lines[name] = line
		}
	}
	for name, line := range lines {
		value := unknown
		if v, ok := values[name]; ok {
			value = number(v)
		}
		line = append(line, value)
		if line = line[max(0, len(line)-sampleKept):]; allUnknown(line) {
			delete(lines, name)
			continue
		}
		lines[name] = line
	}
}

func allUnknown(line []number) bool {
	for _, v := range line {
		if !math.IsNaN(float64(v)) {
			return false
		}
	}
	return true
}

// linesShown is what the browser gets: the samples since those that it has.
type linesShown struct {
	// Anew says that these are all, not those that come after others.
	Anew  bool                           `json:"anew,omitempty"`
	Pace  int64                          `json:"pace"` // ms
	Kept  int                            `json:"kept"`
	Times []int64                        `json:"times"`
	Lines map[string]map[string][]number `json:"lines"`
}

// since returns the samples after the first so many.
func (s *samples) since(count int) linesShown {
	n := s.count - count
	shown := linesShown{Anew: count == 0 || n > len(s.times), Pace: samplePace.Milliseconds(), Kept: sampleKept, Lines: map[string]map[string][]number{}}
	n = min(n, len(s.times))
	shown.Times = append([]int64{}, s.times[len(s.times)-n:]...)
	for id, lines := range s.lines {
		shown.Lines[id] = map[string][]number{}
		for name, line := range lines {
			shown.Lines[id][name] = append([]number{}, line[len(line)-n:]...)
		}
	}
	return shown
}
