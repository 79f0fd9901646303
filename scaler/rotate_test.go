package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/mysqladmin"
	"farmhand/internal/service"
	"farmhand/scaler/internal/provider"
)

// TestPasswordsAreRotated while clients read and write: none of them fails, replicas go on,
// and a scaler that is killed in the middle is gone on after by the next. In the end
// the old passwords are refused everywhere, and whoever connects anew has the new ones.
func TestPasswordsAreRotated(t *testing.T) {
	farmtest.Long(t)
	for _, flavor := range []farm.Flavor{farm.MariaDB, farm.MySQL} {
		t.Run(flavor.String(), func(t *testing.T) {
			farmtest.Need(t, flavor)
			l := newLocal(t)
			root := ""
			if flavor == farm.MySQL {
				root = reachable(t, farmtest.MySQLRoot(), filepath.Dir(l.dir))
			}
			l.withRoles(t, fmt.Sprintf("  db: {kind: mysql, count: 2, parameters: {flavor: %s, program_root: %q}}\n", strings.ToLower(flavor.String()), root))
			l.start(t)
			l.await(t, "farm ready")
			old := l.passwords(t)
			load := l.load(t)

			// Each kill is at another moment of the change.
			for n, after := range []time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond} {
				before := l.passwords(t)
				output(t, "rotate", "--yes", "--no-wait", "--local", l.dir)
				time.Sleep(after)
				if err := l.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = l.wait(t) // killed
				l.start(t)
				l.await(t, "farm ready")
				farmtest.Eventually(t, "the passwords are changed", func() error {
					if said := output(t, "operations", "--local", l.dir); strings.Count(said, "no server accepts the old ones") != n+1 {
						return errors.New(said)
					}
					return nil
				})
				if now := l.passwords(t); now.Replication == before.Replication || now.Monitor == before.Monitor || now.App != before.App {
					t.Error("the passwords are those of before")
				}
			}
			l.refused(t, old)
			load.more(t)
			if failed := load.end(); len(failed) > 0 {
				t.Errorf("%d of %d statements have failed, such as %v", len(failed), load.done, failed[0])
			}
			t.Logf("%d statements while the passwords were changed", load.done)

			// A new connection of each kind: the source of a replica, a proxy's, a prober's.
			farmtest.Eventually(t, "db2 takes the writes", func() error {
				if out, err := scaler("switchover", "--to", "db2", "--yes", "--local", l.dir).CombinedOutput(); err != nil {
					return fmt.Errorf("%w: %s", err, out) // it is behind
				}
				return nil
			})
			l.awaitStatus(t, "the cluster is steady", func(s status) bool {
				return s.Assignment.Primary == "db2" && s.Assignment.SemiSync && s.node(t, "db1").Database.Done
			})
			// A server that joins is given the new ones.
			if out := output(t, "scale", "db", "3", "--local", l.dir); !strings.Contains(out, "done: db has 3 servers") {
				t.Errorf("scale: %s", out)
			}
			for _, name := range []string{"db1", "db2", "db3", "web1"} {
				text, err := os.ReadFile(filepath.Join(l.dir, name, "sidecar.log"))
				if err != nil {
					t.Fatal(err)
				}
				now := l.passwords(t)
				for _, secret := range []string{old.Replication, old.Monitor, now.Replication, now.Monitor} {
					if strings.Contains(string(text), secret) {
						t.Errorf("a password stands in the log of %s", name)
					}
				}
				if strings.Contains(string(text), "Access denied") {
					t.Errorf("%s was refused a login: %s", name, line(string(text), "Access denied"))
				}
			}
		})
	}
}

// reachable is an unpacked MySQL that the servers' account can get at, though it is root
// who has unpacked it for itself.
func reachable(t *testing.T, root, dir string) string {
	t.Helper()
	if os.Geteuid() != 0 || root == "" {
		return root
	}
	at := filepath.Join(dir, "mysql")
	if _, err := exec.Command("cp", "-al", root, at).CombinedOutput(); err != nil { // another file system
		if err := os.RemoveAll(at); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-a", root, at).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v, %s", root, err, out)
		}
	}
	return at
}

// line is the first one that has text in it.
func line(all, text string) string {
	lines := strings.Split(all, "\n")
	return lines[max(0, slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, text) }))]
}

// passwords are those that the control node keeps.
func (l *local) passwords(t *testing.T) (p provider.Passwords) {
	t.Helper()
	for who, password := range map[string]*string{"replication": &p.Replication, "monitor": &p.Monitor, "app": &p.App} {
		var err error
		if *password, err = service.ReadSecret(filepath.Join(l.dir, "secrets", who+".password")); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// refused is that every database server refuses the passwords, and takes the new ones.
func (l *local) refused(t *testing.T, old provider.Passwords) {
	t.Helper()
	now := l.passwords(t)
	for _, s := range l.status(t).Assignment.Servers {
		for _, a := range []struct {
			dbserver.Account
			accepted bool
		}{
			{dbserver.Account{User: provider.ReplicationUser, Password: old.Replication}, false},
			{dbserver.Account{User: provider.MonitorUser, Password: old.Monitor}, false},
			{dbserver.Account{User: provider.ReplicationUser, Password: now.Replication}, true},
			{dbserver.Account{User: provider.MonitorUser, Password: now.Monitor}, true},
		} {
			conn, err := mysqladmin.Dial(t.Context(), mysqladmin.Target{Network: "tcp", Address: s.Address, User: a.User, Password: a.Password})
			if err == nil {
				err = conn.Close()
			}
			if a.accepted && err != nil || !a.accepted && mysqladmin.Code(err) != 1045 {
				t.Errorf("%s as %s, accepted must be %v: %v", s.Name, a.User, a.accepted, err)
			}
		}
	}
}

// traffic is clients that read and write through the web node, each statement over a
// connection of its own, as PHP does.
type traffic struct {
	stop context.CancelFunc
	all  sync.WaitGroup

	mu     sync.Mutex
	done   int
	failed []error
}

func (l *local) load(t *testing.T) *traffic {
	t.Helper()
	db := farmtest.Open(t, "tcp", l.listen.String(), app)
	db.SetMaxIdleConns(0)
	if _, err := db.Exec("CREATE TABLE visits (id INT PRIMARY KEY AUTO_INCREMENT, at INT)"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &traffic{stop: stop}
	t.Cleanup(func() { w.end() })
	for n := range 4 {
		w.all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				var err error
				if (i+n)%2 == 0 {
					_, err = db.Exec("INSERT INTO visits (at) VALUES (?)", i)
				} else {
					var count int
					err = db.QueryRow("SELECT COUNT(*) FROM visits").Scan(&count)
				}
				w.mu.Lock()
				if w.done++; err != nil {
					w.failed = append(w.failed, err)
				}
				w.mu.Unlock()
				select { // of what a visitor does between two pages
				case <-time.After(10 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	return w
}

// more waits until there was some more of it.
func (w *traffic) more(t *testing.T) {
	t.Helper()
	count := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.done
	}
	from := count()
	farmtest.Eventually(t, "more statements", func() error {
		if n := count() - from; n < 100 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

func (w *traffic) end() []error {
	w.stop()
	w.all.Wait()
	return w.failed
}
