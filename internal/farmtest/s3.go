package farmtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"farmhand/internal/child"
)

// S3 is a real S3 server, versitygw, with one bucket. It keeps its address and
// its objects over Kill9 and Restart.
type S3 struct {
	program string
	address string
	dir     string
	process *child.Child
}

// The bucket, its region, and who may use it.
const (
	S3Bucket = "backups"
	S3Region = "us-east-1"
	S3Key    = "farmhand"
	S3Secret = "farmhand-secret"
)

var s3Program = sync.OnceValues(buildS3)

// buildS3 builds the server at its first use on the machine, which takes minutes.
// Test binaries that run at once build it once: a file lock is held meanwhile.
func buildS3() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("place for the S3 server: %w", err)
	}
	dir := filepath.Join(cache, "farmhand", "s3server")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("place for the S3 server: %w", err)
	}
	_, file, _, _ := runtime.Caller(0)
	module := filepath.Join(filepath.Dir(file), "..", "..", "testdata", "s3server")
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("what the S3 server is built from: %w", err)
	}
	hash := sha256.Sum256(append(sums, runtime.Version()...))
	program := filepath.Join(dir, "versitygw-"+hex.EncodeToString(hash[:6]))
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("lock the S3 server: %w", err)
	}
	defer lock.Close() // closing lets the lock go
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock the S3 server: %w", err)
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	build := exec.Command("go", "build", "-C", module, "-ldflags=-s -w", "-o", program+".new", "github.com/versity/versitygw/cmd/versitygw")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the S3 server: %w\n%s", err, out)
	}
	return program, os.Rename(program+".new", program)
}

// PrepareS3 builds the server if it is not there yet: before a test gives up the
// network that this takes.
func PrepareS3() error {
	_, err := s3Program()
	return err
}

// StartS3 starts an S3 server, whose objects are plain files (Path) and which
// keeps versions of those of a bucket that asks for it. It is killed when the test
// ends. Its credentials are in the environment of the test meanwhile.
func StartS3(t testing.TB) *S3 {
	t.Helper()
	program, err := s3Program()
	if err != nil {
		t.Skipf("needs an S3 server: %v", err)
	}
	s := &S3{program: program, address: FreePort(t).String(), dir: ShortDir(t)}
	for _, dir := range []string{"root/" + S3Bucket, "versions"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatalf("farmtest: %v", err)
		}
	}
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": S3Key, "AWS_SECRET_ACCESS_KEY": S3Secret, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
		"NO_PROXY": "*",
	} {
		t.Setenv(name, value)
	}
	t.Cleanup(func() {
		if s.process != nil {
			s.process.Signal(syscall.SIGKILL)
			<-s.process.Done()
		}
	})
	s.Restart(t)
	return s
}

// Addr is the server's host:port.
func (s *S3) Addr() string { return s.address }

// Endpoint is the server's URL.
func (s *S3) Endpoint() string { return "http://" + s.address }

// Path is the file of an object of the bucket.
func (s *S3) Path(key string) string {
	return filepath.Join(s.dir, "root", S3Bucket, filepath.FromSlash(key))
}

// Kill9 ends the server with SIGKILL and returns when it is gone.
func (s *S3) Kill9(t testing.TB) {
	t.Helper()
	if !s.process.Signal(syscall.SIGKILL) {
		t.Fatal("farmtest: kill the S3 server: it does not run")
	}
	<-s.process.Done()
}

// Restart starts the server again after Kill9, and returns when it answers.
func (s *S3) Restart(t testing.TB) {
	t.Helper()
	cmd := exec.Command(s.program, "--port", s.address, "--region", S3Region, "--quiet", "--health", "/health",
		"posix", "--versioning-dir", filepath.Join(s.dir, "versions"), filepath.Join(s.dir, "root"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+S3Key, "ROOT_SECRET_ACCESS_KEY="+S3Secret)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatalf("farmtest: %v", err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	s.process, err = child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatalf("farmtest: start the S3 server: %v", err)
	}
	if err := log.Close(); err != nil {
		t.Fatalf("farmtest: %v", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	Eventually(t, "the S3 server answers", func() error {
		select {
		case <-s.process.Done():
			said, err := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Fatalf("farmtest: the S3 server ended: %v %v\n%s", s.process.Ended(), err, said)
		default:
		}
		answer, err := client.Get(s.Endpoint() + "/health")
		if err != nil {
			return err
		}
		if err := answer.Body.Close(); err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("it says %s", answer.Status)
		}
		return nil
	})
}
