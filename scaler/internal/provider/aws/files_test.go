package aws

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

func TestFilesOfANode(t *testing.T) {
	t.Parallel()
	db, err := NodeFiles(spec(farmfile.MySQLKind, "db", 1), farmfile.AWS{Directory: "/opt/farmhand"})
	if err != nil {
		t.Fatal(err)
	}
	config := db["/opt/farmhand/sidecar.yaml"]
	for _, part := range []string{"listen: '@ADDRESS@:3306'", "/opt/farmhand/node/replication.password", "/opt/farmhand/token", "directory: /opt/farmhand/data"} {
		if !strings.Contains(strings.ReplaceAll(config, `"`, `'`), part) && !strings.Contains(config, strings.Trim(part, "'")) && !strings.Contains(config, strings.ReplaceAll(part, "'", "")) {
			t.Errorf("without %s:\n%s", part, config)
		}
	}
	web, err := NodeFiles(spec(farmfile.WebKind, "web", 1), farmfile.AWS{Directory: "/opt/farmhand", Roles: map[string]farmfile.AWSRole{"web": {Market: farmfile.Spot}}})
	if err != nil || web["/opt/farmhand/proxy.yaml"] == "" || strings.Contains(web["/opt/farmhand/sidecar.yaml"], "replication.password") || !strings.Contains(web["/opt/farmhand/sidecar.yaml"], "metadata: http://169.254.169.254") || strings.Contains(config, "metadata:") {
		t.Errorf("a web node's files are %v, %v", web, err)
	}
}

