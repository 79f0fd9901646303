package oracle

import (
	goast "go/ast"
	goparser "go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// parserDir is where the source of the parser is.
func parserDir(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/pingcap/tidb/pkg/parser").Output()
	if err != nil {
		t.Fatalf("where the parser's source is: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// parserTests returns every text that the parser's own tests hold, whether they
// expect it to be accepted or not.
func parserTests(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(parserDir(t), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, file := range files {
		parsed, err := goparser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		goast.Inspect(parsed, func(n goast.Node) bool {
			if lit, ok := n.(*goast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil && strings.TrimSpace(text) != "" {
					texts = append(texts, text)
				}
			}
			return true
		})
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	if len(texts) < 5000 {
		t.Fatalf("the parser's tests have only %d texts", len(texts))
	}
	return texts
}

// TestParserTests holds the classifier to the oracle on the texts of the
// parser's own tests, in every mode.
func TestParserTests(t *testing.T) {
	c := newComparison(t, "the parser's tests", modes()...)
	accepted := 0
	for _, text := range parserTests(t) {
		if c.add(text) {
			accepted++
		}
	}
	c.report()
	if accepted < 4000 || c.reads == 0 {
		t.Errorf("only %d texts were accepted in some mode, %d were reads", accepted, c.reads)
	}
}
