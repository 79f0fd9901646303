// Package servicetest checks what the programs' configurations have in common.
package servicetest

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// MentionsEveryKey checks that the example at path has every key of the
// configuration T, of which there are at least so many. Loading it would fill in
// the default of one that is missing, and show no difference.
func MentionsEveryKey[T any](t *testing.T, path string, least int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	keys := 0
	var compare func(path string, typ reflect.Type, tree map[string]any)
	compare = func(path string, typ reflect.Type, tree map[string]any) {
		for i := range typ.NumField() {
			field := typ.Field(i)
			name, option, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if option == "inline" {
				compare(path, field.Type, tree)
				continue
			}
			if name == "" {
				t.Errorf("%s%s has no yaml key", path, field.Name)
				continue
			}
			keys++
			value, ok := tree[name]
			if !ok {
				t.Errorf("the example lacks the key %s%s", path, name)
				continue
			}
			if field.Type.Kind() == reflect.Struct {
				section, ok := value.(map[string]any)
				if !ok {
					t.Errorf("%s%s is not a section in the example", path, name)
					continue
				}
				compare(path+name+".", field.Type, section)
			}
		}
	}
	compare("", reflect.TypeFor[T](), tree)
	if keys < least {
		t.Errorf("only %d keys were compared", keys)
	}
}
