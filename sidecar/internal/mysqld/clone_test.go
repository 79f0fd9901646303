package mysqld

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/pki"
)

// certify gives every node of w a certificate and a place where it gives its data.
func certify(t *testing.T, w *world) {
	t.Helper()
	authority, err := pki.NewAuthority("shop", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range w.nodes {
		dir := filepath.Join(farmtest.ShortDir(t), "keys")
		key, err := pki.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := authority.Client(&key.PublicKey, n.name, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		files := pki.In(dir, "node")
		for _, err := range []error{
			pki.MakeDir(dir), pki.WriteKey(files.Key, key), pki.WriteCertificate(files.Certificate, cert),
			pki.WriteCertificate(files.Authority, authority.Certificate()),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		n.giving = &Giving{Listen: farmtest.FreePort(t).String(), Files: files}
	}
}

// TestClone: a server with an errant transaction is copied anew, a new one gets its
// data, and what was errant can be read afterwards.
func TestClone(t *testing.T) {
	w := newWorld(t, farm.MariaDB, "db1", "db2", "db3")
	certify(t, w)
	db1, db2, db3 := w.nodes["db1"], w.nodes["db2"], w.nodes["db3"]
	db1.start(true)
	db2.start(true)
	db3.start(false)
	w.assign(false, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Retire, "", false})
	db1.done()
	db2.done()
	if r := db3.await("it is empty", func(r *cluster.Report) bool { return r.Empty }); r.CloneAt != db3.giving.Listen {
		t.Error(show(r))
	}
	db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)", "INSERT INTO app.t VALUES (1)")
	db2.awaitRows(1)
	db2.admin("INSERT INTO app.t VALUES (77777)")
	db2.await("it is errant", func(r *cluster.Report) bool { return r.Errant != "" })
	began := time.Now()
	w.assign(false, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Clone, "db1", true}, part{"db3", cluster.Retire, "", false})
	db2.await("it copies", func(r *cluster.Report) bool { return r.Process == cluster.Copying })
	db2.done()
	t.Logf("copied: %v", time.Since(began))
	db2.awaitRows(1)
	kept, err := filepath.Glob(filepath.Join(db2.server.Dir, "quarantine", "*.sql"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("%v, %v", kept, err)
	}
	text, err := os.ReadFile(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "77777") || strings.Contains(string(text), "CREATE TABLE") {
		t.Errorf("%s", text)
	}
	// Told again, also by a sidecar that has begun anew, it copies nothing.
	db2.stop()
	db2.start(true)
	if r := db2.done(); r.Errant != "" || r.Process != cluster.Running {
		t.Error(show(r))
	}
	w.assign(false, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Clone, "db2", true})
	db2.done()
	db3.done()
	db3.awaitRows(1)
	w.assign(false, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", true}, part{"db3", cluster.Follow, "db1", true})
	db3.done()
	db3.await("it is intact", func(r *cluster.Report) bool { return r.Intact && r.Errant == "" })
}

// TestACopyIsForWhomTheAssignmentNames.
func TestACopyIsForWhomTheAssignmentNames(t *testing.T) {
	w := newWorld(t, farm.MariaDB, "db1", "db2", "db3")
	certify(t, w)
	db1, db2 := w.nodes["db1"], w.nodes["db2"]
	db1.start(true)
	db2.start(false)
	w.assign(false, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Clone, "db3", true}, part{"db3", cluster.Retire, "", false})
	db1.done()
	// Nobody is there.
	db2.await("it says why not", func(r *cluster.Report) bool { return strings.Contains(r.Detail, "refused") })
	w.nodes["db3"].giving.Listen = db1.giving.Listen // somebody else is
	w.assign(false, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Clone, "db3", true}, part{"db3", cluster.Retire, "", false})
	db2.await("it says whom it found", func(r *cluster.Report) bool { return strings.Contains(r.Detail, "there is the node db1") })
}

// TestAnEmptyServerIsCopied from a primary.
func TestAnEmptyServerIsCopied(t *testing.T) {
	eachFlavor(t, func(t *testing.T, flavor farm.Flavor) {
		w := newWorld(t, flavor, "db1", "db2")
		certify(t, w)
		db1, db2 := w.nodes["db1"], w.nodes["db2"]
		db1.start(true)
		db2.start(false)
		w.assign(false, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Clone, "db1", true})
		db1.done()
		db1.admin("CREATE TABLE app.t (n INT PRIMARY KEY)", "INSERT INTO app.t VALUES (1)")
		db2.done()
		db2.awaitRows(1)
		w.assign(true, part{"db1", cluster.Lead, "", false}, part{"db2", cluster.Follow, "db1", true})
		db2.done()
		db2.await("it is intact", func(r *cluster.Report) bool { return r.Intact && r.Errant == "" })
	})
}
