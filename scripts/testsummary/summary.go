package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strings"
)

// event is one line of go test -json (go doc cmd/test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

type name struct{ pkg, test string }

// summary is what is known so far.
type summary struct {
	out                     io.Writer
	output                  map[name][]string // of what has not ended yet
	built                   map[string][]string
	passed, failed, skipped int
	skips                   map[string][]string // reason -> tests
	broken                  []string            // packages that failed beside their tests
	slow                    []slow
	why                     []string // each test that failed with the last that it said
}

// slow is a test that took long.
type slow struct {
	test    string
	seconds float64
}

const (
	slowFrom = 20 // seconds
	slowMost = 20 // that are shown

	// What failed is said again at the end, where people look first: this many of its
	// last lines, each no longer than this many bytes.
	whyLines = 4
	whyBytes = 500
)

// maxLine bounds one event in bytes; a test's own line may be long.
const maxLine = 64 << 20

func summarise(in io.Reader, out io.Writer) (ok bool, err error) {
	s := &summary{out: out, output: map[name][]string{}, built: map[string][]string{}, skips: map[string][]string{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			// What go itself has to say, such as a flag that it does not know.
			if _, err := fmt.Fprintln(out, lines.Text()); err != nil {
				return false, err
			}
			continue
		}
		if err := s.take(e); err != nil {
			return false, err
		}
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("read test events: %w", err)
	}
	return s.end()
}

func (s *summary) take(e event) error {
	if e.Action == "build-output" {
		s.built[e.ImportPath] = append(s.built[e.ImportPath], e.Output)
		return nil
	}
	id := name{e.Package, e.Test}
	if e.Action == "output" {
		s.output[id] = append(s.output[id], e.Output)
		return nil
	}
	if e.Action != "pass" && e.Action != "fail" && e.Action != "skip" {
		return nil
	}
	text := strings.Join(s.output[id], "")
	delete(s.output, id)
	if e.Test == "" {
		return s.endPackage(e, text)
	}
	if e.Elapsed >= slowFrom && !strings.Contains(e.Test, "/") {
		s.slow = append(s.slow, slow{e.Package + "." + e.Test, e.Elapsed})
	}
	switch e.Action {
	case "pass":
		s.passed++
	case "skip":
		s.skipped++
		reason := reasonOf(text)
		s.skips[reason] = append(s.skips[reason], e.Package+"."+e.Test)
	case "fail":
		s.failed++
		s.why = append(s.why, why(id, text))
		_, err := fmt.Fprintf(s.out, "FAIL %s %s (%.1f s)\n%s", e.Package, e.Test, e.Elapsed, indent(text))
		return err
	}
	return nil
}

func (s *summary) endPackage(e event, text string) error {
	if e.Action != "fail" {
		if e.Action == "skip" {
			return nil // no test files
		}
		_, err := fmt.Fprintf(s.out, "ok   %s (%.1f s)\n", e.Package, e.Elapsed)
		return err
	}
	s.broken = append(s.broken, e.Package)
	if e.FailedBuild != "" {
		text = strings.Join(s.built[e.FailedBuild], "") + text
	}
	// Tests that a crash or a time limit cut off never ended on their own.
	for id, output := range s.output {
		if id.pkg == e.Package {
			s.failed++
			cut := strings.Join(output, "")
			s.why = append(s.why, why(id, cut))
			text += "unfinished: " + id.test + "\n" + cut
			delete(s.output, id)
		}
	}
	_, err := fmt.Fprintf(s.out, "FAIL %s (%.1f s)\n%s", e.Package, e.Elapsed, indent(text))
	return err
}

func (s *summary) end() (ok bool, err error) {
	var b strings.Builder
	reasons := make([]string, 0, len(s.skips))
	for reason := range s.skips {
		reasons = append(reasons, reason)
	}
	sort.Strings(reasons)
	for _, reason := range reasons {
		tests := s.skips[reason]
		fmt.Fprintf(&b, "skipped %d: %s\n", len(tests), reason)
		for _, test := range tests {
			fmt.Fprintf(&b, "    %s\n", test)
		}
	}
	sort.Slice(s.slow, func(i, k int) bool { return s.slow[i].seconds > s.slow[k].seconds })
	for i, t := range s.slow[:min(len(s.slow), slowMost)] {
		if i == 0 {
			b.WriteString("the slowest:\n")
		}
		fmt.Fprintf(&b, "    %.0f s %s\n", t.seconds, t.test)
	}
	for i, why := range s.why {
		if i == 0 {
			b.WriteString("what failed:\n")
		}
		b.WriteString(why)
	}
	if len(s.broken) > 0 {
		fmt.Fprintf(&b, "failed packages: %s\n", strings.Join(s.broken, " "))
	}
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	if _, err := io.WriteString(s.out, b.String()); err != nil {
		return false, err
	}
	if s.passed+s.failed+s.skipped == 0 {
		return false, errors.New("no test ran")
	}
	return s.failed == 0 && len(s.broken) == 0, nil
}

var place = regexp.MustCompile(`^\s*\S+\.go:\d+: `)

// why is a test that failed and what it said last, without the log of what it tested.
func why(id name, output string) string {
	var lines []string
	for line := range strings.Lines(output) {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "===") || strings.HasPrefix(trimmed, "---") || strings.HasPrefix(trimmed, "logger.go:") {
			continue
		}
		if len(trimmed) > whyBytes {
			trimmed = strings.ToValidUTF8(trimmed[:whyBytes], "") + "…"
		}
		lines = append(lines, trimmed)
	}
	text := strings.Join(lines[max(0, len(lines)-whyLines):], "\n")
	return fmt.Sprintf("    %s.%s\n%s", id.pkg, id.test, indent(indent(text)))
}

// reasonOf is what t.Skip was given, out of a skipped test's output.
func reasonOf(output string) string {
	var lines []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") {
			continue
		}
		lines = append(lines, place.ReplaceAllString(line, ""))
	}
	if len(lines) == 0 {
		return "(no reason given)"
	}
	return lines[len(lines)-1]
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    ")
		b.WriteString(line)
	}
	if b.Len() > 0 && !strings.HasSuffix(text, "\n") {
		b.WriteByte('\n')
	}
	return b.String()
}
