package farmchaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// scenario is one fault and what is to come of it.
type scenario struct {
	name string
	// fault strikes; what it returns is undone after the farm had time to answer.
	fault func(f *chaosFarm, primary server, replicas []server) (undo func())
	// failovers that there may be: at least, at most. One that is begun and given up is two
	// epochs.
	least, most int
	// gap bounds the time without an acknowledged write.
	gap time.Duration
	// errors that clients may see who had not been in the middle of a statement.
	errors bool
}

const (
	quick  = 3 * time.Second
	patent = 12 * time.Second
)

var scenarios = []scenario{
	{"primary's mysqld killed", func(f *chaosFarm, p server, _ []server) func() {
		f.kill(syscall.SIGKILL, p.mysqld)
		return nil
	}, 1, 1, quick, false},
	{"primary's node killed", func(f *chaosFarm, p server, _ []server) func() {
		f.kill(syscall.SIGKILL, p.sidecar, p.mysqld)
		return nil
	}, 0, 1, patent, false},
	{"primary's mysqld frozen, then thawed", func(f *chaosFarm, p server, _ []server) func() {
		f.kill(syscall.SIGSTOP, p.mysqld)
		return func() { f.kill(syscall.SIGCONT, p.mysqld) }
	}, 1, 1, patent, false},
	{"primary's node frozen, then thawed", func(f *chaosFarm, p server, _ []server) func() {
		f.kill(syscall.SIGSTOP, p.sidecar, p.mysqld)
		return func() { f.kill(syscall.SIGCONT, p.mysqld, p.sidecar) }
	}, 1, 1, patent, false},
	{"primary cut off from all", func(f *chaosFarm, p server, _ []server) func() {
		return f.part(p, append(f.others(p), netip.MustParseAddr(scalerAddr))...)
	}, 1, 1, patent, false},
	{"primary cut off from the replicas", func(f *chaosFarm, p server, replicas []server) func() {
		var all []netip.Addr
		for _, r := range replicas {
			all = append(all, r.address)
		}
		return f.part(p, all...)
	}, 1, 1, patent, false},
	{"primary cut off from the scaler", func(f *chaosFarm, p server, _ []server) func() {
		return f.part(p, netip.MustParseAddr(scalerAddr))
	}, 0, 0, quick, false},
	{"a replica's mysqld killed", func(f *chaosFarm, _ server, replicas []server) func() {
		f.kill(syscall.SIGKILL, replicas[0].mysqld)
		return nil
	}, 0, 0, quick, false},
	{"a replica's node frozen, then thawed", func(f *chaosFarm, _ server, replicas []server) func() {
		f.kill(syscall.SIGSTOP, replicas[0].sidecar, replicas[0].mysqld)
		return func() { f.kill(syscall.SIGCONT, replicas[0].mysqld, replicas[0].sidecar) }
	}, 0, 0, patent, false},
	{"all nodes killed together", func(f *chaosFarm, p server, replicas []server) func() {
		for _, s := range append(replicas, p) {
			f.kill(syscall.SIGKILL, s.sidecar, s.mysqld)
		}
		return nil
	}, 0, 2, 15 * time.Second, true},
	{"errant write on a replica", func(f *chaosFarm, _ server, replicas []server) func() {
		f.asAdmin(replicas[0], "SET GLOBAL read_only=0; CREATE TABLE IF NOT EXISTS app.errant (id INT); SET GLOBAL read_only=1")
		db := f.database(replicas[0])
		f.await("the replica is copied anew, without it", func() error {
			var n int
			if err := db.QueryRow("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA='app' AND TABLE_NAME='errant'").Scan(&n); err != nil || n == 0 {
				return err
			}
			return errors.New("the errant table is there")
		})
		return nil
	}, 0, 0, quick, false},
	{"a replica's data broken", func(f *chaosFarm, _ server, replicas []server) func() {
		farmtest.BreakData(f.t, filepath.Join(f.dir, "farm", replicas[0].name, "mysql"))
		f.kill(syscall.SIGKILL, replicas[0].mysqld)
		f.await("the replica is copied anew", func() error {
			r, err := f.reported(replicas[0].name)
			if err != nil || r.Task == cluster.Clone {
				return err
			}
			return fmt.Errorf("%s: %s", r.Task, r.Detail)
		})
		return nil
	}, 0, 0, quick, false},
	{"appliers stopped with full relay logs, then the primary killed", func(f *chaosFarm, p server, replicas []server) func() {
		for _, r := range replicas {
			f.asAdmin(r, "STOP SLAVE SQL_THREAD")
		}
		time.Sleep(300 * time.Millisecond) // of writes that are received and not applied
		f.kill(syscall.SIGKILL, p.mysqld)
		return nil
	}, 1, 1, patent, false},
	{"a replica killed with unapplied events, then the primary", func(f *chaosFarm, p server, replicas []server) func() {
		f.asAdmin(replicas[0], "STOP SLAVE SQL_THREAD")
		time.Sleep(300 * time.Millisecond) // as above
		f.kill(syscall.SIGKILL, replicas[0].mysqld, p.mysqld)
		return nil
	}, 0, 4, patent, false},
	{"the new primary killed while it is promoted", func(f *chaosFarm, p server, _ []server) func() {
		f.killPromoted(p)
		return nil
	}, 1, 2, patent, false},
	{"the new primary killed right after its promotion", func(f *chaosFarm, p server, _ []server) func() {
		f.kill(syscall.SIGKILL, p.mysqld)
		f.kill(syscall.SIGKILL, f.nextPrimary(p).mysqld)
		return nil
	}, 1, 2, patent, false}, // once if no other has followed it yet: then it leads again
	{"one primary after the other killed", func(f *chaosFarm, p server, _ []server) func() {
		for range 3 {
			f.kill(syscall.SIGKILL, p.mysqld)
			p = f.nextPrimary(p)
			f.settle()
		}
		return nil
	}, 3, 3, patent, true},
	{"primary's links flapping", func(f *chaosFarm, p server, _ []server) func() {
		for range 6 {
			mend := f.part(p, append(f.others(p), netip.MustParseAddr(scalerAddr))...)
			time.Sleep(800 * time.Millisecond)
			mend()
			time.Sleep(800 * time.Millisecond)
		}
		return nil
	}, 0, 1, patent, false},
	{"primary out of connections", func(f *chaosFarm, p server, _ []server) func() {
		return f.exhaust(p)
	}, 0, 0, patent, true},
	{"scaler and registry killed, and started again", func(f *chaosFarm, _ server, _ []server) func() {
		f.kill(syscall.SIGKILL, f.scaler.Process.Pid)
		<-f.ended
		time.Sleep(10 * time.Second) // of a farm without a registry
		f.up()
		return nil
	}, 0, 0, quick, false},
	{"scaler killed with the primary, and started again", scalerKilled(0), 0, 1, 40 * time.Second, false},
	{"scaler killed 15 ms after the primary, and started again", scalerKilled(15 * time.Millisecond), 0, 1, 40 * time.Second, false},
	{"scaler killed 50 ms after the primary, and started again", scalerKilled(50 * time.Millisecond), 0, 1, 40 * time.Second, false},
	planned,
}

