package role

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farm"
	"farmhand/internal/farmtest"
	"farmhand/internal/report"
	"farmhand/sidecar/internal/load"
	"farmhand/sidecar/internal/membership"
)

// front is the site of the tests: it says what PHP knows, and waits for a file to go when it is
// asked to.
const front = `<?php
if (isset($_GET['wait'])) {
  touch($_GET['wait'] . '.begun');
  while (!file_exists($_GET['wait'])) { usleep(1000); clearstatcache(); }
}
echo implode(' ', [getenv('FARMHAND_DB_HOST'), getenv('FARMHAND_DB_PORT'), getenv('FARMHAND_DB_SOCKET'),
  $_SERVER['REMOTE_ADDR'], $_SERVER['HTTPS'] ?? 'plain', $_SERVER['REQUEST_URI'], isset($_SERVER['HTTP_PROXY']) && $_SERVER['HTTP_PROXY'] !== '' ? 'proxied' : '']);
`

// newSiteWorld is a web node with the test's site; the directory is one that other accounts can use.
func newSiteWorld(t *testing.T) (w *webWorld, url, dir string) {
	t.Helper()
	needProgram(t, "nginx")
	if _, err := findPHPFPM(""); err != nil {
		t.Skip(err)
	}
	w, dir = newWebWorld(t), farmtest.ShortDir(t)
	must(t, os.Chmod(dir, 0o755))
	root := filepath.Join(dir, "html")
	for path, text := range map[string]string{
		"index.php": front, "a.txt": "text", ".secret": "x", "wp-content/uploads/evil.php": "<?php echo 'ran';",
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755))
		must(t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o644))
	}
	must(t, os.Mkdir(filepath.Join(dir, "flags"), 0o755))
	must(t, os.Chmod(filepath.Join(dir, "flags"), 0o777))
	h := &w.config.Web.HTTP
	w.config.Web.Directory = filepath.Join(dir, "work")
	h.Listen, h.DocumentRoot, h.Balancers, h.Children = farmtest.FreePort(t).String(), root, "lb", 2
	h.Database, h.DatabaseSocket = "127.0.0.1:3307", "/run/farm.sock"
	if p := w.config.Validate(); len(p) > 0 {
		t.Fatal(p)
	}
	return w, "http://" + h.Listen, dir
}

// TestPagesOutliveAReload: one that PHP makes in pieces, each of which fills nginx's usual buffers
// to the last byte, is whole though nginx reads its files anew meanwhile.
func TestPagesOutliveAReload(t *testing.T) {
	w, url, dir := newSiteWorld(t)
	w.config.Web.HTTP.Children = 6
	must(t, os.WriteFile(filepath.Join(dir, "html", "pieces.php"), []byte(`<?php
for ($i = 0; $i < 24; $i++) { echo str_repeat('x', 4096); usleep(25000); }
echo 'end';`), 0o644))
	w.start(t)
	primary := host("db1", "primary", "1", membership.Up)
	w.source <- members(7, primary)
	w.await(t, "all well", fine)
	const length = 24*4096 + len("end")
	end := time.Now().Add(3 * time.Second)
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() {
			for time.Now().Before(end) {
				if status, said, err := page(url+"/pieces.php", "Connection", "close"); err != nil || status != 200 || len(said) != length {
					t.Errorf("%d, %d bytes of %d, %v", status, len(said), length, err)
					return
				}
			}
		})
	}
	// Its configuration has the load balancers.
	for n := 0; time.Now().Before(end); n++ {
		balancer := host(fmt.Sprint("lb", n), "lb", "1", membership.Up)
		balancer.Attributes = map[string]string{farm.RoleAttribute: "lb"}
		balancer.Address = fmt.Sprintf("127.0.0.%d:80", 2+n)
		w.source <- members(7, primary, balancer)
		time.Sleep(300 * time.Millisecond) // of pages between two reloads
	}
	clients.Wait()
}

// asked asks for a page by a host's name.
func asked(url, name string) (status int, text string, err error) { return page(url, "Host", name) }

