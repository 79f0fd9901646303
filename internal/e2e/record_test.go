//go:build record

package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"farmhand/internal/farmtest"
)

// TestRecordWordPress writes testdata/sql/wordpress.txt anew: every kind of
// statement that WordPress sends during the journey, from the general log of a
// server that it uses directly. It runs only when asked for:
//
//	go test -tags record -run TestRecordWordPress ./internal/e2e
func TestRecordWordPress(t *testing.T) {
	f := farmtest.Start(t, farmtest.Options{Replicas: 1})
	site := startSite(t, f, "wp", f.Primary().Addr())
	f.Primary().Exec(t, "SET GLOBAL log_output='TABLE'", "SET GLOBAL general_log=1")
	j := journey{t: t, site: site, farm: f}
	j.run()
	f.Primary().Exec(t, "SET GLOBAL general_log=0")
	rows := f.Primary().Query(t, "SELECT argument FROM mysql.general_log WHERE command_type='Query' AND user_host LIKE 'wp[%' ORDER BY event_time")
	seen := map[string]bool{}
	var out strings.Builder
	out.WriteString("# What WordPress sends: one statement of each kind, as recorded by internal/e2e's TestRecordWordPress.\n")
	out.WriteString("# Secrets, addresses and long contents are replaced. One statement a line; \\n, \\t, \\r and \\\\ are escapes.\n")
	for _, row := range rows {
		text := anonymous(row.String("argument"))
		kind := number.ReplaceAllString(literal.ReplaceAllString(text, "?"), "0")
		kind = list.ReplaceAllString(kind, "(…)")
		if seen[kind] {
			continue
		}
		seen[kind] = true
		out.WriteString(strings.NewReplacer("\\", `\\`, "\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(text) + "\n")
	}
	if len(seen) < 100 {
		t.Fatalf("only %d kinds of statements", len(seen))
	}
	if err := os.WriteFile("../../testdata/sql/wordpress.txt", []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d statements of %d kinds", len(rows), len(seen))
}

var (
	literal = regexp.MustCompile(`(?s)'(?:[^'\\]|\\.|'')*'`)
	number  = regexp.MustCompile(`\b\d+\b`)
	list    = regexp.MustCompile(`\((?:[?0],\s*)+[?0]\)`)
	// replaced is what no file should hold, and what differs from run to run.
	replaced = []struct {
		what *regexp.Regexp
		with string
	}{
		{regexp.MustCompile(`\b127\.\d+\.\d+\.\d+(:\d+)?`), "192.0.2.1"},
		{regexp.MustCompile(`/[a-z]+/[^\s'";]*/(wp-content|wp-includes|wp-admin)`), "/srv/$1"},
		{regexp.MustCompile(`\$(wp|P|2y|argon2)\$[^']*`), "$$P$$Bhash"},
		{regexp.MustCompile(`[0-9a-f]{20,}`), "0123456789abcdef"},
	}
)

// anonymous replaces secrets and shortens literals.
func anonymous(text string) string {
	for _, r := range replaced {
		text = r.what.ReplaceAllString(text, r.with)
	}
	return literal.ReplaceAllStringFunc(text, func(s string) string {
		if len(s) <= 160 || strings.HasSuffix(s[:80], `\`) {
			return s
		}
		return strings.ToValidUTF8(s[:80], "") + "…'"
	})
}