const switchover = "planned switchover"

var planned = scenario{switchover, func(f *chaosFarm, _ server, _ []server) func() {
	if text, err := f.run("switchover", "--yes"); err != nil {
		f.t.Error(err)
	} else {
		f.t.Logf("%s", text)
	}
	return nil
}, 0, 0, 500 * time.Millisecond, false}

// onMySQL are the scenarios that a farm of MySQL servers goes through: each way in which a
// primary changes.
var onMySQL = []string{"primary's mysqld killed", "primary's node killed", "primary's node frozen, then thawed", "primary cut off from all", "all nodes killed together", switchover}

// few are the scenarios that run in make test, more those that do in make test-all, too.
var (
	few  = []string{"primary's mysqld killed", "primary cut off from all", switchover}
	more = []string{"primary's node frozen, then thawed", "errant write on a replica"}
)

// scalerKilled kills the primary, and the scaler a moment later. Who comes next goes on
// with the failover, or finds that the primary's own sidecar has started it again.
func scalerKilled(after time.Duration) func(*chaosFarm, server, []server) func() {
	return func(f *chaosFarm, p server, _ []server) func() {
		f.kill(syscall.SIGKILL, p.mysqld)
		time.Sleep(after)
		f.kill(syscall.SIGKILL, f.scaler.Process.Pid)
		<-f.ended
		f.up()
		return nil
	}
}

