package farmfile

import (
	"bytes"
	"cmp"
	"iter"
	"maps"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/service"
)

// over decodes n over what into points to has already. It ignores keys that are
// not known: unknownKeys tells of them.
func over(n ast.Node, into any) error {
	return yaml.NewDecoder(bytes.NewReader(nil)).DecodeFromNode(n, into)
}

// kindOf returns the value of the key kind; empty if there is none.
func kindOf(n ast.Node) (string, error) {
	keys, ok := n.(*ast.MappingNode)
	if !ok {
		return "", service.ErrorAt(n, "expected keys and values")
	}
	for _, pair := range keys.Values {
		if pair.Key.GetToken().Value == "kind" {
			return service.Scalar(pair.Value, "the name of a kind")
		}
	}
	return "", nil
}

// sorted ranges over a map in the order of its keys, so that what is said about
// a file is the same each time.
func sorted[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
