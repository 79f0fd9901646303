package mysqld

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(asSidecar) != "" {
		sidecar()
		os.Exit(0)
	}
	os.Exit(farmtest.Leakless{M: m, End: func() error { return os.RemoveAll(seeds.dir) }}.Run())
}

var (
	replication = dbserver.Account{User: "replicator", Password: "replicator"}
	monitor     = dbserver.Account{User: "farmhand", Password: "farmhand"}
	app         = dbserver.Account{User: "app", Password: "app"}
)

// redoLog is small because data is copied.
const redoLog = 16 << 20

// seeds are initialised server directories that tests copy, one for each flavor.
var seeds struct {
	sync.Mutex
	dir string
}

// seed makes dir a server directory with the accounts and without any history.
func seed(t *testing.T, inst dbserver.Install, dir string) {
	t.Helper()
	seeds.Lock()
	defer seeds.Unlock()
	if seeds.dir == "" {
		made, err := os.MkdirTemp("", "mysqld")
		if err != nil {
			t.Fatal(err)
		}
		seeds.dir = made
	}
	from := filepath.Join(seeds.dir, inst.Flavor.String())
	done, err := dbserver.Initialised(from)
	if err == nil && !done {
		statements := append(dbserver.ReplicationAccount(inst.Flavor, replication), dbserver.MonitorAccount(inst.Flavor, monitor)...)
		statements = append(statements, dbserver.ApplicationAccount(inst.Flavor, app, "app")...)
		err = dbserver.Initialise(t.Context(), inst, dbserver.Config{Dir: from, RedoLog: redoLog, Socket: filepath.Join(from, "s")}, statements...)
		_ = os.Remove(filepath.Join(from, "data", "auto.cnf")) // each MySQL server makes its own
	}
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(from))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// world is a registry in memory and the nodes of one cluster.
type world struct {
	t      *testing.T
	flavor farm.Flavor
	nodes  map[string]*node

	mu       sync.Mutex
	value    []byte
	revision int64
	lost     error
	changed  chan struct{} // closed at the next change
	serial   uint64
	epoch    farm.Epoch
}

func newWorld(t *testing.T, flavor farm.Flavor, names ...string) *world {
	t.Helper()
	if flavor == farm.MySQL {
		farmtest.Long(t)
	}
	w := &world{t: t, flavor: flavor, nodes: map[string]*node{}, changed: make(chan struct{}), epoch: 1}
	for i, name := range names {
		w.nodes[name] = newNode(t, w, name, uint32(i+1))
	}
	return w
}

// lose makes the registry one that cannot be reached; nil ends it.
func (w *world) lose(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = err
	close(w.changed)
	w.changed = make(chan struct{})
}

var errLost = errors.New("the test has cut the registry off")

// part is one server's of an assignment.
type part struct {
	name   string
	task   cluster.Task
	source string
	acks   bool // for Clone: nothing
}

// assign writes the next assignment.
func (w *world) assign(semiSync bool, parts ...part) {
	w.t.Helper()
	w.assignAs(semiSync, func(*cluster.Assignment) {}, parts...)
}

// assignAs is assign of what change makes of it.
func (w *world) assignAs(semiSync bool, change func(*cluster.Assignment), parts ...part) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial++
	a := &cluster.Assignment{Epoch: w.epoch, Term: 1, Serial: w.serial, NextID: 100, Durable: semiSync, SemiSync: semiSync, Why: "a test wants it"}
	for _, p := range parts {
		n := w.nodes[p.name]
		s := cluster.Server{Name: p.name, Address: n.server.Addr(), ID: n.id, Task: p.task, Source: p.source, Acknowledges: p.acks}
		if donor := w.nodes[p.source]; p.task == cluster.Clone && donor.giving != nil {
			s.CloneAt = donor.giving.Listen
		}
		a.Servers = append(a.Servers, s)
	}
	change(a)
	data, err := a.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.value = data
	w.revision++
	close(w.changed)
	w.changed = make(chan struct{})
}

// raise begins the next epoch.
func (w *world) raise() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.epoch++
}
