package role

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"farmhand/internal/cluster"
	"farmhand/internal/farmtest"
	"farmhand/internal/objects"
	"farmhand/internal/registry"
	"farmhand/internal/release"
	"farmhand/internal/report"
	"farmhand/internal/service"
	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/membership"
)

// ordering is the farm's side of releases: it says what the node is to have, and hears how it stands.
type ordering struct {
	mu   sync.Mutex
	say  cluster.Releases
	news chan struct{} // closed at the next change
	last *cluster.NodeReport
}

func newOrdering() *ordering {
	return &ordering{say: cluster.Releases{Roles: map[string]*cluster.RoleReleases{"web": {}}}, news: make(chan struct{})}
}

func (o *ordering) Watch(ctx context.Context, _ registry.Record, tell func(registry.Value) error) error {
	for {
		o.mu.Lock()
		data, err := o.say.Encode()
		news := o.news
		o.mu.Unlock()
		if err == nil {
			err = tell(registry.Value{Data: data, Revision: 1})
		}
		if err != nil {
			return err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (o *ordering) Read(context.Context, registry.Record) ([]byte, error) { return nil, nil }
func (o *ordering) Until() time.Time                                      { return time.Now().Add(time.Hour) }

func (o *ordering) Report(_ context.Context, name string, data []byte) error {
	r, err := cluster.DecodeNodeReport(data)
	if name != cluster.NodeReportName || err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = r
	return nil
}

func (o *ordering) change(change func(r *cluster.RoleReleases)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o.say.Roles["web"])
	close(o.news)
	o.news = make(chan struct{})
}

// await waits until the node says something of its release, and returns that.
func (o *ordering) await(t *testing.T, what string, wanted func(cluster.ReleaseReport) bool) {
	t.Helper()
	farmtest.Eventually(t, what, func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.last == nil || o.last.Release == nil || !wanted(*o.last.Release) {
			text, err := json.Marshal(o.last)
			return fmt.Errorf("it says %s, %w", text, err)
		}
		return nil
	})
}

// page of the releases: each version says which it is, from two files, so that a mixture shows.
const releasedPage = `<?php
require __DIR__ . '/../part.php';
if (isset($_GET['slow'])) { usleep(300000); }
require_once __DIR__ . '/../late.php';
echo 'VERSION', ' ', part(), ' ', late(), ' ', basename(dirname($_SERVER['DOCUMENT_ROOT']));
`

// releaseWorld is a web node whose site comes as releases.
type releaseWorld struct {
	*webWorld
	says  *ordering
	store objects.Store
	url   string
	dir   string
}

func newReleaseWorld(t *testing.T) *releaseWorld {
	t.Helper()
	w, url, dir := newSiteWorld(t)
	r := &releaseWorld{webWorld: w, says: newOrdering(), url: url, dir: dir}
	shelf := filepath.Join(dir, "store")
	var err error
	r.store, err = objects.Open(t.Context(), objects.Config{Directory: shelf})
	must(t, err)
	w.farm = r.says
	c := &w.config
	c.Farm.Directory, c.Farm.Role, c.Membership.Registry.Cluster = filepath.Join(dir, "node"), "web", "db"
	c.Web.Release.Store, c.Web.Release.Path, c.Web.Release.Keep = shelf, "/?health", 2
	c.Web.Release.Within = service.Duration(10 * time.Second)
	c.Web.HTTP.DocumentRoot = c.Web.CurrentDir() + "/public"
	// What a cache has by its path stays there: a release must have another one.
	c.Web.HTTP.Settings = map[string]string{"opcache.validate_timestamps": "0", "realpath_cache_ttl": "3600"}
	if p := c.Validate(); len(p) > 0 {
		t.Fatal(p)
	}
	return r
}

// pack makes a release of files, puts it into the store and has it be one that can be had.
func (w *releaseWorld) pack(t *testing.T, version string, files map[string]string) {
	t.Helper()
	source := t.TempDir()
	for name, text := range map[string]string{
		"public/index.php": strings.Replace(releasedPage, "VERSION", version, 1), "public/style.css": version,
		"part.php": fmt.Sprintf("<?php function part() { return '%s'; }", version), "late.php": fmt.Sprintf("<?php function late() { return '%s'; }", version),
	} {
		if _, other := files[name]; !other {
			files[name] = text
		}
	}
	for name, text := range files {
		at := filepath.Join(source, name)
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		must(t, os.WriteFile(at, []byte(text), 0o644))
	}
	var packed bytes.Buffer
	is, err := release.Pack(t.Context(), source, &packed)
	must(t, err)
	one := cluster.Release{
		Version: version, Object: cluster.ReleaseObject("web", version, is.SHA256), SHA256: is.SHA256, Size: is.Size, Files: is.Files, Bytes: is.Bytes,
	}
	_, err = w.store.Put(t.Context(), one.Object, &packed, objects.PutOptions{SHA256: is.SHA256})
	must(t, err)
	w.says.change(func(r *cluster.RoleReleases) { r.Versions = append([]cluster.Release{one}, r.Versions...) })
}

// want has the node have a version, in an attempt of its own.
func (w *releaseWorld) want(version string) {
	w.says.change(func(r *cluster.RoleReleases) { r.Nodes, r.Attempt = map[string]string{"web1": version}, "to "+version })
}

// inForce has a version be the role's.
func (w *releaseWorld) inForce(version string) {
	w.says.change(func(r *cluster.RoleReleases) { r.Current, r.Nodes, r.Attempt = version, nil, "all "+version })
}

func (w *releaseWorld) has(t *testing.T, version string) {
	t.Helper()
	w.says.await(t, "it has "+version, func(r cluster.ReleaseReport) bool {
		return r.Version == version && r.Doing == "" && r.Refused == ""
	})
}

// visit asks for pages all the time until it is told to end. Each answer has to be of one version, and a page.
func (w *releaseWorld) visit(t *testing.T) (end func() map[string]int) {
	t.Helper()
	stop := make(chan struct{})
	var visitors sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for who := range 6 {
		path := [...]string{"/", "/a/page", "/?slow", "/style.css"}[who%4]
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		visitors.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				version, err := w.visitOnce(client, path)
				if err != nil {
					t.Errorf("%s: %v", path, err)
				}
				mu.Lock()
				seen[version]++
				mu.Unlock()
			}
		})
	}
	var once sync.Once
	finish := func() map[string]int {
		once.Do(func() { close(stop); visitors.Wait() })
		return seen
	}
	t.Cleanup(func() { finish() })
	return finish
}

