package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"farmhand/internal/farmtest"
)

// releaseFarm is a farm whose site comes as releases; %s are the farm's directory, its first address, the places of
// the first web node's proxy, and the store.
const releaseFarm = `name: shop
provider: {kind: local, parameters: {directory: %s, first_address: %s}}
roles:
  db: {kind: mysql, count: 1}
  web:
    kind: web
    count: 3
    parameters:
      proxy: {tcp: "%s", unix: "", admin: "%s"}
      http: {port: 8081, document_root: "{directory}/site/current/public", lb: lb, time_limit: 10s, php: {children: 4}}
      release: {store: %s, check: sleep 1, path: /?health, within: 15s}
  lb: {kind: lb, count: 1, parameters: {check_path: /farmhand-health}}
`

// releasePage says three times which version it is of, each from another file, the last one late; %s is what else it does.
const releasePage = `<?php
%s
$first = require __DIR__ . '/../first.php';
usleep(random_int(0, 30000));
$late = require __DIR__ . '/../late.php';
header('X-Node: ' . $_SERVER['SERVER_ADDR']);
echo implode(' ', [$first, $late, strtok(basename(dirname($_SERVER['DOCUMENT_ROOT'])), '-')]);
`

// wholePage says of which version and node a page is, all of which must be of one version.
func wholePage(r *http.Response, body string) (string, bool) {
	words := strings.Fields(body)
	if len(words) != 3 || words[0] != words[1] || words[0] != words[2] {
		return "", false
	}
	return words[0] + " " + r.Header.Get("X-Node"), true
}

// versions are what the nodes of the role web say that they have.
func (f *localFarm) versions() map[string]string {
	all := map[string]string{}
	for name, n := range f.nodes() {
		if strings.HasPrefix(name, "web") {
			all[name] = "?"
			if n.Report != nil && n.Report.Release != nil && n.Report.Well {
				all[name] = n.Report.Release.Version
			}
		}
	}
	return all
}