// killPromoted kills the primary, and whoever is chosen to take its place as soon as that
// stands in the registry.
func (f *chaosFarm) killPromoted(p server) {
	f.t.Helper()
	mysqlds := map[string]int{}
	for _, n := range f.status().Nodes {
		if n.Database != nil {
			mysqlds[n.Name] = n.Database.PID
		}
	}
	client := f.registry(scalerAddr)
	begun, watched := make(chan struct{}), make(chan error, 1)
	begin := sync.OnceFunc(func() { close(begun) })
	var killed string
	ctx, cancel := context.WithTimeout(f.t.Context(), limit)
	defer cancel()
	go func() {
		watched <- f.assignments(ctx, client, func(a *cluster.Assignment) bool {
			begin()
			if a.Phase != cluster.Promoting {
				return true
			}
			leader, _ := a.Leader()
			killed = leader.Name
			f.kill(syscall.SIGKILL, mysqlds[leader.Name])
			return false
		})
	}()
	<-begun
	f.kill(syscall.SIGKILL, p.mysqld)
	if err := <-watched; err != nil {
		f.t.Errorf("nobody was promoted: %v", err)
	}
	f.t.Logf("%s was killed as soon as it was to lead", killed)
}

// nextPrimary waits until another server than p is the primary.
func (f *chaosFarm) nextPrimary(p server) server {
	f.t.Helper()
	f.await("there is another primary than "+p.name, func() error {
		s, err := f.look()
		if err == nil && (s.Assignment == nil || s.Assignment.Primary == "" || s.Assignment.Primary == p.name) {
			err = fmt.Errorf("%v", s.Reasons)
		}
		return err
	})
	next, _ := f.servers()
	return next
}

// exhaust takes every connection that a server has to give, for some seconds.
func (f *chaosFarm) exhaust(p server) (undo func()) {
	f.asAdmin(p, "SET GLOBAL max_connections=40")
	db := f.database(p)
	var held []*sql.Conn
	for range 60 {
		c, err := db.Conn(context.Background())
		if err != nil {
			f.t.Logf("%d connections held: %v", len(held), err)
			break
		}
		held = append(held, c)
	}
	if len(held) == 60 {
		f.t.Error("the server has connections without end")
	}
	time.Sleep(6 * time.Second) // of a primary that refuses everybody
	for _, c := range held {
		_ = c.Close()
	}
	_ = db.Close()
	f.asAdmin(p, "SET GLOBAL max_connections=151")
	return nil
}

// part cuts every link between a server and the addresses, both ways.
func (f *chaosFarm) part(s server, others ...netip.Addr) (mend func()) {
	names := f.names()
	for _, other := range others {
		f.network.cut(s.name, other)
		f.network.cut(names[other], s.address)
	}
	return func() {
		for _, other := range others {
			f.network.mend(s.name, other)
			f.network.mend(names[other], s.address)
		}
	}
}

// names are the nodes by address.
func (f *chaosFarm) names() map[netip.Addr]string {
	names := map[netip.Addr]string{netip.MustParseAddr(scalerAddr): scalerNode}
	for _, n := range f.status().Nodes {
		names[n.Address] = n.Name
	}
	return names
}

// others are the addresses of all other nodes but the scaler's.
func (f *chaosFarm) others(s server) []netip.Addr {
	var list []netip.Addr
	for _, n := range f.status().Nodes {
		if n.Address != s.address {
			list = append(list, n.Address)
		}
	}
	return list
}

// TestAMySQLFarmLooksAfterItself is TestAFarmLooksAfterItself on MySQL.
func TestAMySQLFarmLooksAfterItself(t *testing.T) {
	if !*all {
		t.Skip("runs in make chaos-farm")
	}
	f := start(t, options{count: "3", flavor: farm.MySQL})
	l := begin(t, f.proxy, breath)
	for _, s := range scenarios {
		if slices.Contains(onMySQL, s.name) && !t.Run(s.name, func(t *testing.T) { f.strike(t, l, s) }) {
			break
		}
	}
}

