package clone_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

func (n *node) start(t *testing.T) {
	t.Helper()
	s, err := dbserver.Start(t.Context(), n.w.inst, n.config)
	if err != nil {
		t.Fatal(err)
	}
	n.server = s
	t.Cleanup(s.Kill)
}

func (n *node) stop(t *testing.T) {
	t.Helper()
	if err := n.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (n *node) exec(t *testing.T, statements ...string) {
	t.Helper()
	if err := n.server.Exec(t.Context(), statements...); err != nil {
		t.Fatalf("%s: %v", n.name, err)
	}
}

func (n *node) value(t *testing.T, query string) string {
	t.Helper()
	rows, err := n.server.Query(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", n.name, err)
	}
	return rows[0].String("v")
}

// fill gives the node's server a schema with about so many MiB in it.
func (n *node) fill(t *testing.T, mib int) {
	t.Helper()
	n.exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY AUTO_INCREMENT, text MEDIUMTEXT)",
		"CREATE TABLE shop.count (id INT PRIMARY KEY, n INT)", "INSERT INTO shop.count VALUES (1, 0)")
	for range mib {
		n.exec(t, "INSERT INTO shop.item (text) VALUES "+strings.TrimSuffix(strings.Repeat("(REPEAT(SHA2(RAND(), 256), 1024)),", 16), ","))
	}
}

// write writes to the node's server until the function that it returns is called,
// which says how many transactions there were.
func (n *node) write(t *testing.T) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var written atomic.Int64
	go func() {
		for ctx.Err() == nil {
			err := n.server.Exec(context.WithoutCancel(ctx), "BEGIN", "INSERT INTO shop.item (text) VALUES (REPEAT(SHA2(RAND(), 256), 50))",
				"UPDATE shop.count SET n=n+1", "COMMIT")
			if err != nil {
				done <- err
				return
			}
			written.Add(1)
		}
		done <- nil
	}()
	return func() int {
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return int(written.Load())
	}
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

// follow makes the node's server follow another and waits until it has all that
// there is.
func (n *node) follow(t *testing.T, source *node) {
	t.Helper()
	if err := n.server.Follow(t.Context(), dbserver.Source{
		Address: netip.AddrPortFrom(source.config.Address, source.config.Port), User: replicator.User, Password: replicator.Password,
	}); err != nil {
		t.Fatal(err)
	}
	if err := n.server.AwaitFollowing(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.catchUp(t, source)
}

func (n *node) catchUp(t *testing.T, source *node) {
	t.Helper()
	position, wait := "SELECT @@gtid_current_pos AS v", "SELECT MASTER_GTID_WAIT('%s', 25) AS v"
	if n.w.inst.Flavor == farm.MySQL {
		position, wait = "SELECT @@gtid_executed AS v", "SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', 25) AS v"
	}
	if outcome := n.value(t, fmt.Sprintf(wait, source.value(t, position))); outcome != "0" {
		t.Fatalf("%s did not catch up with %s: %q", n.name, source.name, outcome)
	}
}

// same checks that two servers hold the same.
func same(t *testing.T, a, b *node) {
	t.Helper()
	for _, table := range []string{"shop.item", "shop.count"} {
		sums := map[string]string{}
		for _, n := range []*node{a, b} {
			rows, err := n.server.Query(t.Context(), "CHECKSUM TABLE "+table)
			if err != nil {
				t.Fatal(err)
			}
			sums[n.name] = rows[0].String("Checksum")
		}
		if sums[a.name] != sums[b.name] || sums[a.name] == "" {
			t.Errorf("%s differs: %v", table, sums)
		}
	}
}

// eachFlavor runs the contract on every flavor of server that is installed.
func eachFlavor(t *testing.T, test func(t *testing.T, w *world)) {
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) { test(t, newWorld(t, flavor)) })
	}
}

// TestACopyUnderLoadFollowsTheDonor copies a server that is written to onto one
// that has other data, and lets the copy follow from where it ends.
func TestACopyUnderLoadFollowsTheDonor(t *testing.T) {
	eachFlavor(t, func(t *testing.T, w *world) {
		a, b := w.node(t, "db1", 1), w.node(t, "db2", 2)
		a.initialise(t)
		a.fill(t, 24)
		b.place(t)
		b.rekey(t)
		b.start(t)
		b.exec(t, "CREATE DATABASE old")
		d := a.serve(t, nil)

		var phases []clone.Phase
		var last clone.Progress
		j := b.joiner(d)
		j.Tell = func(p clone.Progress) {
			if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
				phases = append(phases, p.Phase)
			}
			last = p
		}
		stop := a.write(t)
		c, err := clone.Fetch(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		if b.value(t, "SELECT COUNT(*) AS v FROM information_schema.schemata WHERE schema_name='old'") != "1" {
			t.Error("the old data is gone before the swap")
		}
		if err := c.Swap(); err == nil {
			t.Error("the data of a running server was replaced")
		}
		b.stop(t)
		if err := c.Swap(); err != nil {
			t.Fatal(err)
		}
		b.start(t) // with the password that it had
		if b.value(t, "SELECT COUNT(*) AS v FROM information_schema.schemata WHERE schema_name='old'") != "0" {
			t.Error("there is old data in the copy")
		}
		b.follow(t, a)
		written := stop()
		b.catchUp(t, a)
		same(t, a, b)
		if got := b.value(t, "SELECT n AS v FROM shop.count"); got != strconv.Itoa(written) {
			t.Errorf("the copy has counted %s of %d", got, written)
		}
		if g := <-d.given; g.Err != nil || g.Joiner != "db2" || g.Bytes == 0 {
			t.Errorf("given: %+v", g)
		}
		if fmt.Sprint(phases) != "[asking copying recovering checking]" || last.Bytes < 24<<20 || last.Total < 24<<20 {
			t.Errorf("phases %v, at last %+v", phases, last)
		}
		t.Logf("%d MiB in %v, %d transactions meanwhile, position %s", c.Bytes>>20, c.Took, written, c.Position)
		b.owned(t)
	})
}