// beginRelease asks for a release, and returns its operation when the first node has it and another one has not.
func (f *localFarm) beginRelease(source, version string) (operation string) {
	f.t.Helper()
	out, err := f.command("release", "web", source, "--version", version, "--no-wait").CombinedOutput()
	_, after, found := strings.Cut(string(out), "operation ")
	if err != nil || !found {
		f.t.Fatalf("scaler release: %v\n%s", err, out)
	}
	operation, _, _ = strings.Cut(after, ":")
	farmtest.Eventually(f.t, "a part of the web nodes has "+version, func() error {
		got, have := f.versions(), 0
		for _, one := range got {
			if one == version {
				have++
			}
		}
		if have == 0 || have == len(got) {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	return operation
}

// all waits until every web node has a version, of which there are so many.
func (f *localFarm) all(version string, many int) {
	f.t.Helper()
	farmtest.Eventually(f.t, "all web nodes have "+version, func() error {
		got := f.versions()
		for _, has := range got {
			if has != version {
				return fmt.Errorf("%v", got)
			}
		}
		if len(got) != many {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// TestReleasesOfAFarm: versions are rolled out and taken back while visitors come, none of whom sees anything but a
// page of one version: also when one is no good, on one node or on all; when the store is away and a sidecar is killed in the middle, and
// a node joins; a node that is killed with all that it has costs the pages that it had.
func TestReleasesOfAFarm(t *testing.T) {
	farmtest.Long(t)
	for _, program := range []string{"haproxy", "nginx"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	f, s3 := newFarm(t), farmtest.StartS3(t)
	store := fmt.Sprintf("%q", "s3://"+farmtest.S3Bucket+"/releases?endpoint="+s3.Endpoint()+"&region="+farmtest.S3Region)
	site := func(version, also string) string {
		dir := filepath.Join(f.top, "code", version)
		for name, text := range map[string]string{
			"public/index.php": fmt.Sprintf(releasePage, also), "first.php": fmt.Sprintf("<?php return '%s';", version), "late.php": fmt.Sprintf("<?php return '%s';", version),
		} {
			at := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	file, first := filepath.Join(f.top, "farm.yaml"), farmtest.AddressBlock(14)
	last := first
	for range 13 {
		last = last.Next()
	}
	text := fmt.Sprintf(releaseFarm, f.dir, first, f.listen, farmtest.FreePort(t), store)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f.up("--file", file, "--control-address", last.String())
	farmtest.Eventually(t, "all nodes are well without a release", func() error {
		for _, name := range []string{"web1", "web2", "web3", "lb1"} {
			if n := f.nodes()[name]; n.Report == nil || !n.Report.Well {
				return fmt.Errorf("%s: %+v", name, n.Report)
			}
		}
		return nil
	})
	f.order("release", "web", site("v1", ""), "--version", "v1", "--batch", "3")
	f.all("v1", 3)
	url := "http://" + net.JoinHostPort(f.nodes()["lb1"].Address.String(), "8080") + "/a/page"
	pages := visiting{url: url, whose: wholePage}
	farmtest.Eventually(t, "the load balancer answers", func() error { _, err := pages.once(http.DefaultClient, http.MethodGet); return err })
	v := visit(pages)
	t.Cleanup(v.end)
	none := func(when string) {
		t.Helper()
		for _, failed := range v.failures() {
			t.Errorf("%s: visitor %d: %v", when, failed.who, failed.why)
		}
	}
	serves := func(version, name string) {
		t.Helper()
		address := f.nodes()[name].Address.String()
		farmtest.Eventually(t, name+" serves "+version, func() error {
			if n := v.served(version + " " + address); n < 10 {
				return fmt.Errorf("%d pages; it says %v", n, f.versions())
			}
			return nil
		})
	}
	refused := func(why string, args ...string) {
		t.Helper()
		out, err := f.command(append([]string{"release", "web"}, args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), why) {
			t.Errorf("scaler release %v: %v\n%s", args, err, out)
		}
	}
	for _, name := range []string{"web1", "web2", "web3"} {
		serves("v1", name)
	}
	none("at first")

	began := time.Now()
	f.order("release", "web", site("v2", ""), "--version", "v2")
	t.Logf("v2 was rolled out to 3 servers, one at a time, within %v", time.Since(began).Round(time.Millisecond))
	f.all("v2", 3)
	serves("v2", "web3")
	none("while v2 was rolled out")

	refused("visitors do not get it", site("bad", "http_response_code(500);"), "--version", "bad", "--batch", "2")
	f.all("v2", 3)
	none("while all refused a release")
	refused("v2 is in force: web1, web2, web3", site("half", fmt.Sprintf("if (str_starts_with(__DIR__, '%s/web2/')) { http_response_code(500); }", f.dir)), "--version", "half")
	f.all("v2", 3)
	if n := v.served("half " + f.nodes()["web2"].Address.String()); n > 0 {
		t.Errorf("%d visitors have seen what web2 refused", n)
	}
	none("while one refused a release that another had")
	refused("its code is other code", site("other", ""), "--version", "v2")

	// In the middle of the next one the store is away for a while, a sidecar is killed, and a node joins.
	nodes := f.nodes()
	v3 := f.beginRelease(site("v3", ""), "v3")
	s3.Kill9(t)
	if err := syscall.Kill(nodes["web2"].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // of which the store is away
	s3.Restart(t)
	f.order("scale", "web", "4")
	f.order("wait", v3)
	f.all("v3", 4)
	serves("v3", "web2")
	serves("v3", "web4")
	none("while v3 was rolled out, the store away, a sidecar killed and a node joined")

	// And a node with all that it has.
	v4 := f.beginRelease(site("v4", ""), "v4")
	killed := f.nodes()["web3"]
	f.killNode(killed)
	closed := time.Now()
	f.order("wait", v4)
	f.all("v4", 4)
	serves("v4", "web1")
	lost := v.failures()
	for _, page := range lost {
		if page.began.After(closed) {
			t.Errorf("visitor %d lost a page that was asked for when nobody listened any more: %v", page.who, page.why)
		}
	}

	began = time.Now()
	f.order("release", "web", "--rollback", "--batch", "2")
	t.Logf("4 servers went back, two at a time, within %v", time.Since(began).Round(time.Millisecond))
	f.all("v3", 4)
	serves("v3", "web1")
	f.order("release", "web", "--to", "v4", "--batch", "4")
	f.all("v4", 4)
	none("while they went back and forth")
	v.end()
	for at := range v.by {
		if version, _, _ := strings.Cut(at, " "); !slices.Contains([]string{"v1", "v2", "v3", "v4", "half"}, version) {
			t.Errorf("visitors have seen %s", at)
		}
	}
	t.Logf("%d pages, of which a killed node cost %d", v.pages, len(lost))

	out, err := f.command("release", "web", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Current  string
		Versions []struct{ Version string }
		Servers  map[string]string
	}
	if err := json.Unmarshal(out, &list); err != nil || list.Current != "v4" || len(list.Versions) != 4 || list.Servers["web4"] != "v4" {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := f.command("status").Output(); err != nil || strings.Count(string(out), "release v4.") != 4 {
		t.Errorf("%v: %s", err, out)
	}
}