func (w *releaseWorld) visitOnce(client *http.Client, path string) (version string, err error) {
	response, err := client.Get(w.url + path)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return "", err
	}
	words := strings.Fields(string(body))
	if response.StatusCode != http.StatusOK || len(words) == 0 {
		return "", fmt.Errorf("%s: %q", response.Status, body)
	}
	if path != "/style.css" && (len(words) != 4 || words[1] != words[0] || words[2] != words[0] || !strings.HasPrefix(words[3], words[0]+"-")) {
		return "", fmt.Errorf("a mixture: %q", body)
	}
	return words[0], nil
}

// TestReleases: a node gets one after the other while visitors come, none of whom sees anything but a page of
// one of them; what is no good does not reach them, and the node says why.
func TestReleases(t *testing.T) {
	w := newReleaseWorld(t)
	w.pack(t, "v1", map[string]string{})
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1", membership.Up))
	w.await(t, "that it is well with nothing", fine)
	w.inForce("v1")
	w.has(t, "v1")
	end := w.visit(t)
	for _, version := range []string{"v2", "v3", "v4", "v5"} {
		w.pack(t, version, map[string]string{})
		w.want(version)
		w.has(t, version)
		w.inForce(version)
	}

	refused := func(version, why string) {
		t.Helper()
		w.want(version)
		w.says.await(t, "it refuses "+version, func(r cluster.ReleaseReport) bool {
			return r.Refused == version && r.Attempt == "to "+version && r.Version == "v5" && strings.Contains(r.Why, why)
		})
	}
	w.pack(t, "broken", map[string]string{"public/index.php": "<?php broken("})
	refused("broken", "500 Internal Server Error")
	// It breaks only when it is what visitors get, as one that finds no more room in a cache.
	w.pack(t, "late", map[string]string{"public/index.php": `<?php
if (isset($_GET['health']) && str_contains(readlink(__DIR__ . '/../../../current'), 'late')) { http_response_code(503); echo 'ill'; exit; }
echo 'late late late ', basename(dirname($_SERVER['DOCUMENT_ROOT']));`})
	refused("late", "503 Service Unavailable \"ill\"")
	w.pack(t, "other", map[string]string{})
	w.says.change(func(r *cluster.RoleReleases) { r.Versions[0].SHA256 = strings.Repeat("0", 64) })
	refused("other", "not what was announced")

	// Back to an old one: it is there, or fetched again.
	w.want("v2")
	w.has(t, "v2")
	w.inForce("v2")
	seen := end()
	for _, version := range []string{"v1", "v2", "v3", "v4", "v5"} {
		if seen[version] == 0 {
			t.Errorf("no visitor has seen %s: %v", version, seen)
		}
	}
	if seen["broken"] > 0 || seen["other"] > 0 {
		t.Errorf("visitors have seen %v", seen)
	}
	t.Logf("pages by version: %v", seen)
	kept, err := os.ReadDir(filepath.Join(w.config.Web.SiteDir(), "releases"))
	must(t, err)
	if len(kept) > 4 { // two, the one before, and what was refused last
		t.Errorf("there are %v", kept)
	}
	w.end(t)
}

