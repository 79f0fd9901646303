package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"farmhand/internal/farmtest"
)

// appFarm has two servers that give out what is in their directory, and that are well
// unless they need a log.
const appFarm = `name: farm
provider: {kind: local, parameters: {directory: %q, first_address: %q}}
roles:
  db: {kind: mysql, count: 1}
  app:
    kind: base
    count: 2
    parameters:
      port: 8080
      drain_limit: 1s
      programs:
        php: {command: [php, -S, "{address}:8080", -t, "{directory}"]}
      health:
        - {command: [sh, -c, "test ! -e {directory}/needs || test -e {directory}/logs/needed"], interval: 1s}
`

// TestRebundle changes a server by hand and has all of its role be as it is; and then to
// what does no good elsewhere.
func TestRebundle(t *testing.T) {
	farmtest.Long(t)
	l := newLocal(t)
	l.by(t, fmt.Sprintf(appFarm, l.dir, farmtest.AddressBlock(12)))
	l.start(t)
	l.await(t, "farm ready")
	l.ready(t, "app1", "app2")
	l.put(t, "app1", map[string]string{"page.html": "second", ".bash_history": "mysql -psecret", "tls.key": "secret", "logs/access": "secret"})
	if page, err := l.gives(t, "app2"); err == nil {
		t.Errorf("app2 has %q already", page)
	}

	if out, err := scaler("rebundle", "db1", "--yes", "--local", l.dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "db1 is a database server") {
		t.Errorf("a rebundle of a database server: %v, %s", err, out)
	}
	if out := output(t, "rebundle", "app1", "--dry-run", "--local", l.dir); !strings.Contains(out, "make an image of app1") {
		t.Errorf("--dry-run: %s", out)
	}
	out := output(t, "rebundle", "app1", "--as", "shop", "--yes", "--local", l.dir)
	if !strings.Contains(out, "1 files of 6 bytes, and 3 that are left out") || !strings.Contains(out, "done: every instance of app runs shop-2") {
		t.Errorf("rebundle: %s", out)
	}
	l.ready(t, "app3", "app4")
	for _, name := range []string{"app3", "app4"} {
		if page, err := l.gives(t, name); err != nil || page != "second" {
			t.Errorf("%s has %q, %v", name, page, err)
		}
		for _, gone := range []string{".bash_history", "tls.key", "logs/access"} {
			if _, err := os.Stat(filepath.Join(l.dir, name, "work", gone)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s has %s: %v", name, gone, err)
			}
		}
	}
	shop := l.images(t)[0]
	if table := output(t, "image", "list", "--local", l.dir); !strings.Contains(table, "app3, app4, role app") {
		t.Errorf("the images are\n%s", table)
	}
	if out, err := scaler("image", "delete", shop, "--yes", "--local", l.dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "is used by app3, app4, role app") {
		t.Errorf("an image that is used: %v, %s", err, out)
	}

	// What works where it was made for and nowhere else.
	l.put(t, "app3", map[string]string{"logs/needed": "x", "needs": "x", "page.html": "third"})
	said, err := scaler("rebundle", "app3", "--as", "worse", "--batch", "2", "--within", "10s", "--yes", "--local", l.dir).CombinedOutput()
	if err == nil || !strings.Contains(string(said), "every instance of app runs "+shop+" again") {
		t.Errorf("the bad image: %v, %s", err, said)
	}
	s := l.status(t)
	for _, n := range s.Nodes {
		if n.Kind == "base" {
			l.ready(t, n.Name)
			if page, err := l.gives(t, n.Name); err != nil || page != "second" {
				t.Errorf("%s has %q, %v", n.Name, page, err)
			}
		}
	}
	if journal := output(t, "events", "--local", l.dir); !strings.Contains(journal, "rebundle-complete") || !strings.Contains(journal, "rebundle-failed") {
		t.Errorf("the journal has\n%s", journal)
	}
	worse := l.images(t)[1]
	if out := output(t, "image", "delete", worse, "--yes", "--local", l.dir); !strings.Contains(out, "deleted "+worse) {
		t.Errorf("delete: %s", out)
	}
	if left := l.images(t); !slices.Equal(left, []string{shop}) {
		t.Errorf("left are %v", left)
	}
}

// put puts files into a server's directory.
func (l *local) put(t *testing.T, name string, files map[string]string) {
	t.Helper()
	for file, text := range files {
		path := filepath.Join(l.dir, name, "work", file)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// gives is what a server gives out.
func (l *local) gives(t *testing.T, name string) (string, error) {
	t.Helper()
	answer, err := http.Get("http://" + net.JoinHostPort(l.status(t).node(t, name).Address, "8080") + "/page.html")
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	return string(text), errors.Join(err, answer.Body.Close())
}

// ready waits until servers are.
func (l *local) ready(t *testing.T, names ...string) {
	t.Helper()
	l.awaitStatus(t, fmt.Sprintf("%v are ready", names), func(s status) bool {
		ready := 0
		for _, n := range s.Nodes {
			if slices.Contains(names, n.Name) && n.Size == "ready" {
				ready++
			}
		}
		return ready == len(names)
	})
}

func (l *local) images(t *testing.T) (names []string) {
	t.Helper()
	var list []struct{ Name string }
	if err := json.Unmarshal([]byte(output(t, "image", "list", "--json", "--local", l.dir)), &list); err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		names = append(names, i.Name)
	}
	return names
}
