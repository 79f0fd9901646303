package mysqld

import (
	"context"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/registry"
)

// orderOf is db1's order in a cluster of two, or alone.
func orderOf(task cluster.Task, others int, change ...func(*order)) *order {
	a := &cluster.Assignment{Epoch: 3, Serial: 1, SemiSync: true, Servers: []cluster.Server{{Name: "db1", ID: 1, Task: task}}}
	if task == cluster.Follow || task == cluster.Clone {
		a.Servers[0].Source = "db2"
	}
	if others > 0 {
		a.Servers = append(a.Servers, cluster.Server{Name: "db2", ID: 2, Address: "127.0.0.1:2", Task: cluster.Hold})
	}
	o := newOrder(a, "db1", true)
	for _, f := range change {
		f(o)
	}
	return o
}

func TestNext(t *testing.T) {
	now := time.Now()
	crashed := func(o *order, ago time.Duration) picture {
		return picture{order: o, process: cluster.Crashed, since: now.Add(-ago)}
	}
	lead, alone := orderOf(cluster.Lead, 1), orderOf(cluster.Lead, 0)
	confirmed := crashed(lead, leadAgain)
	confirmed.confirmed = 3
	earlier := confirmed
	earlier.confirmed = 2
	follow := orderOf(cluster.Follow, 1)
	back := orderOf(cluster.Lead, 1, func(o *order) { o.part.Restore = &cluster.Restore{ID: "2"} })
	for name, c := range map[string]struct {
		p    picture
		want step
	}{
		"nothing is known":                            {picture{process: cluster.Running}, rest},
		"only remembered":                             {picture{order: orderOf(cluster.Fence, 1, func(o *order) { o.heard = false }), process: cluster.Running}, rest},
		"not in the assignment":                       {picture{order: orderOf("", 1), process: cluster.Running}, rest},
		"a failure was just now":                      {picture{order: follow, process: cluster.Absent, notBefore: now.Add(time.Second)}, rest},
		"fence what runs":                             {picture{order: orderOf(cluster.Fence, 1), process: cluster.Running}, kill},
		"fence what has crashed":                      {crashed(orderOf(cluster.Fence, 1), 0), rest},
		"retire what runs":                            {picture{order: orderOf(cluster.Retire, 1), process: cluster.Running}, stop},
		"retire what does not":                        {picture{order: orderOf(cluster.Retire, 1), process: cluster.Absent}, rest},
		"clone over what runs":                        {picture{order: orderOf(cluster.Clone, 1), process: cluster.Running}, kill},
		"clone":                                       {picture{order: orderOf(cluster.Clone, 1), process: cluster.Absent, empty: true}, copyData},
		"start what is copied":                        {picture{order: orderOf(cluster.Clone, 1), process: cluster.Absent, copied: true}, start},
		"follow on a copy":                            {picture{order: orderOf(cluster.Clone, 1), process: cluster.Running, copied: true}, carryOut},
		"a restore over what runs":                    {picture{order: back, process: cluster.Running, restored: "1"}, kill},
		"a restore over what has crashed":             {crashed(back, 0), restoreData},
		"a primary that begins with a backup":         {picture{order: back, process: cluster.Absent, empty: true}, restoreData},
		"start what is restored":                      {picture{order: back, process: cluster.Absent, restored: "2"}, start},
		"lead with what is restored":                  {picture{order: back, process: cluster.Running, restored: "2"}, carryOut},
		"an empty primary":                            {picture{order: lead, process: cluster.Absent, empty: true}, makeData},
		"an empty follower":                           {picture{order: follow, process: cluster.Absent, empty: true}, makeData},
		"nothing to hold":                             {picture{order: orderOf(cluster.Hold, 1), process: cluster.Absent, empty: true}, rest},
		"a primary that was stopped":                  {picture{order: lead, process: cluster.Absent}, start},
		"a primary that has just crashed":             {crashed(lead, 0), rest},
		"nobody else could lead":                      {crashed(alone, tellFirst), start},
		"nobody has been told of the crash":           {crashed(alone, 0), rest},
		"nobody took its place":                       {crashed(lead, leadAgain), confirm},
		"nobody took its place, and it is sure":       {confirmed, start},
		"it was sure in another epoch":                {earlier, confirm},
		"a follower that has crashed":                 {crashed(follow, tellFirst), start},
		"a server that is to do something else":       {picture{order: lead, carried: follow, process: cluster.Running, verified: now}, carryOut},
		"a server that does what it is to":            {picture{order: lead, carried: orderOf(cluster.Lead, 1), process: cluster.Running, verified: now}, rest},
		"a server that has not been looked at lately": {picture{order: lead, carried: lead, process: cluster.Running, verified: now.Add(-verifyEvery)}, carryOut},
	} {
		got, wait := next(c.p, now)
		if got != c.want || (got == rest) != (wait > 0) {
			t.Errorf("%s: %v, %v; want %v", name, got, wait, c.want)
		}
	}
}

