package clone_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/pki"
	"farmhand/sidecar/internal/clone"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(other); text != "" {
		fmt.Fprintln(os.Stderr, playPart(text))
		os.Exit(1)
	}
	var err error
	if templateDir, err = os.MkdirTemp("", "clone"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(farmtest.Leakless{M: m, Patience: 5 * time.Second, End: func() error { return os.RemoveAll(templateDir) }}.Run())
}

// replicator is the account on every donor by which a copy follows it.
var replicator = dbserver.Account{User: "replicator", Password: "replicator"}

// redoLog is small, because templates are copied.
const redoLog = 16 << 20

// world is a farm's authority and a place for its nodes.
type world struct {
	dir       string
	inst      dbserver.Install
	authority *pki.Authority
}

func newWorld(t *testing.T, flavor farm.Flavor) *world {
	t.Helper()
	if flavor == farm.MySQL {
		farmtest.Long(t)
	}
	inst := farmtest.Need(t, flavor)
	dir := farmtest.ShortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil { // servers run as another account
		t.Fatal(err)
	}
	a, err := pki.NewAuthority("shop", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &world{dir: dir, inst: inst, authority: a}
}

// node is a node with a database server, or with the place for one.
type node struct {
	w      *world
	name   string
	files  pki.Files
	config dbserver.Config
	server *dbserver.Server
}

func (w *world) node(t *testing.T, name string, id uint32) *node {
	t.Helper()
	place := farmtest.FreePort(t)
	n := &node{w: w, name: name, files: w.certify(t, w.authority, name), config: dbserver.Config{
		Dir: filepath.Join(w.dir, name), Address: place.Addr(), Port: place.Port(), Socket: filepath.Join(w.dir, name+".sock"),
		ServerID: id, RedoLog: redoLog, Credential: serverAccount(w.inst.Flavor), ParentDeath: syscall.SIGKILL,
		ExtraArgs: []string{"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"},
	}}
	if n.config.Credential != nil { // sockets are made by the server's account
		n.config.Socket = filepath.Join(n.config.Dir, "s")
	}
	return n
}

// certify makes the directory of a node's keys.
func (w *world) certify(t *testing.T, a *pki.Authority, name string) pki.Files {
	t.Helper()
	dir := filepath.Join(w.dir, "keys-"+name)
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.Client(&key.PublicKey, name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	files := pki.In(dir, "node")
	for _, err := range []error{
		pki.MakeDir(dir), pki.WriteKey(files.Key, key), pki.WriteCertificate(files.Certificate, cert),
		pki.WriteCertificate(files.Authority, a.Certificate()),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// serverAccount is the account that servers run as when we are root: one other
// than ours, as on a real node. An unpacked MySQL may be where only we can go.
func serverAccount(flavor farm.Flavor) *syscall.Credential {
	if os.Geteuid() != 0 || flavor == farm.MySQL {
		return nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	if uerr != nil || gerr != nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// initialise makes the node's server an empty one, and starts it.
func (n *node) initialise(t *testing.T) {
	t.Helper()
	n.place(t)
	n.start(t)
}

// rekey gives the administrator of the node's server, which does not run, another
// password than the template's.
func (n *node) rekey(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(n.config.Dir, "admin.secret"), []byte("of "+n.name), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := dbserver.Settle(t.Context(), n.w.inst, n.config, func(context.Context, *mysqladmin.Conn) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// place makes the directory of an empty server.
func (n *node) place(t *testing.T) {
	t.Helper()
	from, err := templates[n.w.inst.Flavor]()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(n.config.Dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(n.config.Dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			err = n.config.Give(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// templates are the directories of empty servers, made once.
var (
	templateDir string
	templates   = map[farm.Flavor]func() (string, error){
		farm.MariaDB: sync.OnceValues(func() (string, error) { return template(farm.MariaDB) }),
		farm.MySQL:   sync.OnceValues(func() (string, error) { return template(farm.MySQL) }),
	}
)

func template(flavor farm.Flavor) (string, error) {
	inst, err := dbserver.Find(context.Background(), flavor, farmtest.MySQLRoot())
	if err != nil {
		return "", err
	}
	dir := filepath.Join(templateDir, flavor.String())
	err = dbserver.Initialise(context.Background(), inst, dbserver.Config{Dir: dir, RedoLog: redoLog},
		dbserver.ReplicationAccount(flavor, replicator)...)
	if err == nil && flavor == farm.MySQL {
		err = os.Remove(filepath.Join(dir, "data", "auto.cnf")) // each makes its own UUID
	}
	return dir, err
}

// donor is a node that gives its data.
type donor struct {
	*node
	address string
	given   chan clone.Given
}

// serve lets the node give its data to everybody, as change wants it.
func (n *node) serve(t *testing.T, change func(*clone.Donor)) *donor {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(farmtest.Address(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	d := &donor{node: n, address: l.Addr().String(), given: make(chan clone.Given, 10)}
	options := clone.Donor{
		Install: n.w.inst, Config: n.config, Files: n.files, Log: zaptest.NewLogger(t),
		Allow: func(context.Context, string) error { return nil },
		Tell:  func(g clone.Given) { d.given <- g },
	}
	if change != nil {
		change(&options)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- clone.Serve(ctx, l, options) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return d
}

// joiner is the node as one that gets the data of d.
func (n *node) joiner(d *donor) clone.Joiner {
	return clone.Joiner{Install: n.w.inst, Config: n.config, Files: n.files, Donor: d.name, Address: d.address}
}

// eachFlavor runs the contract on every flavor of server that is installed.
func eachFlavor(t *testing.T, test func(t *testing.T, w *world)) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) { test(t, newWorld(t, flavor)) })
	}
}
