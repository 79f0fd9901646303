package farmfile

import (
	"fmt"

	"farmhand/internal/service"
)

// Policies are what the farm may do by itself.
type Policies struct {
	Failover    Failover    `yaml:"failover" about:"what happens when the primary is lost"`
	Maintenance Maintenance `yaml:"maintenance" about:"when servers may be replaced or restarted though they work"`
}

// FailoverMode is who decides that a failover is to be.
type FailoverMode string

// The modes.
const (
	Automatic FailoverMode = "automatic" // the scaler
	Manual    FailoverMode = "manual"    // a person
)

func (FailoverMode) choices() []string { return []string{string(Automatic), string(Manual)} }

// Failover is what happens when the primary is lost.
type Failover struct {
	Role        string       `yaml:"role" is:"label" about:"the role of kind mysql whose primary it is"`
	Mode        FailoverMode `yaml:"mode" about:"who decides: the scaler, or a person"`
	Interval    Duration     `yaml:"interval" is:"100ms..1m" about:"the time between two probes of the primary"`
	Failures    int          `yaml:"failures" is:"1..100" about:"probes in a row that fail before the primary is suspect"`
	Deadline    Duration     `yaml:"deadline" is:"1s..1h" about:"how long a whole failover may take; then it is given up and a person is asked"`
	Quiet       Duration     `yaml:"quiet" is:"0..24h" about:"the time after a failover in which there is no second one by itself, unless another server fails"`
	MinReplicas int          `yaml:"min_replicas" is:"1..99" about:"how many replicas must answer for one of them to be promoted"`
}

// Maintenance is when servers that work may be replaced or restarted.
type Maintenance struct {
	Windows []Window `yaml:"windows" is:"0..32" about:"the only times for it; none for at any time"`
}

func (v *Policies) check(p *service.Problems, f *Farm) {
	for i, w := range v.Maintenance.Windows {
		w.check(p, fmt.Sprintf("policies.maintenance.windows[%d]", i))
	}
	v.Failover.check(p, "policies.failover", f)
}

func (v *Failover) check(p *service.Problems, path string, f *Farm) {
	if suspect := Duration(v.Failures) * v.Interval; v.Deadline > 0 && v.Deadline <= suspect {
		p.Add(path+".deadline", "%s is over before the primary is suspect, after %d probes every %s; expected more than %s", v.Deadline, v.Failures, v.Interval, suspect)
	}
	var found string // the farm's database
	for name, role := range sorted(f.Roles) {
		if role.Kind == MySQLKind && (found == "" || name == v.Role) {
			found = name
		}
	}
	if found == "" {
		return // no primary that could be lost
	}
	if found != v.Role {
		p.Add(path+".role", "there is no role %q of kind mysql; the farm's is called %q: name that here, or call it %[1]s", v.Role, found)
		return
	}
	// A role that may be one server alone has no replica then, and says so by
	// its count.
	if count := f.Roles[found].Count; v.Mode == Automatic && count.Min > 1 && count.Min <= count.Max && v.MinReplicas > count.Min-1 {
		p.Add(path+".min_replicas", "of %d servers, the least that %s has, %d are replicas; expected at most that, or mode: manual", count.Min, found, count.Min-1)
	}
}