// TestAFarmLooksAfterItself runs every scenario against one farm, and holds the clients'
// ledger against each server after each.
func TestAFarmLooksAfterItself(t *testing.T) {
	f := start(t, options{count: "3"})
	l := begin(t, f.proxy, breath)
	for _, s := range scenarios {
		if !*all && !slices.Contains(few, s.name) && (testing.Short() || !slices.Contains(more, s.name)) {
			continue
		}
		if !t.Run(s.name, func(t *testing.T) { f.strike(t, l, s) }) {
			break
		}
	}
}

// TestSwitchoversOneAfterTheOther: no client sees any of twenty.
func TestSwitchoversOneAfterTheOther(t *testing.T) {
	if !*all {
		t.Skip("runs in make chaos-farm")
	}
	f := start(t, options{count: "3"})
	l := begin(t, f.proxy, breath)
	for n := range 20 {
		if !t.Run(strconv.Itoa(n+1), func(t *testing.T) { f.strike(t, l, planned) }) {
			break
		}
	}
}

// strike runs one scenario.
func (f *chaosFarm) strike(t *testing.T, l *ledger, s scenario) {
	outer := f.t
	f.t = t
	defer func() { f.t = outer }()
	f.settle()
	f.flows(l)
	primary, replicas := f.servers()
	before := f.status().Assignment
	from := time.Now()
	undo := s.fault(f, primary, replicas)
	at := time.Now()
	f.flows(l)
	if undo != nil {
		// Long enough for what else may follow from it.
		time.Sleep(3 * time.Second)
		undo()
	}
	f.settle()
	took := time.Since(at)
	f.flows(l)
	sum := l.since(from)
	after := f.status().Assignment
	failovers := int(after.Epoch - before.Epoch)
	t.Logf("| %s | gap %v | settled %v | acknowledged %d | unknown %d | failed %d | reads failed %d, gap %v | epochs %d | %s -> %s |",
		s.name, sum.Gap.Round(time.Millisecond), took.Round(100*time.Millisecond), sum.Acked, sum.Unknown, sum.Failed, sum.ReadErr, sum.ReadGap.Round(time.Millisecond), failovers, before.Primary, after.Primary)
	if s.name == switchover {
		failovers--
	}
	if failovers < s.least || failovers > s.most {
		t.Errorf("%d failovers, expected %d to %d", failovers, s.least, s.most)
	}
	if *all && sum.Gap > s.gap {
		t.Errorf("no write was acknowledged for %v, the limit is %v", sum.Gap, s.gap)
	}
	// Each writer can have had one statement on the way each time; none when the primary
	// stops in order.
	if sum.Unknown > writers*max(1, s.most) || s.name == switchover && sum.Unknown > 0 {
		t.Errorf("the outcome of %d writes is unknown, of %d writers", sum.Unknown, writers)
	}
	if !s.errors && (sum.Failed > 0 || sum.ReadErr > 0) {
		t.Errorf("%d writes failed that were not on the way, and %d reads: %v", sum.Failed, sum.ReadErr, sum.First)
	}
	f.auditAll(l, from, int(after.Epoch-before.Epoch))
}

// flows waits until clients have written for a while from now on.
func (f *chaosFarm) flows(l *ledger) {
	f.t.Helper()
	at := time.Now()
	f.await("writes flow", func() error {
		if sum := l.since(at); sum.Acked < 50 {
			return fmt.Errorf("%d writes were acknowledged since", sum.Acked)
		}
		return nil
	})
}

// auditAll holds the ledger against every server once that has all there is, and against the
// number of epochs that there were since a moment.
func (f *chaosFarm) auditAll(l *ledger, since time.Time, epochs int) {
	f.t.Helper()
	primary, replicas := f.servers()
	for _, s := range append(slices.Clone(replicas), primary) {
		db := f.database(s)
		var lost, twice []int64
		f.await(s.name+" has every write", func() (err error) {
			if lost, twice, err = l.auditUntil(db, time.Now().Add(-2*time.Second)); err != nil || len(lost) == 0 {
				return err
			}
			return fmt.Errorf("%d acknowledged writes are missing, such as %d", len(lost), lost[0])
		})
		if len(twice) > 0 {
			f.t.Errorf("%s: %d writes are there more than once, such as %d", s.name, len(twice), twice[0])
		}
	}
	if what, err := l.overlap(f.database(primary), since, epochs); err != nil || what != "" {
		f.t.Errorf("two servers took writes: %s %v", what, err)
	}
}
