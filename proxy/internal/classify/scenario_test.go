package classify

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tablesFile is the scenarios that show UsesTable.
const tablesFile = "testdata/10-tables.txt"

var update = flag.Bool("update", false, "write the meanings found into testdata/*.txt; explain the diff")

// modes are the names that a "mode:" line of a scenario file may give.
var modes = map[string]func(*Mode){
	"mariadb":              func(m *Mode) { m.MariaDB, m.Version = true, 101119 },
	"mysql":                func(m *Mode) { m.MariaDB, m.Version = false, 90700 },
	"mysql8":               func(m *Mode) { m.MariaDB, m.Version = false, 80400 },
	"ansi_quotes":          func(m *Mode) { m.ANSIQuotes = true },
	"no_backslash_escapes": func(m *Mode) { m.NoBackslashEscapes = true },
	"ignore_space":         func(m *Mode) { m.IgnoreSpace = true },
	"latin1":               func(m *Mode) { m.Charset = SingleByte },
	"gbk":                  func(m *Mode) { m.Charset = Shifted },
}

// parseModes returns the modes of a "mode:" line. Without a flavour the text
// must mean the same to both.
func parseModes(t *testing.T, words string) []Mode {
	t.Helper()
	out := []Mode{{MariaDB: true, Version: 101119}, {Version: 90700}}
	for _, w := range strings.Fields(words) {
		set, ok := modes[w]
		if !ok {
			t.Fatalf("unknown mode %q", w)
		}
		if w == "mariadb" || w == "mysql" || w == "mysql8" {
			out = out[:1]
		}
		for i := range out {
			set(&out[i])
		}
	}
	return out
}

// describe renders a meaning as the scenario files have it. UsesTable, which
// nearly all texts have, is shown where tables says so.
func describe(m Meaning, tables bool) string {
	if !tables {
		m.Flags &^= UsesTable
	}
	var b strings.Builder
	b.WriteString(m.Class.String())
	if m.Reason != NoReason {
		fmt.Fprintf(&b, ": %s", m.Reason)
	}
	if m.Flags != 0 {
		fmt.Fprintf(&b, " [%s]", m.Flags)
	}
	if m.Hint.Present {
		fmt.Fprintf(&b, " hint(malformed=%t target=%d lag=%d)", m.Hint.Malformed, m.Hint.Target, m.Hint.MaxLag)
	}
	return b.String()
}

// unescape lets a scenario hold bytes that a text file had better not.
var unescape = strings.NewReplacer("⏎", "\n", "␀", "\x00", "⇥", "\t", "‹bom›", "\ufeff", "‹a0›", "\xa0", "‹bf›", "\xbf")

// TestScenarios reads testdata/*.txt: a line with a text, and below it,
// indented, what it means. "mode:" holds until the next one; "#" is a comment
// where it stands first with a space behind it. 10-tables.txt shows UsesTable.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	cases := 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { cases += runScenarios(t, file) })
	}
	if cases < 400 {
		t.Errorf("%d cases, want 400 or more", cases)
	}
}

func runScenarios(t *testing.T, file string) (cases int) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	current, tables := parseModes(t, ""), file == tablesFile
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	var out bytes.Buffer
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if words, ok := strings.CutPrefix(line, "mode:"); ok {
			current = parseModes(t, words)
		}
		if line == "" || strings.HasPrefix(line, "# ") || strings.HasPrefix(line, "mode:") {
			out.WriteString(line + "\n")
			continue
		}
		cases++
		sql := []byte(unescape.Replace(line))
		got := describe(Classify(sql, current[0]), tables)
		for _, m := range current[1:] {
			if other := describe(Classify(sql, m), tables); other != got {
				t.Errorf("%s:%d: %s\nmeans %s to MariaDB\nand   %s to MySQL", file, i+1, line, got, other)
			}
		}
		want := ""
		if i+1 < len(lines) && strings.HasPrefix(lines[i+1], "    ") {
			i++
			want = strings.TrimSpace(lines[i])
		}
		if got != want && !*update {
			t.Errorf("%s:%d: %s\n got %s\nwant %s", file, i, line, got, want)
		}
		fmt.Fprintf(&out, "%s\n    %s\n", line, got)
	}
	if *update {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return cases
}