// page asks for a page, and returns the status and what it says.
func page(url string, header ...string) (status int, text string, err error) {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	r.Host = r.Header.Get("Host") // which Go takes from there; empty is the URL's
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(response.Body)
	if closed := response.Body.Close(); err == nil {
		err = closed
	}
	return response.StatusCode, string(body), err
}

// TestSite: nginx and php-fpm serve a site, know who asks, come again when they are killed, and
// end when what is under way is done. They are the real ones.
func TestSite(t *testing.T) {
	w, url, dir := newSiteWorld(t)
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1", membership.Up))
	w.await(t, "all well", fine)
	expect := func(path string, status int, text string, header ...string) {
		t.Helper()
		got, said, err := page(url+path, header...)
		if err != nil || got != status || status == http.StatusOK && said != text {
			t.Errorf("%s: %d %q, %v; expected %d %q", path, got, said, err, status, text)
		}
	}
	const known = "127.0.0.1 3307 /run/farm.sock 127.0.0.1 plain "
	expect("/", 200, known+"/ ")
	expect("/2026/a-post/?page=2", 200, known+"/2026/a-post/?page=2 ", "Proxy", "http://evil")
	expect("/a.txt", 200, "text")
	expect("/.secret", 403, "")
	expect("/wp-content/uploads/evil.php", 403, "")
	expect("/none.php", 404, "")
	expect("/farmhand-health", 200, "pong")
	// What is said of a client's address is believed if a load balancer says it.
	forged := []string{"X-Forwarded-For", "192.0.2.7", "X-Forwarded-Proto", "https"}
	expect("/", 200, known+"/ ", forged...)
	balancer := host("lb1", "lb", "1", membership.Up) // as which this test comes
	balancer.Attributes = map[string]string{farm.RoleAttribute: "lb"}
	w.source <- members(7, host("db1", "primary", "1", membership.Up), balancer)
	const behind = "127.0.0.1 3307 /run/farm.sock 192.0.2.7 on / "
	farmtest.Eventually(t, "the load balancer is believed", func() error {
		if _, said, err := page(url+"/", forged...); err != nil || said != behind {
			return fmt.Errorf("%q, %v", said, err)
		}
		return nil
	})
	expect("/farmhand-status", 403, "", "X-Forwarded-For", "192.0.2.7")

	measured := load.NewNginx(url + "/farmhand-status")
	now := time.Now()
	_, err := measured.Sample(t.Context(), now)
	must(t, err)
	for range 20 {
		expect("/a.txt", 200, "text")
	}
	sample, err := measured.Sample(t.Context(), now.Add(time.Second))
	must(t, err)
	if n := sample[cluster.LoadRequests]; n < 20 || n > 30 { // and the node's own checks
		t.Errorf("20 requests in a second are measured as %v", sample)
	}

	for _, program := range []string{"nginx", "php-fpm"} {
		kill(t, w, program)
		farmtest.Eventually(t, program+" is there again", func() error {
			if status, said, err := page(url + "/"); err != nil || status != 200 {
				return fmt.Errorf("%d %q, %v", status, said, err)
			}
			return nil
		})
	}

	// Both of PHP's processes are busy: the node is not ill, and what waits is done too.
	answers := make(chan error, 3)
	flag := filepath.Join(dir, "flags", "go")
	for n := range cap(answers) {
		go func() {
			status, said, err := page(url + fmt.Sprintf("/%d?wait=%s%d", n, flag, n))
			if err == nil && (status != 200 || !strings.Contains(said, "wait=")) {
				err = fmt.Errorf("%d %q", status, said)
			}
			answers <- err
		}()
	}
	begun := func() (n int) {
		all, err := filepath.Glob(flag + "*.begun")
		must(t, err)
		return len(all)
	}
	farmtest.Eventually(t, "two requests are under way", func() error {
		if n := begun(); n != 2 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	expect("/farmhand-health", 200, "pong")
	w.stop()
	farmtest.Eventually(t, "no new request is taken", func() error {
		if status, _, err := page(url + "/a.txt"); err == nil {
			return fmt.Errorf("it answers %d", status)
		}
		return nil
	})
	if n := begun(); n != 2 {
		t.Errorf("%d requests are under way", n)
	}
	for n := range cap(answers) {
		must(t, os.WriteFile(fmt.Sprint(flag, n), nil, 0o644))
	}
	for range cap(answers) {
		if err := <-answers; err != nil {
			t.Error("a request under way at the end: ", err)
		}
	}
	must(t, <-w.done)
}

// TestLoadBalancersOutsideTheFarm: what they say is believed by the network that they are in.
func TestLoadBalancersOutsideTheFarm(t *testing.T) {
	for network, believed := range map[string]bool{"127.0.0.0/8": true, "192.0.2.0/24": false} {
		w, url, _ := newSiteWorld(t)
		w.config.Web.HTTP.Balancers, w.config.Web.HTTP.BalancerNetworks = "", []string{network}
		w.start(t)
		w.source <- members(7, host("db1", "primary", "1", membership.Up))
		w.await(t, "all well", fine)
		want := " 127.0.0.1 plain / "
		if believed {
			want = " 192.0.2.7 on / "
		}
		// Who asks puts an address of his own before the one that the load balancer sees.
		if status, said, err := page(url+"/", "X-Forwarded-For", "198.51.100.1, 192.0.2.7", "X-Forwarded-Proto", "https"); err != nil || status != 200 || !strings.HasSuffix(said, want) {
			t.Errorf("%s: %d %q, %v; want %q", network, status, said, err, want)
		}
		w.stop()
		must(t, <-w.done)
	}
}

// kill kills a program of the node, as a crash would, and not what that has started. It returns
// when there is another.
func kill(t *testing.T, w *webWorld, program string) {
	t.Helper()
	noted := func() string {
		text, err := os.ReadFile(filepath.Join(w.config.State, "program-"+program+".json"))
		must(t, err)
		_, after, _ := strings.Cut(string(text), `"pid":`)
		return strings.Trim(after[:strings.IndexAny(after, ",}")], " ")
	}
	pid := noted()
	must(t, exec.Command("kill", "-9", pid).Run())
	farmtest.Eventually(t, "another "+program, func() error {
		if noted() == pid {
			return fmt.Errorf("it is %s", pid)
		}
		return nil
	})
}

// TestSiteThatCannotServe: without php-fpm's processes a node says that it is not well.
func TestSiteThatCannotServe(t *testing.T) {
	w, _, dir := newSiteWorld(t)
	fake := filepath.Join(dir, "php-fpm")
	must(t, os.WriteFile(fake, []byte("#!/bin/sh\ncase $1 in --test) exit 0;; esac\ntrap 'kill $!; exit 0' QUIT\nsleep 100 &\nwait\n"), 0o755))
	w.config.Web.HTTP.PHPFPM = fake
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1", membership.Up))
	w.await(t, "that it is unhealthy", func(r report.Report) bool {
		return r.State == report.Unhealthy && strings.Contains(r.Detail, "502")
	})
	w.stop()
	must(t, <-w.done)
}

func TestPHPFPMByVersion(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	before := directories
	directories = nil
	t.Cleanup(func() { directories = before })
	if path, err := findPHPFPM(""); err == nil {
		t.Errorf("it is %s", path)
	}
	for _, name := range []string{"php-fpm8.9", "php-fpm8.10", "php-fpm7.4", "php-fpm8.2"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755))
	}
	if path, err := findPHPFPM(""); err != nil || filepath.Base(path) != "php-fpm8.10" {
		t.Errorf("it is %s, %v", path, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "php-fpm"), []byte("#!/bin/sh\n"), 0o755))
	if path, err := findPHPFPM(""); err != nil || filepath.Base(path) != "php-fpm" {
		t.Errorf("it is %s, %v", path, err)
	}
}

// TestProgramsEndInOrder: one that another uses is told to end when that has.
func TestProgramsEndInOrder(t *testing.T) {
	user, used := &program{ended: make(chan struct{})}, &program{ended: make(chan struct{})}
	used.until = []*program{user}
	finish, stop := context.WithCancel(t.Context())
	stop()
	never := make(chan struct{})
	must(t, used.hold(finish, finish, never)) // it was not started
	must(t, user.hold(finish, finish, never))
	<-used.ended
	<-user.ended
}
