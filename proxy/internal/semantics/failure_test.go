package semantics

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"farmhand/internal/drivertest"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/topology"
	"farmhand/proxy/internal/wire"
)

// faulty is a farm of its own whose servers the proxy reaches by links that can
// be cut.
type faulty struct {
	farm  *farmtest.Farm
	proxy *drivertest.Proxy
	links map[string]*farmtest.Link // by server
	epoch farm.Epoch
}

// config of proxies that meet failures: they give up soon.
const impatient = extra + `
writes: {wait: 3s}
`

func newFaulty(t *testing.T, flavor farm.Flavor, replicas int, config string) *faulty {
	t.Helper()
	w := &faulty{farm: farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: replicas}), links: map[string]*farmtest.Link{}, epoch: 1}
	w.farm.Primary().Exec(t, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)", "INSERT INTO app.t VALUES (1,1)")
	w.proxy = drivertest.StartProxy(t, w.farm, config)
	for _, s := range w.farm.Servers() {
		w.links[s.Name()] = farmtest.NewLink(t, s.Addr())
	}
	w.write(t, func(*farm.Cluster) {})
	settle(t, w.farm, w.proxy)
	return w
}

// onFlavors runs a test on each flavor, with servers of its own.
func onFlavors(t *testing.T, test func(t *testing.T, flavor farm.Flavor)) {
	for _, flavor := range flavors {
		t.Run(flavor.String(), func(t *testing.T) {
			farmtest.Need(t, flavor)
			test(t, flavor)
		})
	}
}

// write gives the proxy a topology of the next epoch, by the links, and waits
// until it is in force.
func (w *faulty) write(t *testing.T, change func(*farm.Cluster)) {
	t.Helper()
	w.epoch++
	next := w.farm.Topology()
	cluster := next.Clusters["default"]
	cluster.Epoch = w.epoch
	cluster.Primary.Address = w.links[cluster.Primary.Name].Addr()
	for i := range cluster.Replicas {
		cluster.Replicas[i].Address = w.links[cluster.Replicas[i].Name].Addr()
	}
	change(&cluster)
	next.Clusters["default"] = cluster
	if err := topology.Write(w.proxy.Topology, next); err != nil {
		t.Fatal(err)
	}
	w.status(t, "epoch", fmt.Sprint(w.epoch))
}

// status waits until SHOW FARMHAND STATUS says so.
func (w *faulty) status(t *testing.T, name, value string) {
	t.Helper()
	farmtest.Eventually(t, name+" is "+value, func() error {
		for _, row := range console(t, w.proxy, "STATUS") {
			if row["Name"] == name && strings.HasPrefix(row["Value"], value) {
				return nil
			} else if row["Name"] == name {
				return fmt.Errorf("it is %s", row["Value"])
			}
		}
		return fmt.Errorf("there is none")
	})
}

// serves waits until the proxy says what a server serves, and returns the
// reason.
func (w *faulty) serves(t *testing.T, server, what string) string {
	t.Helper()
	reason := ""
	farmtest.Eventually(t, server+" serves "+what, func() error {
		for _, row := range console(t, w.proxy, "SERVERS") {
			if row["Name"] == server {
				if reason = row["Reason"]; row["Serves"] == what {
					return nil
				}
				return fmt.Errorf("it serves %s: %s", row["Serves"], reason)
			}
		}
		return fmt.Errorf("there is no such server")
	})
	return reason
}

