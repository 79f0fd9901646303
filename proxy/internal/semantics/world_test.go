package semantics

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"farmhand/internal/dbserver"
	"farmhand/internal/drivertest"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

// world is a farm behind a proxy, and a server of the same kind that nobody
// else uses, to compare with.
type world struct {
	flavor farm.Flavor
	farm   *farmtest.Farm
	direct *farmtest.Server
	proxy  *drivertest.Proxy
	logs   map[string]*generalLog // of the farm's servers, by name
	said   map[string]int         // cases so far, by test
}

// extra is the configuration of the shared proxy, and of others for the most part.
const extra = `
health: {interval: 50ms, slow_start: 0s}
reads: {wait: 10s}
console: {admins: [app]}
hints: {denied_users: [nohints]}
`

// boss may do everything; noHints is like the application but may give no hints.
var (
	boss    = dbserver.Account{User: "boss", Password: "boss"}
	noHints = dbserver.Account{User: "nohints", Password: "nohints"}
)

var flavors = []farm.Flavor{farm.MariaDB, farm.MySQL}

// serverArgs are what the cases need of every server.
func serverArgs(flavor farm.Flavor) []string {
	args := []string{"--general-log=1", "--local-infile=ON", "--max-allowed-packet=64M", "--log-bin-trust-function-creators=1", "--event-scheduler=OFF"}
	if flavor == farm.MySQL {
		args = append(args, "--mysqlx=OFF", "--log-raw=ON") // or it would log no text that it cannot parse
	}
	return args
}

// shared is what the tests of this package use in common, one of each flavor.
var shared struct {
	lasting lasting
	mu      sync.Mutex
	worlds  map[farm.Flavor]*world
}

func TestMain(m *testing.M) {
	code := m.Run()
	shared.lasting.failed = code != 0 // so that the proxies show their logs
	shared.lasting.cleanUp()
	if code == 0 && shared.lasting.failed {
		code = 1
	}
	os.Exit(code)
}

// onEach runs a test on each flavor's shared world.
func onEach(t *testing.T, test func(t *testing.T, w *world)) {
	for _, flavor := range flavors {
		t.Run(flavor.String(), func(t *testing.T) { test(t, sharedWorld(t, flavor)) })
	}
}

func sharedWorld(t *testing.T, flavor farm.Flavor) *world {
	t.Helper()
	farmtest.Need(t, flavor)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if w := shared.worlds[flavor]; w != nil {
		return w
	}
	shared.lasting.TB = t
	w := newWorld(&shared.lasting, flavor, extra)
	if shared.worlds == nil {
		shared.worlds = map[farm.Flavor]*world{}
	}
	shared.worlds[flavor] = w
	return w
}

// newWorld starts the servers and the proxy.
func newWorld(t testing.TB, flavor farm.Flavor, config string) *world {
	w := &world{flavor: flavor, logs: map[string]*generalLog{}, said: map[string]int{}}
	var group sync.WaitGroup
	group.Go(func() {
		w.farm = farmtest.Start(t, farmtest.Options{Flavor: flavor, Replicas: 2, ExtraArgs: serverArgs(flavor)})
	})
	group.Go(func() {
		w.direct = farmtest.Start(t, farmtest.Options{Flavor: flavor, ExtraArgs: serverArgs(flavor)}).Primary()
	})
	group.Wait()
	if w.farm == nil || w.direct == nil {
		t.Fatal("the servers did not start")
	}
	w.both(t,
		"CREATE USER boss@'%' IDENTIFIED BY 'boss'", "GRANT ALL ON *.* TO boss@'%' WITH GRANT OPTION",
		"CREATE USER nohints@'%' IDENTIFIED BY 'nohints'", "GRANT ALL ON app.* TO nohints@'%'",
		"CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(100), n INT)",
		"INSERT INTO app.t (v, n) VALUES ('a', 1), ('b', 2), ('c', 3)")
	for _, s := range w.farm.Servers() {
		w.logs[s.Name()] = openLog(t, s)
	}
	w.proxy = drivertest.StartProxy(t, w.farm, config)
	w.settle(t)
	return w
}

// both runs statements as administrator on the primary and on the other server.
func (w *world) both(t testing.TB, statements ...string) {
	t.Helper()
	w.farm.Primary().Exec(t, statements...)
	w.direct.Exec(t, statements...)
}

// settle returns when every replica has all that the primary has, and the proxy
// knows it.
func (w *world) settle(t testing.TB) {
	t.Helper()
	settle(t, w.farm, w.proxy)
}

func settle(t testing.TB, f *farmtest.Farm, p *drivertest.Proxy) {
	t.Helper()
	f.WaitCaughtUp(t)
	want := compact(f.Primary().Position(t))
	farmtest.Eventually(t, "the proxy sees that every replica has caught up", func() error {
		for _, row := range console(t, p, "SERVERS") {
			if row["Serves"] == "reads" && compact(row["Position"]) != want || row["Serves"] == "nothing" {
				return fmt.Errorf("%s is at %s and serves %s (%s), the primary is at %s", row["Name"], row["Position"], row["Serves"], row["Reason"], want)
			}
		}
		return nil
	})
}

func compact(s string) string { return strings.NewReplacer("\n", "", " ", "").Replace(s) }

// console asks the proxy's console: rows by column name.
func console(t testing.TB, p *drivertest.Proxy, question string) []map[string]string {
	t.Helper()
	db := farmtest.OpenSchemaless(t, "tcp", p.TCP, farmtest.App)
	defer db.Close()
	rows, err := db.QueryContext(context.Background(), "SHOW FARMHAND "+question)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for rows.Next() {
		cells := make([]any, len(columns))
		values := make([]*string, len(columns))
		for i := range cells {
			cells[i] = &values[i]
		}
		if err := rows.Scan(cells...); err != nil {
			t.Fatal(err)
		}
		row := map[string]string{}
		for i, name := range columns {
			if values[i] != nil {
				row[name] = *values[i]
			}
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// lasting is a testing.TB for what outlives the test that first needs it: what
// it cleans up, it cleans up when the tests are over.
type lasting struct {
	testing.TB // of the test that needed it, for the start's failures
	mu         sync.Mutex
	cleanups   []func()
	over       bool
	failed     bool
}

// Cleanup keeps f until the tests are over.
func (l *lasting) Cleanup(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cleanups = append(l.cleanups, f)
}

func (l *lasting) cleanUp() {
	l.over = true
	for i := len(l.cleanups) - 1; i >= 0; i-- {
		l.cleanups[i]()
	}
}

// Helper does nothing: the test may be over.
func (l *lasting) Helper() {}

// Failed tells whether the clean-up has failed, once the tests are over.
func (l *lasting) Failed() bool { return l.failed || !l.over && l.TB.Failed() }

// Error, Fatalf and Logf go to standard error once the tests are over.
func (l *lasting) Error(args ...any) {
	if !l.over {
		l.TB.Error(args...)
		return
	}
	l.failed = true
	fmt.Fprintln(os.Stderr, args...)
}

// Fatalf is like Error: a clean-up goes on.
func (l *lasting) Fatalf(format string, args ...any) {
	if !l.over {
		l.TB.Fatalf(format, args...)
	}
	l.failed = true
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// Logf writes to standard error once the tests are over.
func (l *lasting) Logf(format string, args ...any) {
	if !l.over {
		l.TB.Logf(format, args...)
		return
	}
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