func TestFences(t *testing.T) {
	now, life := time.Now(), context.Background()
	long, past := now.Add(-time.Hour), now.Add(-time.Second)
	leads := picture{order: orderOf(cluster.Lead, 1), process: cluster.Running, server: &dbserver.Server{}, lead: life}
	with := func(change func(*picture)) picture {
		p := leads
		change(&p)
		return p
	}
	async := orderOf(cluster.Lead, 1)
	async.assignment.SemiSync = false
	for name, c := range map[string]struct {
		p                  picture
		until, began, beat time.Time
		want               bool
	}{
		"the lease holds":                         {leads, now.Add(time.Second), long, time.Time{}, false},
		"it has lapsed":                           {leads, past, long, long, true},
		"there never was one":                     {leads, time.Time{}, long, long, true},
		"the sidecar has just begun":              {leads, time.Time{}, past, long, false},
		"commits are acknowledged":                {leads, past, long, past, false},
		"commits go on without":                   {with(func(p *picture) { p.order = async }), past, long, past, true},
		"it is alone":                             {with(func(p *picture) { p.order = orderOf(cluster.Lead, 0) }), past, long, long, false},
		"it follows":                              {with(func(p *picture) { p.order, p.lead = orderOf(cluster.Follow, 1), nil }), past, long, long, false},
		"it does not lead yet":                    {with(func(p *picture) { p.lead = nil }), past, long, long, false},
		"it did when it was last heard of":        {with(func(p *picture) { p.lead, p.order = nil, orderOf(cluster.Lead, 1, func(o *order) { o.heard = false }) }), past, long, long, true},
		"it does not run":                         {with(func(p *picture) { p.server = nil }), past, long, long, false},
		"nothing was ever heard of an assignment": {picture{server: &dbserver.Server{}}, past, long, long, false},
	} {
		if got := fences(c.p, now, c.until, c.began, c.beat); (got != "") != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestSameWork is what keeps a change for proxies from being one for servers.
func TestSameWork(t *testing.T) {
	if !sameWork(nil, nil) || sameWork(nil, orderOf(cluster.Lead, 1)) {
		t.Error("no order")
	}
	for name, c := range map[string]struct {
		task   cluster.Task
		change func(*order)
		same   bool
	}{
		"serial":                 {cluster.Follow, func(o *order) { o.assignment.Serial++ }, true},
		"state":                  {cluster.Follow, func(o *order) { o.part.State, o.part.Weight = "serving", 3 }, true},
		"epoch of a follower":    {cluster.Follow, func(o *order) { o.assignment.Epoch++ }, true},
		"epoch of a primary":     {cluster.Lead, func(o *order) { o.assignment.Epoch++ }, false},
		"acknowledging":          {cluster.Follow, func(o *order) { o.part.Acknowledges = true }, false},
		"the source's address":   {cluster.Follow, func(o *order) { o.source.Address = "127.0.0.1:3" }, false},
		"waiting":                {cluster.Lead, func(o *order) { o.assignment.SemiSync = false }, false},
		"waiting, of a follower": {cluster.Follow, func(o *order) { o.assignment.SemiSync = false }, true},
		"task":                   {cluster.Hold, func(o *order) { o.part.Task = cluster.Fence }, false},
		"heard":                  {cluster.Hold, func(o *order) { o.heard = false }, false},
	} {
		if got := sameWork(orderOf(c.task, 1), orderOf(c.task, 1, c.change)); got != c.same {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestAnOldAssignmentIsRefused: nothing goes back.
func TestAnOldAssignmentIsRefused(t *testing.T) {
	w := newWorld(t, farm.MariaDB, "db1")
	a, err := New(w.nodes["db1"].options())
	if err != nil {
		t.Fatal(err)
	}
	tell := func(epoch farm.Epoch, serial uint64, task cluster.Task) {
		t.Helper()
		assignment := orderOf(task, 0).assignment
		assignment.Epoch, assignment.Serial, assignment.NextID = epoch, serial, 9
		assignment.Servers[0].Address = "127.0.0.1:1"
		data, err := assignment.Encode()
		if err != nil {
			t.Fatal(err)
		}
		a.hear(registry.Value{Data: data})
	}
	tell(3, 5, cluster.Lead)
	tell(2, 6, cluster.Hold)
	tell(3, 4, cluster.Hold)
	tell(3, 5, cluster.Hold)
	a.hear(registry.Value{Data: []byte("{")})
	a.hear(registry.Value{})
	if o := a.look().order; o.task() != cluster.Lead {
		t.Error(o.task())
	}
	tell(3, 6, cluster.Hold)
	if o := a.look().order; o.task() != cluster.Hold {
		t.Error(o.task())
	}
}
