package hook

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"farmhand/internal/farm"
)

// TestHookOfTheDocumentation: it does what is said of it.
func TestHookOfTheDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../../docs/HOOKS.md")
	must(t, err)
	_, after, ok := strings.Cut(string(text), "```sh\n")
	example, _, ended := strings.Cut(after, "```\n")
	if !ok || !ended || !strings.HasPrefix(example, "#!/bin/sh\n") {
		t.Fatal("there is no example in the documentation")
	}
	w := newWorld(t)
	list := filepath.Join(w.dir, "web-nodes")
	path := w.hook(t, farm.HostUp, "10-known-hosts", "")
	// Word for word but for the place of the list, which is the machine's.
	must(t, os.WriteFile(path, []byte(strings.ReplaceAll(example, "/var/lib/farmhand/web-nodes", list)), 0o755))
	w.start(t)
	for _, host := range []string{"web1", "web2", "web1"} {
		hooks, whole := w.await(t, w.put(t, w.event(farm.HostUp, host)))
		if len(hooks) != 1 || hooks[0].Result != "ok" || whole.Failed != 0 {
			t.Errorf("%+v, %+v", hooks, whole)
		}
	}
	if got := read(t, list); got != "web2 10.0.0.1\nweb1 10.0.0.1\n" {
		t.Errorf("the list is %q", got)
	}
	for _, kind := range farm.EventKinds() {
		if !strings.Contains(string(text), "`"+string(kind)+"`") {
			t.Errorf("the documentation does not mention %s", kind)
		}
	}
}
