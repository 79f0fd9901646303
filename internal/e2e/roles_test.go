package e2e

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/dbserver"
	"farmhand/internal/farmtest"
)

// rolesFarm is a farm with a web site; %s are the farm's directory, its first address, the places of
// the first web node's proxy, and the site's directory.
const rolesFarm = `name: shop
provider: {kind: local, parameters: {directory: %s, first_address: %s}}
roles:
  db: {kind: mysql, count: 1}
  web:
    kind: web
    count: 2
    parameters:
      proxy: {tcp: "%s", unix: "", admin: "%s"}
      http: {port: 8081, document_root: %s, lb: lb, time_limit: 10s, php: {children: 6}}
      templates: [{source: %s, destination: "{directory}/cache.php"}]
  lb: {kind: lb, count: 1, parameters: {check_path: /farmhand-health}}
  cache: {kind: memcached, count: 1}
`

//go:embed site.php
var sitePage string

// visitors ask for pages all the time, each for one at a time.
type visitors struct {
	visiting
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex
	pages  int
	posts  int
	by     map[string]int // pages by whose they are
	failed []lostPage
}

// visiting is what visitors do.
type visiting struct {
	url   string
	every time.Duration // how often each asks; 0 is as often as there is an answer
	// whose says whose page an answer is, and whether it is a good one.
	whose func(r *http.Response, body string) (string, bool)
}

type lostPage struct {
	who   int
	began time.Time
	why   error
}

const visitorCount = 6

func visit(what visiting) *visitors {
	ctx, stop := context.WithCancel(context.Background())
	v := &visitors{visiting: what, stop: stop, by: map[string]int{}}
	for who := range visitorCount {
		v.done.Go(func() {
			// Half of them open a connection for each page.
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: who%2 == 0}, Timeout: 20 * time.Second}
			defer client.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				method := http.MethodGet
				if n%4 == 3 { // which is not tried again by anybody
					method = http.MethodPost
				}
				began := time.Now()
				by, err := what.once(client, method)
				v.mu.Lock()
				v.pages++
				if err != nil {
					v.failed = append(v.failed, lostPage{who, began, err})
				} else {
					v.by[by]++
					if method == http.MethodPost {
						v.posts++
					}
				}
				v.mu.Unlock()
				select {
				case <-ctx.Done():
				case <-time.After(time.Until(began.Add(what.every))):
				}
			}
		})
	}
	return v
}

// once asks for a page, and returns whose it is.
func (w *visiting) once(client *http.Client, method string) (by string, err error) {
	r, err := http.NewRequest(method, w.url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(r)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return "", err
	}
	by, good := w.whose(response, string(body))
	if response.StatusCode != http.StatusOK || !good {
		return "", fmt.Errorf("%s %s: %s", method, response.Status, body)
	}
	return by, nil
}

func (v *visitors) end() { v.stop(); v.done.Wait() }

// failures are those so far; they are forgotten.
func (v *visitors) failures() []lostPage {
	v.mu.Lock()
	defer v.mu.Unlock()
	f := v.failed
	v.failed = nil
	return f
}

func (v *visitors) served(node string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.by[node]
}

// roleNode is a part of what "scaler status --json" says of a node.
type roleNode struct {
	Name    string
	Role    string
	Address netip.Addr
	PID     int
	Report  *cluster.NodeReport
}

func (f *localFarm) nodes() map[string]roleNode {
	f.t.Helper()
	out, err := f.command("status", "--json").Output()
	if err != nil {
		f.t.Fatalf("scaler status: %v", err)
	}
	var s struct{ Nodes []roleNode }
	if err := json.Unmarshal(out, &s); err != nil {
		f.t.Fatal(err)
	}
	all := map[string]roleNode{}
	for _, n := range s.Nodes {
		all[n.Name] = n
	}
	return all
}

