package provider_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/provider/providertest"
)

const version = "app-20260102-150405"

func appSpec(number int, image string) provider.Spec {
	s := providertest.Spec(farmfile.BaseKind, "app", number)
	s.Role.Image, s.Role.Parameters.Base = image, &farmfile.Base{}
	return s
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// TestAnImageHasNoSecrets: what is planted is not in it, by name or by content, and
// what another instance needs is.
func TestAnImageHasNoSecrets(t *testing.T) {
	o := made(t)
	l := local(t, o)
	if _, err := l.Launch(t.Context(), appSpec(1, "host")); err != nil {
		t.Fatal(err)
	}
	passwords, err := l.Passwords()
	if err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(o.Dir, "app1", "work")
	taken := map[string]string{
		"www/index.php": "<?php echo 2;", "bin/run": "#!/bin/sh\n", "www/run/code.php": "1", "composer.lock": "{}", "history": "of the firm", "www/token/index.php": "1",
	}
	const planted = "PLANTED"
	secrets := map[string]string{
		"tls/server.key": planted, ".ssh/id_ed25519": planted, ".ssh/config": planted, "etc/ssh/ssh_host_rsa_key": planted, ".bash_history": planted, "www/.mysql_history": planted,
		"etc/machine-id": planted, "token": planted, "db.password": planted, ".my.cnf": planted, ".aws/credentials": planted, "www/.env": planted,
		"logs/access": planted, "www/error.log": planted, "old/error.log.1": planted, "run/state": planted, "tmp/upload": planted, "srv/nginx.pid": planted,
		"bundle.pem":        planted + "\n-----BEGIN PRIVATE KEY-----\n",
		"www/wp-config.php": planted + strings.Repeat(" ", 32<<10-10) + passwords.Monitor, // across two reads
	}
	for path, text := range taken {
		write(t, filepath.Join(work, path), text, 0o644)
	}
	for path, text := range secrets {
		write(t, filepath.Join(work, path), text, 0o600)
	}
	for _, change := range []error{
		os.Chmod(filepath.Join(work, "bin/run"), 0o750), os.Symlink(filepath.Join(work, "bin/run"), filepath.Join(work, "www/inside")), os.Symlink("/etc/hostname", filepath.Join(work, "outside")),
		unix.Mkfifo(filepath.Join(work, "fifo"), 0o600), os.Chmod(filepath.Join(work, "old"), 0o555),
	} {
		if change != nil {
			t.Fatal(change)
		}
	}
	if socket, err := net.Listen("unix", filepath.Join(work, "s")); err == nil { // the path may be too long for one
		defer func() { _ = socket.Close() }()
	}
	var image provider.Image
	for range 2 { // again is the same
		if image, err = l.MakeImage(t.Context(), "app1", version); err != nil {
			t.Fatal(err)
		}
	}
	files := filepath.Join(o.Dir, "images", version)
	if err := filepath.WalkDir(files, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			if err == nil && !e.IsDir() && e.Type() != fs.ModeSymlink {
				t.Errorf("the image has %s, a %v", path, e.Type())
			}
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), planted) || strings.Contains(string(text), passwords.Monitor) {
			t.Errorf("the image has %s: %.100s", path, text)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// .ssh and .aws are left out as a whole.
	if image.Files != len(taken)+2 || image.From != "app1" || len(image.LeftOut) < len(secrets)-1 {
		t.Errorf("the image is %+v", image)
	}
	for _, gone := range []string{"tls/server.key", "bundle.pem", "www/wp-config.php", "fifo"} {
		if !slices.ContainsFunc(image.LeftOut, func(l provider.LeftOut) bool { return l.Path == gone && l.Why != "" }) {
			t.Errorf("nothing is said of %s", gone)
		}
	}

	// Another instance has it, and it is its own.
	if _, err := l.Launch(t.Context(), appSpec(2, version)); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(o.Dir, "app2", "work")
	for path, want := range taken {
		if text, err := os.ReadFile(filepath.Join(other, path)); err != nil || string(text) != want {
			t.Errorf("%s is %q, %v", path, text, err)
		}
	}
	if inside, err := filepath.EvalSymlinks(filepath.Join(other, "www/inside")); err != nil || inside != filepath.Join(other, "bin/run") {
		t.Errorf("the link leads to %s, %v", inside, err)
	}
	for path, mode := range map[string]fs.FileMode{"bin/run": 0o750, "old": 0o555, "logs": 0o755} {
		if info, err := os.Stat(filepath.Join(other, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}

	// What became of an image afterwards is not launched from.
	write(t, filepath.Join(files, "files/www/index.php"), "<?php echo 3;", 0o644)
	if _, err := l.Launch(t.Context(), appSpec(3, version)); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("launched from a damaged image: %v", err)
	}
	if _, err := l.Launch(t.Context(), appSpec(3, "app-20260102-150406")); err == nil || !strings.Contains(err.Error(), "there are host, "+version) {
		t.Errorf("launched from an image that is not there: %v", err)
	}
	all, err := l.List(t.Context())
	if err != nil || len(all) != 2 {
		t.Errorf("there are %v, %v", all, err)
	}
	for _, i := range all {
		if err := l.Terminate(t.Context(), i.Name); err != nil {
			t.Error(err)
		}
	}
}

func TestImagesAreListedAndRemoved(t *testing.T) {
	o := made(t)
	l := local(t, o)
	if images, err := l.Images(t.Context()); err != nil || len(images) != 0 {
		t.Fatalf("%v, %v", images, err)
	}
	s := appSpec(1, "")
	if _, err := l.Launch(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Terminate(t.Context(), s.Name); err != nil {
			t.Error(err)
		}
	}()
	write(t, filepath.Join(o.Dir, "app1/work/a"), "a", 0o644)
	// As of a scaler that was killed.
	write(t, filepath.Join(o.Dir, "images", version+".new", "files/half"), "a", 0o644)
	if _, err := l.MakeImage(t.Context(), "app1", version); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][2]string{{"app1", "../app-20260102-150405"}, {"app1", "app"}, {"app9", "app-20260102-150406"}, {"app9", version}} {
		if _, err := l.MakeImage(t.Context(), wrong[0], wrong[1]); err == nil {
			t.Errorf("made %v", wrong)
		}
	}
	images, err := l.Images(t.Context())
	if err != nil || len(images) != 1 || images[0].Name != version || images[0].Files != 1 || !images[0].Ready || time.Since(images[0].Made) > time.Hour {
		t.Errorf("%+v, %v", images, err)
	}
	for range 2 {
		if err := l.RemoveImage(t.Context(), version); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(o.Dir, "images")); err != nil || len(left) != 1 { // the lock
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestAFileThatIsWrittenToIsInNoImage, whoever reads it.
func TestAFileThatIsWrittenToIsInNoImage(t *testing.T) {
	o := made(t)
	l := local(t, o)
	if _, err := l.Launch(t.Context(), appSpec(1, "")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(o.Dir, "app1/work/busy")
	write(t, path, strings.Repeat("x", 16<<20), 0o644)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	began, stop, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			if _, err := f.WriteString("x"); err != nil {
				done <- err
				return
			}
			if n == 0 {
				close(began)
			}
			select {
			case <-stop:
				done <- f.Close()
				return
			default:
			}
		}
	}()
	<-began
	_, err = l.MakeImage(t.Context(), "app1", version)
	close(stop)
	if err == nil || !strings.Contains(err.Error(), "busy is written to all the time") {
		t.Errorf("the image was made: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if images, err := l.Images(t.Context()); err != nil || len(images) != 0 {
		t.Errorf("%v, %v", images, err)
	}
	if err := l.Terminate(t.Context(), "app1"); err != nil {
		t.Error(err)
	}
}
