package farmtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
)

// The accounts on every test server, all at any host.
var (
	// App owns schema "app" and schemas "app_…"; it cannot write to a read-only
	// server.
	App = dbserver.Account{User: "app", Password: "app"}
	// Monitor may do what the proxy's own account may, and no more.
	Monitor = dbserver.Account{User: "farmhand", Password: "farmhand"}

	// Replicator may follow the server.
	Replicator = dbserver.Account{User: "replicator", Password: "replicator"}
)

// Schema is the application's schema.
const Schema = "app"

// appGrants are what test suites of drivers want beyond a schema of their own.
const appGrants = "PROCESS, RELOAD, FILE, SHOW DATABASES, REPLICATION CLIENT, CREATE USER, EXECUTE ON *.*"

// templateFormat changes whenever what a template holds does.
const templateFormat = 2

// RedoLog is the test servers' redo log capacity in bytes: small, because
// templates are copied.
const RedoLog = 16 << 20

var installs = map[farm.Flavor]func() (dbserver.Install, error){
	farm.MariaDB: sync.OnceValues(func() (dbserver.Install, error) { return find(farm.MariaDB) }),
	farm.MySQL:   sync.OnceValues(func() (dbserver.Install, error) { return find(farm.MySQL) }),
}

func find(flavor farm.Flavor) (dbserver.Install, error) {
	return dbserver.Find(context.Background(), flavor, MySQLRoot())
}

// MySQLRoot is the directory in which an unpacked MySQL is to be looked for:
// FARMHAND_MYSQL_ROOT, or where scripts/mysql-unpack puts it, or where root
// does; empty if there is none.
func MySQLRoot() string {
	roots := []string{os.Getenv("FARMHAND_MYSQL_ROOT")}
	if cache, err := os.UserCacheDir(); err == nil {
		roots = append(roots, filepath.Join(cache, "farmhand", "mysql"))
	}
	for _, root := range append(roots, "/var/lib/farmhand-mysql") {
		if _, err := os.Stat(filepath.Join(root, "usr/sbin/mysqld")); root != "" && err == nil {
			return root
		}
	}
	return ""
}

// Need returns the installed server program of a flavor, or skips the test
// with a message that names what is missing.
func Need(t testing.TB, flavor farm.Flavor) dbserver.Install {
	t.Helper()
	get, ok := installs[flavor]
	if !ok {
		t.Fatalf("farmtest: unknown flavor %v", flavor)
	}
	inst, err := get()
	if errors.Is(err, dbserver.ErrNotInstalled) {
		t.Skipf("needs a %v server: %v", flavor, err)
	}
	if err != nil {
		t.Fatalf("farmtest: %v", err)
	}
	return inst
}

// template returns the initialised server directory that test servers of an
// installed program are copied from, made at its first use on the machine.
// Test binaries that run at once make it once: a file lock is held meanwhile.
func template(inst dbserver.Install) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("place for templates: %w", err)
	}
	base := filepath.Join(cache, "farmhand", "template")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", fmt.Errorf("place for templates: %w", err)
	}
	name := fmt.Sprintf("%v-%s-u%d-f%d", inst.Flavor, inst.Version, os.Getuid(), templateFormat)
	lock, err := os.OpenFile(filepath.Join(base, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("lock template: %w", err)
	}
	defer lock.Close() // closing lets the lock go
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock template: %w", err)
	}
	dir := filepath.Join(base, name)
	if done, err := dbserver.Initialised(dir); err != nil || done {
		return dir, err
	}
	var statements []string
	statements = append(statements, dbserver.ApplicationAccount(inst.Flavor, App, Schema, appGrants)...)
	statements = append(statements, dbserver.MonitorAccount(inst.Flavor, Monitor)...)
	statements = append(statements, dbserver.ReplicationAccount(inst.Flavor, Replicator)...)
	config := dbserver.Config{Dir: dir, RedoLog: RedoLog}
	if err := dbserver.Initialise(context.Background(), inst, config, statements...); err != nil {
		return "", err
	}
	// Each MySQL server makes its own UUID when it finds none, and smaller
	// doublewrite files than initialising does, which it need not read then.
	needless, err := filepath.Glob(filepath.Join(dir, "data", "*.dblwr"))
	if err != nil {
		return "", fmt.Errorf("finish template: %w", err)
	}
	for _, path := range append(needless, filepath.Join(dir, "data", "auto.cnf")) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("finish template: %w", err)
		}
	}
	return dir, nil
}

// CopyTemplate makes dir, which must not be there, the directory of an initialised
// server with the accounts App, Monitor and Replicator and without any history. Its
// redo log has a capacity of RedoLog.
func CopyTemplate(inst dbserver.Install, dir string) error {
	from, err := template(inst)
	if err != nil {
		return fmt.Errorf("template: %w", err)
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		return fmt.Errorf("copy template %s: %w", from, err)
	}
	return nil
}
