package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"farmhand/internal/farmtest"
)

// TestOperationsManual follows docs/OPERATIONS.md word for word: its blocks of sh, in their
// order, in one shell with a home directory of its own, on a network where nothing else
// listens.
func TestOperationsManual(t *testing.T) {
	farmtest.Long(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a network and a /run/mysqld of its own")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)\n```sh\n(.*?)\n```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 10 {
		t.Fatalf("the manual has %d blocks", len(blocks))
	}
	var script strings.Builder
	// Without job control the farm would be told of the end by nobody.
	script.WriteString("set -euo pipefail\nip link set lo up\nmkdir -p /run/mysqld\nmount -t tmpfs tmpfs /run/mysqld\nchmod 755 /run/mysqld\ntrap 'cd ~/shop && scaler down --local farm || true' EXIT\nset -v\n")
	for _, b := range blocks {
		script.WriteString(b[1] + "\n")
	}
	script.WriteString("set +v\ntrap - EXIT\necho followed\n")
	home := farmtest.ShortDir(t)
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	cache, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	caches := strings.Fields(string(cache))
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--mount", "bash", "-c", script.String())
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "HOME="+home, "GOCACHE="+caches[0], "GOMODCACHE="+caches[1])
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "followed") {
		log, _ := os.ReadFile(filepath.Join(home, "shop", "up.log")) // what there is of it
		t.Fatalf("%v\n%s\n%s", err, out, tailOf(string(log), 40))
	}
}

func tailOf(text string, n int) string {
	lines := strings.Split(text, "\n")
	return fmt.Sprintf("the last of its log:\n%s", strings.Join(lines[max(0, len(lines)-n):], "\n"))
}