// TestPagesThatWaitForAReload: one that comes while php-fpm waits for the slow ones before it has its own time after that.
func TestPagesThatWaitForAReload(t *testing.T) {
	farmtest.Long(t)
	w := newReleaseWorld(t)
	w.config.Web.HTTP.TimeLimit = service.Duration(10 * time.Second)
	w.config.Web.HTTP.Children = 4
	slow := map[string]string{"public/slow.php": "<?php $at = microtime(true); while (microtime(true) < $at + 6) { usleep(10000); } echo 'whole';"}
	w.pack(t, "v1", maps.Clone(slow))
	w.inForce("v1")
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1", membership.Up))
	w.has(t, "v1")
	stop := make(chan struct{})
	var visitors sync.WaitGroup
	longest := time.Duration(0)
	var mu sync.Mutex
	for n := range 3 {
		visitors.Go(func() {
			time.Sleep(time.Duration(n) * 2 * time.Second) // one has the others to wait for
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				if status, text, err := page(w.url+"/slow.php", "Connection", "close"); err != nil || status != 200 || text != "whole" {
					t.Errorf("%d %q, %v", status, text, err)
				}
				mu.Lock()
				longest = max(longest, time.Since(began))
				mu.Unlock()
			}
		})
	}
	for _, version := range []string{"v2", "v3"} {
		w.pack(t, version, maps.Clone(slow))
		w.want(version)
		w.has(t, version)
	}
	close(stop)
	visitors.Wait()
	t.Logf("the page that waited longest took %v", longest.Round(time.Millisecond))
	w.end(t)
}

// TestReleaseOfANewNode: it is not well before it has the version in force, however long that takes.
func TestReleaseOfANewNode(t *testing.T) {
	w := newReleaseWorld(t)
	w.pack(t, "v1", map[string]string{})
	r := w.says.say.Roles["web"].Versions[0]
	content, _, err := w.store.Get(t.Context(), r.Object, objects.GetOptions{})
	must(t, err)
	packed, err := io.ReadAll(content)
	must(t, errors.Join(err, content.Close()))
	must(t, w.store.Delete(t.Context(), r.Object, ""))
	w.inForce("v1")
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1", membership.Up))
	w.says.await(t, "that it is tried again", func(r cluster.ReleaseReport) bool { return strings.Contains(r.Doing, "not found") })
	for len(w.reports) > 0 {
		if r := <-w.reports; r.State == report.Running {
			t.Errorf("it is well without a release: %+v", r)
		}
	}
	_, err = w.store.Put(t.Context(), r.Object, bytes.NewReader(packed), objects.PutOptions{})
	must(t, err)
	w.has(t, "v1")
	w.await(t, "that it is well", fine)
	if version, err := w.visitOnce(http.DefaultClient, "/"); err != nil || version != "v1" {
		t.Errorf("%q, %v", version, err)
	}
	w.end(t)
}

// TestSharedPathsAndCheck: what all releases share is not theirs, and code that a command refuses is not tried.
func TestSharedPathsAndCheck(t *testing.T) {
	w := newReleaseWorld(t)
	shared := filepath.Join(w.dir, "uploads")
	must(t, os.Mkdir(shared, 0o755))
	must(t, os.WriteFile(filepath.Join(shared, "a.txt"), []byte("uploaded"), 0o644))
	w.config.Web.Release.Shared = append(w.config.Web.Release.Shared, config.Shared{Path: "public/files/up", Target: shared})
	w.config.Web.Release.Check = []string{"/bin/sh", "-c", `test -f part.php && test ! -f fail || { echo "no good as $(id -un)"; exit 3; }`}
	w.pack(t, "v1", map[string]string{})
	w.inForce("v1")
	w.start(t)
	w.source <- members(7, host("db1", "primary", "1", membership.Up))
	w.has(t, "v1")
	if status, text, err := page(w.url + "/files/up/a.txt"); err != nil || status != 200 || text != "uploaded" {
		t.Errorf("%d %q, %v", status, text, err)
	}
	account, err := exec.Command("id", "-un").Output()
	must(t, err)
	if os.Geteuid() == 0 {
		name, err := firstAccount(webAccounts...)
		must(t, err)
		account = []byte(name)
	}
	for version, files := range map[string]map[string]string{"checked": {"fail": ""}, "full": {"public/files/up/mine.txt": "mine"}} {
		w.pack(t, version, files)
		w.want(version)
		why := map[string]string{"checked": "exit status 3: no good as " + strings.TrimSpace(string(account)), "full": "public/files/up is shared by all releases"}[version]
		w.says.await(t, "it refuses "+version, func(r cluster.ReleaseReport) bool {
			return r.Refused == version && r.Version == "v1" && strings.Contains(r.Why, why)
		})
	}
	// The code is its owner's, who is not the account that runs it.
	info, err := os.Stat(filepath.Join(w.config.Web.CurrentDir(), "part.php"))
	must(t, err)
	if info.Mode().Perm() != 0o644 {
		t.Errorf("its mode is %v", info.Mode())
	}
	info, err = os.Stat(w.config.Web.SiteDir())
	must(t, err)
	if info.Mode().Perm()&0o007 != 0 {
		t.Errorf("others have access to releases: %v", info.Mode())
	}
	w.end(t)
}