func (f *localFarm) order(args ...string) {
	f.t.Helper()
	if out, err := f.command(args...).CombinedOutput(); err != nil {
		f.t.Fatalf("scaler %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// notedPID is the process that a sidecar has noted of a program.
func (f *localFarm) notedPID(note string) int {
	f.t.Helper()
	text, err := os.ReadFile(note)
	if err != nil {
		f.t.Fatal(err)
	}
	var noted struct{ PID int }
	if err := json.Unmarshal(text, &noted); err != nil || noted.PID <= 1 {
		f.t.Fatalf("%s: %v", text, err)
	}
	return noted.PID
}

// killNode kills all of a web node at once: the sidecar, so that it starts nothing again, and then
// its programs with all that these have started. It returns when nobody listens there any more.
func (f *localFarm) killNode(n roleNode) {
	f.t.Helper()
	pids := []int{n.PID}
	for _, program := range []string{"nginx", "php-fpm"} {
		pids = append(pids, -f.notedPID(filepath.Join(f.dir, n.Name, "state", "program-"+program+".json")))
	}
	for _, pid := range append(pids, -n.Report.PID) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			f.t.Fatalf("kill %d: %v", pid, err)
		}
	}
	for {
		conn, err := net.Dial("tcp", net.JoinHostPort(n.Address.String(), "8081"))
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if err != nil {
			continue // one that was to be taken, and now is not
		}
		if err := conn.Close(); err != nil {
			f.t.Fatal(err)
		}
	}
}

// TestFarmOfAllRoles: a site of two web nodes behind a load balancer, with a database and a
// memcached. One that is killed costs the requests that it had, and comes again; more come and
// one goes, and no visitor notices.
func TestFarmOfAllRoles(t *testing.T) {
	farmtest.Long(t)
	for _, program := range []string{"haproxy", "nginx", "memcached"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	f := newFarm(t)
	site := filepath.Join(f.top, "site")
	write := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(site, "index.php"), sitePage)
	list := filepath.Join(f.top, "cache.tmpl")
	write(list, `{{range slots "cache"}}{{.Address}}{{end}}`)
	file, first := filepath.Join(f.top, "farm.yaml"), farmtest.AddressBlock(12)
	last := first
	for range 11 {
		last = last.Next()
	}
	write(file, fmt.Sprintf(rolesFarm, f.dir, first, f.listen, farmtest.FreePort(t), site, list))
	f.up("--file", file, "--control-address", last.String())

	password, err := os.ReadFile(filepath.Join(f.dir, "secrets", "app.password"))
	if err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(f.top, "password"), string(password))
	db := farmtest.OpenSchemaless(t, "tcp", f.listen.String(), dbserver.Account{User: "app", Password: strings.TrimSpace(string(password))})
	if _, err := db.Exec("CREATE TABLE app.visits (id INT AUTO_INCREMENT PRIMARY KEY, node VARCHAR(50))"); err != nil {
		t.Fatal(err)
	}
	var nodes map[string]roleNode
	farmtest.Eventually(t, "all nodes are well", func() error {
		nodes = f.nodes()
		for _, name := range []string{"web1", "web2", "lb1", "cache1"} {
			if n := nodes[name]; n.Report == nil || !n.Report.Well {
				return fmt.Errorf("%s: %+v", name, n.Report)
			}
		}
		return nil
	})
	address := func(name string) string { return nodes[name].Address.String() }
	url := "http://" + net.JoinHostPort(address("lb1"), "8080") + "/a/page"
	pages := visiting{url: url, every: 20 * time.Millisecond, whose: func(r *http.Response, body string) (string, bool) {
		return r.Header.Get("X-Node"), strings.HasSuffix(body, " visits, 127.0.0.1")
	}}
	farmtest.Eventually(t, "the load balancer answers", func() error { _, err := pages.once(http.DefaultClient, http.MethodGet); return err })
	v := visit(pages)
	t.Cleanup(v.end)
	serves := func(name string) {
		t.Helper()
		from := v.served(address(name))
		farmtest.Eventually(t, name+" serves visitors", func() error {
			if n := v.served(address(name)) - from; n < 20 {
				return fmt.Errorf("%d pages; %+v", n, f.nodes()[name].Report)
			}
			return nil
		})
	}
	none := func(when string) {
		t.Helper()
		for _, failed := range v.failures() {
			t.Errorf("%s: visitor %d: %v", when, failed.who, failed.why)
		}
	}
	serves("web1")
	serves("web2")
	for _, name := range []string{"web1", "web2"} {
		list, err := os.ReadFile(filepath.Join(f.dir, name, "work", "cache.php"))
		if want := net.JoinHostPort(address("cache1"), "11211"); err != nil || string(list) != want {
			t.Errorf("%s knows as memcached %q, %v; want %s", name, list, err, want)
		}
	}
	none("at first")

	killed := time.Now()
	f.killNode(nodes["web1"])
	closed := time.Now()
	farmtest.Eventually(t, "the farm notices", func() error {
		if n := f.nodes()["web1"]; n.PID == nodes["web1"].PID && n.Report != nil && n.Report.Well {
			return fmt.Errorf("%+v", n.Report)
		}
		return nil
	})
	noticed := time.Since(killed)
	serves("web2")
	serves("web1")
	back := time.Since(killed)
	lost := v.failures()
	for _, page := range lost {
		t.Logf("lost: a page that visitor %d asked for %v after the kill: %v", page.who, page.began.Sub(killed), page.why)
		if page.began.After(closed) {
			t.Errorf("visitor %d lost a page that was asked for when nobody listened any more, %v after the kill", page.who, page.began.Sub(killed))
		}
	}

	f.order("scale", "web", "3")
	nodes = f.nodes()
	serves("web3")
	none("while a node was added")

	f.order("terminate", "web2", "--yes", "--shrink")
	if n, there := f.nodes()["web2"]; there {
		t.Errorf("web2 is still there: %+v", n)
	}
	serves("web1")
	serves("web3")
	v.end()
	none("while a node was taken away")
	var rows int
	if err := db.QueryRow("SELECT COUNT(*) FROM app.visits").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if rows < v.posts || rows > v.posts+len(lost) {
		t.Errorf("%d visits were written and acknowledged, the database has %d", v.posts, rows)
	}
	t.Logf("%d pages, %d of them written; the kill was noticed within %v and cost %d pages; the node served again after %v",
		v.pages, v.posts, noticed.Round(time.Millisecond), len(lost), back.Round(time.Millisecond))
}
