package farmfile

import (
	"strings"
	"testing"
)

func TestWithImage(t *testing.T) {
	const image = "web-20260102-150405"
	for name, c := range map[string]struct{ was, now string }{
		"in its place":  {"    # ours\n    image: host # for now\n\n    kind: base\n", "    # ours\n    image: " + image + " # for now\n\n    kind: base\n"},
		"in quotes":     {"    kind: base\n    image: \"host\"\n", "    kind: base\n    image: " + image + "\n"},
		"not there yet": {"    # ours\n    kind: base # it is\n    count: 2\n", "    # ours\n    image: " + image + "\n    kind: base # it is\n    count: 2\n"},
	} {
		before, after := "name: shop\nroles:\n  db: {kind: mysql}\n  other: {kind: base, image: host}\n  web:\n", "\n# the end\n"
		got, err := WithImage("farm.yaml", before+c.was+after, "web", image)
		if err != nil || got != before+c.now+after {
			t.Errorf("%s: %v:\n%s", name, err, got)
		}
	}
	got, err := WithImage("farm.yaml", "name: shop\nroles: {db: {kind: mysql}, web: {kind: base, count: 2}, other: {kind: base}} # x\n", "web", image)
	if err != nil || got != "name: shop\nroles: {db: {kind: mysql}, web: {image: "+image+", kind: base, count: 2}, other: {kind: base}} # x\n" {
		t.Errorf("in one line: %v: %s", err, got)
	}
	for name, text := range map[string]string{
		"another role":        "name: shop\nroles: {db: {kind: mysql}, other: {kind: base}}\n",
		"one that is shared":  "name: shop\nroles:\n  db: {kind: mysql}\n  web: &both {kind: base}\n  other: *both\n",
		"an image as no text": "name: shop\nroles: {web: {kind: mysql}}\n",
	} {
		if got, err := WithImage("farm.yaml", text, "web", image); err == nil || !strings.Contains(err.Error(), "web") {
			t.Errorf("%s: %v: %s", name, err, got)
		}
	}
}
