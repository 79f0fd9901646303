package farmfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"farmhand/internal/service"
)

// update rewrites what tests compare with. Read the diff before it is committed.
// Tests of the command line write docs/FARMFILE.md too: one package at a time (-p 1).
var update = flag.Bool("update", false, "rewrite the expected texts, the schema and the tables of the documentation")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// compiled returns the schema as another program understands it.
func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	must(t, err)
	compiler := jsonschema.NewCompiler()
	must(t, compiler.AddResource("farm.schema.json", document))
	schema, err := compiler.Compile("farm.schema.json")
	must(t, err)
	return schema
}

// judge returns what the schema, or before it the parser of YAML, says about a
// file.
func judge(schema *jsonschema.Schema, file []byte) error {
	var content any
	if err := yaml.Unmarshal(file, &content); err != nil {
		return err
	}
	asJSON, err := json.Marshal(content)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// TestWrongFiles has in testdata/wrong.txt, for every file, exactly what is said
// about it, and whether the schema refuses it too ("schema: refuses") or cannot
// say what is wrong ("schema: accepts").
func TestWrongFiles(t *testing.T) {
	const scenarios = "testdata/wrong.txt"
	archive, err := txtar.ParseFile(scenarios)
	must(t, err)
	schema := compiled(t)
	cases := 0
	for i, file := range archive.Files {
		name, isFile := strings.CutSuffix(file.Name, ".yaml")
		if !isFile {
			continue
		}
		cases++
		if i+1 == len(archive.Files) || archive.Files[i+1].Name != name+".want" {
			t.Fatalf("there is no %s.want after %s", name, file.Name)
		}
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "farm.yaml")
			must(t, os.WriteFile(path, file.Data, 0o644))
			_, err := Load(path)
			var errs service.ConfigErrors
			if !errors.As(err, &errs) {
				t.Fatalf("got %v; want what is wrong with it", err)
			}
			verdict := "refuses"
			if judge(schema, file.Data) == nil {
				verdict = "accepts"
			}
			var got strings.Builder
			fmt.Fprintf(&got, "schema: %s\n", verdict)
			for _, e := range errs {
				// A file that is not there any more has no lines to show.
				e.File, e.Source = "farm.yaml", ""
				fmt.Fprintln(&got, e)
			}
			want := &archive.Files[i+1]
			if *update {
				want.Data = []byte(got.String())
			}
			if got.String() != string(want.Data) {
				t.Errorf("got\n%swant\n%s", got.String(), want.Data)
			}
		})
	}
	if cases < 40 {
		t.Errorf("only %d files", cases)
	}
	if *update {
		must(t, os.WriteFile(scenarios, txtar.Format(archive), 0o644))
	}
}
