package farmfile

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/service"
)

// unknownKeys notes every key in n, which stands at path, that a value like v does
// not have. What is not the shape of v is left to the decoder, which says so.
func unknownKeys(p *service.Problems, path string, n ast.Node, v reflect.Value) {
	switch n := n.(type) {
	case *ast.SequenceNode:
		if v.Kind() == reflect.Slice {
			for i, item := range n.Values {
				unknownKeys(p, fmt.Sprintf("%s[%d]", path, i), item, reflect.Zero(v.Type().Elem()))
			}
		}
	case *ast.MappingNode:
		switch v.Kind() {
		case reflect.Map:
			limited, ok := reflect.Zero(v.Type().Key()).Interface().(choice)
			for _, pair := range n.Values {
				name := pair.Key.GetToken().Value
				at := join(path, name)
				if ok && !slices.Contains(limited.choices(), name) {
					p.AddKey(at, "unknown key; expected %s", strings.Join(limited.choices(), ", "))
					continue
				}
				unknownKeys(p, at, pair.Value, reflect.Zero(v.Type().Elem()))
			}
		case reflect.Struct:
			unknownIn(p, path, n, v)
		}
	}
}

// unknownIn is unknownKeys for a struct. Where the kind is not known, nothing can be
// said of the other keys. The parameters of a role, or of the
// provider, are those of its kind.
func unknownIn(p *service.Problems, path string, n *ast.MappingNode, v reflect.Value) {
	if of := v.FieldByName("Kind"); of.IsValid() {
		name, err := kindOf(n)
		if name == "" {
			name = of.String() // by default
		}
		if err != nil || !slices.Contains(of.Interface().(choice).choices(), name) {
			return
		}
		if role, ok := defaults().roles[RoleKind(name)]; ok && v.Type() == reflect.TypeOf(role) {
			v = reflect.ValueOf(role)
		}
		if provider, ok := defaults().providers[ProviderKind(name)]; ok && v.Type() == reflect.TypeOf(provider) {
			v = reflect.ValueOf(provider)
		}
	}
	known := map[string]reflect.Value{}
	var names []string
	collect(v, func(name string, value reflect.Value) {
		names = append(names, name)
		known[name] = value
	})
	if len(names) == 0 { // a value that reads itself
		return
	}
	for _, pair := range n.Values {
		name := pair.Key.GetToken().Value
		if value, ok := known[name]; ok {
			unknownKeys(p, join(path, name), pair.Value, value)
		} else {
			p.AddKey(join(path, name), "unknown key; expected %s", strings.Join(names, ", "))
		}
	}
}

// collect calls add for the keys of a struct and their values.
func collect(v reflect.Value, add func(string, reflect.Value)) {
	for _, k := range keysOf(v.Type()) {
		field := v.Field(k.field)
		switch {
		case !k.inline:
			add(k.name, field)
		case field.Kind() == reflect.Struct:
			collect(field, add)
		case field.Kind() == reflect.Pointer && field.Type().Elem().Kind() == reflect.Struct && !field.IsNil():
			collect(field.Elem(), add)
		}
	}
}
