package decide_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the decisions of the scenarios")

// TestThereIsNoClock: time comes in as a value. What is imported is a rule of
// internal/architecture.
func TestThereIsNoClock(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	used := 0 // of package time
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if of, ok := selector.X.(*ast.Ident); ok && of.Name == "time" {
				used++
				switch selector.Sel.Name {
				case "Duration", "Time", "Location", "Weekday", "UTC", "Second":
				default:
					t.Errorf("%s uses time.%s", file, selector.Sel.Name)
				}
			}
			return true
		})
	}
	if used == 0 {
		t.Error("found no use of package time at all")
	}
}