// becomesPrimary makes the only replica the primary, alone.
func (w *faulty) becomesPrimary(t *testing.T, flavor farm.Flavor) {
	t.Helper()
	replica := w.farm.Replica(0)
	if flavor == farm.MySQL {
		replica.Exec(t, "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL super_read_only=0", "SET GLOBAL read_only=0")
	} else {
		replica.Exec(t, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only=0")
	}
	w.write(t, func(c *farm.Cluster) {
		promoted := c.Replicas[0]
		promoted.State, promoted.Weight = "", 0
		c.Primary, c.Replicas = &promoted, nil
	})
}

func (w *faulty) client(t *testing.T) *client {
	t.Helper()
	return connect(t, w.proxy.TCP, app)
}

// good fails the test unless an answer is one.
func good(t *testing.T, what string, r *reply) *reply {
	t.Helper()
	if r.err != nil || r.lost != nil {
		t.Errorf("%s: %v", what, r)
	}
	return r
}

// victimised runs a statement over a link that takes what is sent, answers
// nothing and then breaks. It stays like that.
func victimised(c *client, l *farmtest.Link, sql string) *reply {
	l.Stall()
	breaks := time.AfterFunc(200*time.Millisecond, l.Reset)
	defer breaks.Stop()
	return c.sql(sql)
}

func TestSemantics25ReadsOutliveTheirServer(t *testing.T) { onFlavors(t, checkReadsOutliveTheirServer) }

func checkReadsOutliveTheirServer(t *testing.T, flavor farm.Flavor) {
	w := newFaulty(t, flavor, 2, impatient)
	c := w.client(t)
	for range 3 {
		// Before the first byte: it runs again elsewhere.
		id := good(t, "a read", c.sql("SELECT @@server_id")).first
		victim := w.links["replica1"]
		if id == "3" {
			victim = w.links["replica2"]
		}
		if r := good(t, "a read whose server dies", victimised(c, victim, "SELECT @@server_id")); r.first == id {
			t.Errorf("%s is dead and serves", id)
		}
		victim.Restore()
		settle(t, w.farm, w.proxy)
	}
	// After it: an error, in place of the rest, and the session goes on.
	w.farm.Primary().Exec(t, "INSERT INTO app.t VALUES (2,1),(3,1),(4,1),(5,1),(6,1),(7,1),(8,1),(9,1),(10,1)")
	settle(t, w.farm, w.proxy)
	// Of the primary as well: it takes the read when both replicas have just lost
	// theirs.
	for _, l := range w.links {
		l.DropAfter(300000)
		l.Reset() // of the connections that are there, which it does not hold for
	}
	settle(t, w.farm, w.proxy)
	r := c.sql("SELECT REPEAT('x', 1000) FROM t a, t b, t c")
	switch {
	case r.err == nil && r.lost == nil:
		t.Errorf("a result that was cut came whole, with %d rows", r.rows)
	case r.err != nil && (r.err.Code != 2013 || !strings.Contains(r.err.Message, "in the middle of the answer")):
		t.Errorf("the error of a result that was cut: %v", r.err)
	case r.rows >= 1000:
		t.Errorf("%d rows came of a result that was cut", r.rows)
	}
	for i, p := range r.packets[:len(r.packets)-1] {
		if i > 2 && strings.Contains(p, "x") && !strings.Contains(p, strings.Repeat("x", 50)) {
			t.Errorf("a spliced row: %s", p)
		}
	}
	for _, l := range w.links {
		l.Restore()
	}
	if r.lost == nil {
		good(t, "the next read", c.sql("SELECT 1"))
	}
	// A read in a transaction does not: the transaction is gone.
	c = w.client(t)
	good(t, "begin", c.sql("BEGIN"))
	w.links["primary"].Reset()
	if r := c.sql("SELECT 1"); r.err == nil && r.lost == nil {
		t.Errorf("a transaction goes on without its server: %v", r)
	}
}

func TestSemantics26WritesAreSentOnce(t *testing.T) { onFlavors(t, checkWritesAreSentOnce) }

func checkWritesAreSentOnce(t *testing.T, flavor farm.Flavor) {
	w := newFaulty(t, flavor, 1, impatient)
	count := func() string { return w.farm.Primary().Query(t, "SELECT COUNT(*) AS n FROM app.t")[0].String("n") }
	unknown := func(what string, r *reply) {
		t.Helper()
		if r.err == nil || r.err.Code != 2013 || !strings.Contains(r.err.Message, "outcome is unknown") || !strings.Contains(r.err.Message, "not sent again") {
			t.Errorf("%s: %v", what, r)
		}
	}
	// It was sent, and whether it arrived nobody can say.
	c := w.client(t)
	good(t, "a write", c.sql("INSERT INTO t VALUES (100,0)"))
	before := count()
	unknown("a write that did not arrive", victimised(c, w.links["primary"], "INSERT INTO t VALUES (101,0)"))
	w.links["primary"].Restore()
	w.serves(t, "primary", "writes")
	if after := count(); after != before {
		t.Errorf("there are %s rows after it, %s before", after, before)
	}
	// It has arrived and waits for a lock.
	holder := connect(t, w.farm.Primary().Addr(), app)
	good(t, "begin", holder.sql("BEGIN"))
	good(t, "a lock", holder.sql("SELECT * FROM t WHERE id=1 FOR UPDATE"))
	c = w.client(t)
	done := make(chan *reply, 1)
	go func() { done <- c.sql("UPDATE t SET v=v+1 WHERE id=1") }()
	farmtest.Eventually(t, "the write waits for the lock", func() error {
		if rows := w.farm.Primary().Query(t, "SELECT ID AS id FROM information_schema.processlist WHERE INFO LIKE 'UPDATE t SET%'"); len(rows) == 0 {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	w.links["primary"].Reset()
	unknown("a write that arrived", <-done)
	good(t, "rollback", holder.sql("ROLLBACK"))
	w.serves(t, "primary", "writes")
	if v := w.farm.Primary().Query(t, "SELECT v FROM app.t WHERE id=1")[0].String("v"); v != "1" && v != "2" {
		t.Errorf("the update was made more than once: %s", v)
	}
	// No byte has reached the server: an idle connection that died is replaced.
	c = w.client(t)
	good(t, "a write", c.sql("INSERT INTO t VALUES (300,0)"))
	w.links["primary"].Reset()
	w.serves(t, "primary", "writes")
	good(t, "a write on a connection that died while idle", c.sql("INSERT INTO t VALUES (301,0)"))
	// An interrupted COMMIT is never repeated.
	c = w.client(t)
	good(t, "begin", c.sql("BEGIN"))
	good(t, "a write", c.sql("INSERT INTO t VALUES (400,0)"))
	if r := victimised(c, w.links["primary"], "COMMIT"); r.err == nil || !strings.Contains(r.err.Message, "unknown") {
		t.Errorf("an interrupted COMMIT: %v", r)
	}
}

func TestSemantics27WritesWaitForAPrimary(t *testing.T) { onFlavors(t, checkWritesWaitForAPrimary) }

func checkWritesWaitForAPrimary(t *testing.T, flavor farm.Flavor) {
	w := newFaulty(t, flavor, 1, extra+"\nwrites: {wait: 20s, max_waiting_per_user: 2}\n")
	idle, pinned := w.client(t), w.client(t)
	good(t, "a write", idle.sql("INSERT INTO t VALUES (10,0)"))
	good(t, "a temporary table", pinned.sql("CREATE TEMPORARY TABLE tmp (i INT)"))
	settle(t, w.farm, w.proxy)
	w.farm.Primary().Kill9(t)
	w.serves(t, "primary", "nothing")
	// Two wait, the third is one too many.
	done := make(chan *reply, 2)
	for i := range 2 {
		c := w.client(t)
		go func() { done <- c.sql(fmt.Sprintf("INSERT INTO t VALUES (%d,0)", 20+i)) }()
	}
	third, limited := w.client(t), "SET STATEMENT max_statement_time=1 FOR "
	if flavor == farm.MySQL {
		limited = ""
	}
	farmtest.Eventually(t, "a third write is refused", func() error {
		r := third.sql(limited + "INSERT INTO t VALUES (30,0)")
		if r.err == nil || !strings.Contains(r.err.Message, "max_waiting") && !strings.Contains(r.err.Message, "which is the limit") {
			return fmt.Errorf("it says %v", r)
		}
		return nil
	})
	// The replica becomes the primary, by hand.
	w.becomesPrimary(t, flavor)
	for range 2 {
		good(t, "a write that waited", <-done)
	}
	// An idle session never noticed.
	good(t, "an idle session's write", idle.sql("INSERT INTO t VALUES (11,0)"))
	if r := good(t, "a read", idle.sql("SELECT COUNT(*) FROM t")); r.first != "5" {
		t.Errorf("there are %s rows", r.first)
	}
	// One with state that is lost does.
	if r := pinned.sql("SELECT * FROM tmp"); r.err == nil && r.lost == nil {
		t.Errorf("a temporary table outlives its server: %v", r)
	}
}

// tooLong makes a statement one of which only the head is kept (limits.classify_size).
var tooLong = " /*" + strings.Repeat("x", 2<<20) + "*/"

// TestLongCommandsThatAreRefused: the rest of a command that is not passed on is not
// taken for the next one.
func TestLongCommandsThatAreRefused(t *testing.T) { onFlavors(t, checkLongRefused) }

func checkLongRefused(t *testing.T, flavor farm.Flavor) {
	w := newFaulty(t, flavor, 1, impatient)
	w.farm.Primary().Exec(t, "CREATE TABLE app.big (b LONGBLOB)")
	w.farm.WaitCaughtUp(t)
	c := w.client(t)
	refused := func(what string, r *reply, code uint16) {
		t.Helper()
		if r.err == nil || r.err.Code != code {
			t.Errorf("%s: %v, want error %d", what, r, code)
		}
		c.pings(t)
	}
	good(t, "a read on the replica", c.sql("SELECT * FROM t"))
	refused("what the replica knows", c.sql("INSERT INTO t SELECT 50+FOUND_ROWS(),0"+tooLong), 1235)
	refused("a bulk execution of who has not said that it can", c.do(append(statement(wire.ComStmtBulkExecute, 1, 0, 0), tooLong...)), 1047)
	// The connection that has the statement is gone, and the table.
	prepared := good(t, "a statement is prepared", c.do(prepare("INSERT INTO big VALUES (?)")))
	w.links["primary"].Reset()
	w.farm.Primary().Exec(t, "DROP TABLE app.big")
	refused("a statement that cannot be prepared any more", c.do(c.execution(prepared.prepared.ID, 0, true, tooLong)), 1146)
}

// TestWhatIsAskedAfterANewPrimary: a write that asks for what only the primary before
// knows is refused.
func TestWhatIsAskedAfterANewPrimary(t *testing.T) { onFlavors(t, checkAskedAfterANewPrimary) }

func checkAskedAfterANewPrimary(t *testing.T, flavor farm.Flavor) {
	w := newFaulty(t, flavor, 1, impatient)
	good(t, "rows", w.client(t).sql("INSERT INTO t VALUES (2,0),(3,0)"))
	rows, count := w.client(t), w.client(t)
	if r := good(t, "three rows", rows.sql("SELECT id FROM t ORDER BY id DESC FOR UPDATE")); r.first != "3" {
		t.Fatalf("the table begins with %s", r.first)
	}
	good(t, "two rows written", count.sql("UPDATE t SET v=v+1 WHERE id>1"))
	w.farm.WaitCaughtUp(t)
	w.becomesPrimary(t, flavor)
	for _, x := range []struct {
		c               *client
		write, question string
	}{
		{rows, "INSERT INTO t SELECT 50+FOUND_ROWS(),0", "SELECT COUNT(*) FROM t WHERE id=53"},
		{count, "INSERT INTO t SELECT 60+ROW_COUNT(),0" + tooLong, "SELECT COUNT(*) FROM t WHERE id=62"},
	} {
		r := x.c.sql(x.write)
		x.c.pings(t)
		if r.err != nil && r.err.Code == 1235 && strings.HasPrefix(r.err.Message, "Farmhand: ") {
			continue
		}
		good(t, x.write, r)
		if r := good(t, x.question, x.c.sql(x.question)); r.first != "1" {
			t.Errorf("%s was given a wrong number", x.write)
		}
	}
}

func TestSemantics28WhoServesReads(t *testing.T) { onFlavors(t, checkWhoServesReads) }

func checkWhoServesReads(t *testing.T, flavor farm.Flavor) {
	w := newFaulty(t, flavor, 2, impatient)
	c := w.client(t)
	// A replica whose replication is broken serves nothing.
	one, two := w.farm.Replica(0), w.farm.Replica(1)
	one.StopReplication(t)
	w.serves(t, one.Name(), "nothing")
	for range 10 {
		if r := good(t, "a read", w.client(t).sql("SELECT @@server_id")); r.first != "3" {
			t.Errorf("served by %s though its replication is stopped", r.first)
		}
	}
	// None is left: the primary serves.
	two.Kill9(t)
	w.serves(t, two.Name(), "nothing")
	if r := good(t, "a read", c.sql("SELECT @@server_id")); r.first != "1" {
		t.Errorf("served by %s, not by the primary", r.first)
	}
	one.StartReplication(t)
	w.serves(t, one.Name(), "reads")
	farmtest.Eventually(t, "the replica serves again", func() error {
		if r := c.sql("SELECT @@server_id"); r.first != "2" {
			return fmt.Errorf("served by %s", r.first)
		}
		return nil
	})
	// A server that is not the primary's replica at all serves nothing.
	stranger := farmtest.Start(t, farmtest.Options{Flavor: flavor}).Primary()
	w.write(t, func(c *farm.Cluster) {
		c.Replicas = append(c.Replicas[:1], farm.Server{Name: "stranger", Address: stranger.Addr(), State: farm.Serving, Weight: 1000})
	})
	if reason := w.serves(t, "stranger", "nothing"); reason == "" {
		t.Error("nobody says why a stranger serves nothing")
	}
	for range 10 {
		if r := good(t, "a read", w.client(t).sql("SELECT @@port")); strings.HasSuffix(stranger.Addr(), ":"+r.first) {
			t.Error("a server that is no replica of the primary serves reads")
		}
	}
}

func TestSemantics29RefusalsSayWhy(t *testing.T) { onFlavors(t, checkRefusalsSayWhy) }

func checkRefusalsSayWhy(t *testing.T, flavor farm.Flavor) {
	w := newFaulty(t, flavor, 2, extra+"\nwrites: {wait: 500ms}\n")
	c := w.client(t)
	good(t, "a read", c.sql("SELECT 1"))
	for _, s := range w.farm.Servers() {
		s.Kill9(t)
	}
	for _, s := range w.farm.Servers() {
		w.serves(t, s.Name(), "nothing")
	}
	for _, sql := range []string{"INSERT INTO t VALUES (9,9)", "SELECT v FROM t"} {
		r := c.sql(sql)
		if r.err == nil {
			if r.lost == nil && strings.HasPrefix(sql, "SELECT") {
				continue // served by what is left
			}
			t.Errorf("%s without servers: %v", sql, r)
			continue
		}
		names := []string{"primary"}
		if strings.HasPrefix(sql, "SELECT") {
			names = []string{"primary", "replica1", "replica2"}
		}
		for _, name := range names {
			if !strings.Contains(r.err.Message, name) {
				t.Errorf("the refusal of %s does not name %s: %s", sql, name, r.err.Message)
			}
		}
		if r.err.Code != 2003 || !strings.HasPrefix(r.err.Message, "Farmhand: ") || strings.Count(r.err.Message, ":") < 2 {
			t.Errorf("the refusal of %s: %v", sql, r.err)
		}
	}
	if err := c.ping(); err != nil {
		t.Errorf("after refusals the session is gone: %v", err)
	}
}
