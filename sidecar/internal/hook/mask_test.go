package hook

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"farmhand/internal/farm"
)

// TestSecretsAreNotJournaled: neither whole nor in part, wherever the output is
// cut.
func TestSecretsAreNotJournaled(t *testing.T) {
	const secret = "correct-horse-battery-staple"
	w := newWorld(t)
	file := filepath.Join(w.dir, "secret")
	must(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	w.options.Secrets = []string{file}
	w.options.Output = 100
	for i := range 40 {
		w.hook(t, farm.HostUp, fmt.Sprintf("%02d-prints", i), fmt.Sprintf("cat %s; head -c %d /dev/zero | tr '\\0' x; cat %s; cat %[1]s; echo pwd=abcdef", file, 50+i, file))
	}
	w.start(t)
	e := w.event(farm.HostUp, "web1")
	e.Fields = map[string]string{"note": "the secret is " + secret, "db_password": "abcdef"}
	w.put(t, e)
	hooks, whole := w.await(t, e)
	if len(hooks) != 40 || whole.Failed != 0 {
		t.Fatalf("journaled: %+v", hooks)
	}
	for _, r := range hooks {
		if len(r.Output) > 100 || !strings.HasPrefix(r.Output, "***\n") {
			t.Errorf("%s: %q", r.Hook, r.Output)
		}
	}
	journal := read(t, journalPath(w.state))
	for _, part := range []string{"corr", "staple", "horse", "abcdef"} {
		if strings.Contains(journal, part) {
			t.Errorf("the journal has %q in it", part)
		}
	}
}

// TestOutputIsWithheldIfSecretsCannotBeRead: unknown is not harmless.
func TestOutputIsWithheldIfSecretsCannotBeRead(t *testing.T) {
	w := newWorld(t)
	w.options.Secrets = []string{filepath.Join(w.dir, "gone")}
	w.hook(t, farm.HostUp, "10-prints", "echo something")
	w.start(t)
	hooks, _ := w.await(t, w.put(t, w.event(farm.HostUp, "web1")))
	if len(hooks) != 1 || strings.Contains(hooks[0].Output, "something") || !strings.Contains(hooks[0].Output, "withheld") || hooks[0].Result != "ok" {
		t.Errorf("journaled: %+v", hooks)
	}
}