// TestUserDataIsRun runs the script with what an instance has: a metadata service that
// wants a token, and no systemd.
func TestUserDataIsRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := spec(farmfile.WebKind, "web", 1)
	s.Token = "farmhand-join-x'y"
	files, err := NodeFiles(s, farmfile.AWS{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	files[dir+"/quoted"] = "a'b\"c$(id)\n@ADDRESS@\n"
	data, err := userData(farmfile.AWS{Directory: dir}, s, files, disk{})
	if err != nil {
		t.Fatal(err)
	}
	imds := metadata(t, "/latest/meta-data/local-ipv4", "10.1.2.3")
	// Where nothing else may be written to.
	data = strings.NewReplacer("/var/log/farmhand-", dir+"/log-", "/var/lib/cloud", dir+"/cloud", "/run/systemd/system", dir+"/none").Replace(data)
	if err := os.MkdirAll(dir+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/bin/sidecar", []byte("#!/bin/sh\necho \"$@\" >"+dir+"/ran.new\nmv "+dir+"/ran.new "+dir+"/ran\nkill $PPID\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", data)
	cmd.Env = append(os.Environ(), "FARMHAND_IMDS="+imds)
	if out, err := cmd.CombinedOutput(); err != nil {
		log, _ := os.ReadFile(dir + "/log-boot.log")
		t.Fatalf("%v: %s%s", err, out, log)
	}
	await(t, func() bool { _, err := os.Stat(dir + "/ran"); return err == nil })
	for path, want := range map[string]string{"ran": "run " + dir + "/sidecar.yaml\n", "token": s.Token + "\n", "quoted": "a'b\"c$(id)\n10.1.2.3\n"} {
		if text, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(text) != want {
			t.Errorf("%s is %q, %v", path, text, err)
		}
	}
	if info, err := os.Stat(dir + "/token"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's mode is %v, %v", info, err)
	}
	if text, err := os.ReadFile(dir + "/log-boot.log"); err != nil || strings.Contains(string(text), "farmhand-join") {
		t.Errorf("the log says %q, %v", text, err)
	}
}

// TestTheFirstStartFromAnImage: what the image has of the instance that it was made of is
// gone, and never runs; a second run of the same changes nothing.
func TestTheFirstStartFromAnImage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := spec(farmfile.WebKind, "web", 2)
	files, err := NodeFiles(s, farmfile.AWS{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	data, err := userData(farmfile.AWS{Directory: dir}, s, files, disk{})
	if err != nil {
		t.Fatal(err)
	}
	imds := metadata(t, "/latest/meta-data/local-ipv4", "10.1.2.3")
	data = strings.NewReplacer("/var/log/farmhand-", dir+"/log-", "/var/lib/cloud", dir+"/cloud", "/run/systemd/system", dir+"/none").Replace(data)
	const machine = "0123456789abcdef0123456789abcdef\n"
	for path, text := range map[string]string{
		"bin/sidecar": "#!/bin/sh\n: >" + dir + "/ran\nkill $PPID\n", "start": "OWN='i-of-before'\n", "token": "of before", "node/node.key": "of before", "state/x": "of before",
		"root/root/.bash_history": "of before", "root/home/anna/.mysql_history": "of before", "root/etc/machine-id": machine,
		"root/etc/ssh/ssh_host_ed25519_key": "of before", "work/page": "kept", "cloud/data/instance-id": "i-of-now\n",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir+"/root/etc/ssh/ssh_host_ed25519_key", old, old); err != nil {
		t.Fatal(err)
	}
	boot := func() {
		cmd := exec.Command("sh", "-c", data)
		cmd.Env = append(os.Environ(), "FARMHAND_IMDS="+imds, "FARMHAND_ROOT="+dir+"/root")
		if out, err := cmd.CombinedOutput(); err != nil {
			log, _ := os.ReadFile(dir + "/log-boot.log")
			t.Fatalf("%v: %s%s", err, out, log)
		}
		await(t, func() bool { return os.Remove(dir+"/ran") == nil })
	}
	boot()
	for _, gone := range []string{"node/node.key", "state/x", "root/root/.bash_history", "root/home/anna/.mysql_history"} {
		if _, err := os.Stat(filepath.Join(dir, gone)); !os.IsNotExist(err) {
			t.Errorf("%s is there: %v", gone, err)
		}
	}
	text := func(path string) string {
		text, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			text = []byte(err.Error())
		}
		return string(text)
	}
	if text("token") != s.Token+"\n" || text("work/page") != "kept" || text("root/etc/machine-id") == machine || len(text("root/etc/machine-id")) != len(machine) {
		t.Errorf("token %q, page %q, machine id %q", text("token"), text("work/page"), text("root/etc/machine-id"))
	}
	if key := text("root/etc/ssh/ssh_host_ed25519_key"); key == "of before" {
		t.Errorf("the host key is %q", key)
	}
	id := text("root/etc/machine-id")
	if err := os.WriteFile(dir+"/node.key", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir+"/node", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/node.key", dir+"/node/node.key"); err != nil {
		t.Fatal(err)
	}
	boot()
	if text("root/etc/machine-id") != id || text("node/node.key") != "" {
		t.Error("the second run has taken this instance's own away")
	}

	// Its copy in another machine's image does not run there.
	if err := os.WriteFile(dir+"/cloud/data/instance-id", []byte("i-of-later\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(dir + "/start").CombinedOutput(); err == nil || !strings.Contains(string(out), "of instance i-of-now, and it is another one") {
		t.Errorf("it runs: %v, %s", err, out)
	}
}

func TestUserDataHasItsBounds(t *testing.T) {
	t.Parallel()
	s := spec(farmfile.WebKind, "web", 1)
	config := Places{"/d"}.Config()
	if _, err := userData(farmfile.AWS{Directory: "/d"}, s, Files{config: strings.Repeat("x", maxUserData)}, disk{}); err == nil {
		t.Error("too much was taken")
	}
	if _, err := userData(farmfile.AWS{Directory: "/d"}, s, Files{}, disk{}); err == nil {
		t.Error("an instance without a configuration")
	}
	data, err := userData(farmfile.AWS{Directory: "/d"}, s, Files{config: "x"}, disk{})
	if err != nil || !strings.Contains(data, base64.StdEncoding.EncodeToString([]byte(s.Token+"\n"))) || !strings.HasPrefix(data, "#!/bin/sh\n") {
		t.Errorf("%s, %v", data, err)
	}
}

func TestConfigurationsInTags(t *testing.T) {
	t.Parallel()
	long := provider.Configuration{}
	for _, key := range regexp.MustCompile(`\w+`).FindAllString(boot, 400) {
		long[key] = key + "-value"
	}
	all, err := configurationTags(long)
	if err != nil || len(all) < 2 {
		t.Fatalf("%d tags, %v", len(all), err)
	}
	short, err := configurationTags(provider.Configuration{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := configurationOf(all); err != nil || len(long.Changes(c)) != 0 {
		t.Errorf("read %v, %v", c, err)
	}
	for key, value := range short { // what is left of the longer one is not read
		all[key] = value
	}
	if c, err := configurationOf(all); err != nil || len(c) != 1 || c["a"] != "b" {
		t.Errorf("read %v, %v", c, err)
	}
	if c, err := configurationOf(map[string]string{tagConfiguration + "0": "999.abc"}); err == nil {
		t.Errorf("read %v of what is not whole", c)
	}
	if _, err := configurationOf(nil); err != nil {
		t.Error(err)
	}
}

// metadata is an instance's metadata service that has one thing, for who has a token.
func metadata(t *testing.T, path, value string) (url string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") != "":
			_, _ = io.WriteString(w, "token-1")
		case r.Header.Get("X-aws-ec2-metadata-token") != "token-1":
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodGet && r.URL.Path == path:
			_, _ = io.WriteString(w, value)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}