// TestACopyOfAReplicaFollowsThePrimary copies a server that follows another, and
// lets the copy follow that.
func TestACopyOfAReplicaFollowsThePrimary(t *testing.T) {
	eachFlavor(t, func(t *testing.T, w *world) {
		a, b, c := w.node(t, "db1", 1), w.node(t, "db2", 2), w.node(t, "db3", 3)
		a.initialise(t)
		b.initialise(t)
		b.follow(t, a)
		a.fill(t, 12)
		b.catchUp(t, a)
		stop := a.write(t)
		fetched, err := clone.Fetch(t.Context(), c.joiner(b.serve(t, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if err := fetched.Swap(); err != nil {
			t.Fatal(err)
		}
		c.start(t)
		c.follow(t, a)
		written := stop()
		c.catchUp(t, a)
		same(t, a, c)
		b.catchUp(t, a)
		same(t, a, b)
		if got := c.value(t, "SELECT n AS v FROM shop.count"); got != strconv.Itoa(written) {
			t.Errorf("the copy has counted %s of %d", got, written)
		}
		if w.inst.Flavor == farm.MySQL && b.value(t, "SELECT @@super_read_only AS v") != "1" || b.value(t, "SELECT @@read_only AS v") != "1" {
			t.Error("the donor takes writes")
		}
		c.owned(t)
	})
}

// TestACommitThatWaitsIsNotTornFromItsPosition: a commit that waits for a replica's
// acknowledgement is in the binlog and not in the data. A copy must not be taken in
// between; the donor gives up waiting, and the server goes on.
func TestACommitThatWaitsIsNotTornFromItsPosition(t *testing.T) {
	w := newWorld(t, farm.MariaDB)
	a, b := w.node(t, "db1", 1), w.node(t, "db2", 2)
	a.initialise(t)
	a.fill(t, 1)
	a.exec(t, "SET GLOBAL rpl_semi_sync_master_timeout=600000", "SET GLOBAL rpl_semi_sync_master_wait_no_slave=ON",
		"SET GLOBAL rpl_semi_sync_master_wait_point=AFTER_SYNC", "SET GLOBAL rpl_semi_sync_master_enabled=ON")
	committed := make(chan error, 1)
	go func() { committed <- a.server.Exec(context.Background(), "INSERT INTO shop.count VALUES (2, 0)") }()
	farmtest.Eventually(t, "a commit waits", func() error {
		if n := a.value(t, "SELECT COUNT(*) AS v FROM information_schema.processlist WHERE state LIKE 'Waiting for semi-sync ACK%'"); n != "1" {
			return fmt.Errorf("%s do", n)
		}
		return nil
	})
	d := a.serve(t, func(d *clone.Donor) { d.Stall = 4 * time.Second })
	if _, err := clone.Fetch(t.Context(), b.joiner(d)); err == nil || !strings.Contains(err.Error(), "nothing was sent for 4s") {
		t.Errorf("a copy while a commit waits: %v", err)
	}
	a.exec(t, "SET GLOBAL rpl_semi_sync_master_enabled=OFF")
	if err := <-committed; err != nil {
		t.Error(err)
	}
	a.exec(t, "INSERT INTO shop.count VALUES (3, 0)") // nothing holds a lock any more
	c, err := clone.Fetch(t.Context(), b.joiner(d))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Swap(); err != nil {
		t.Fatal(err)
	}
	b.start(t)
	same(t, a, b)
	if at := b.value(t, "SELECT @@gtid_slave_pos AS v"); at != c.Position || at != a.value(t, "SELECT @@gtid_binlog_pos AS v") {
		t.Errorf("the copy is at %s, and said to be at %s", at, c.Position)
	}
}

// owned checks whose all files of the node's server are, and that nothing was left.
func (n *node) owned(t *testing.T) {
	t.Helper()
	want := uint32(os.Geteuid())
	if n.config.Credential != nil {
		want = n.config.Credential.Uid
	}
	err := filepath.WalkDir(n.config.DataDir(), func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != want {
			t.Errorf("%s is the account %d's, not %d's", path, uid, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	n.clean(t)
}

// clean checks that no attempt has left anything.
func (n *node) clean(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(n.config.Dir, "incoming")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: incoming data is left: %v", n.name, err)
	}
	left, err := filepath.Glob(filepath.Join(n.config.TempDir(), "clone-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("%s: left: %v, %v", n.name, left, err)
	}
}
