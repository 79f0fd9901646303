package sqstest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"

	"farmhand/internal/awstest"
)

// jsonModel is the published model of a service that speaks AWS's JSON protocol.
type jsonModel struct {
	Metadata struct {
		JSONVersion  string `json:"jsonVersion"`
		TargetPrefix string `json:"targetPrefix"`
	} `json:"metadata"`
	Operations map[string]struct {
		Input  shapeRef   `json:"input"`
		Output shapeRef   `json:"output"`
		Errors []shapeRef `json:"errors"`
	} `json:"operations"`
	Shapes map[string]shape `json:"shapes"`
}

type shapeRef struct {
	Shape string `json:"shape"`
}

type shape struct {
	Type     string              `json:"type"`
	Required []string            `json:"required"`
	Members  map[string]shapeRef `json:"members"`
	Member   shapeRef            `json:"member"`
	Key      shapeRef            `json:"key"`
	Value    shapeRef            `json:"value"`
	Enum     []string            `json:"enum"`
	Pattern  string              `json:"pattern"`
	Min      *float64            `json:"min"`
	Max      *float64            `json:"max"`
}

func loadJSONModel(service, version string) (*jsonModel, error) {
	data, err := awstest.Model(service, version)
	if err != nil {
		return nil, err
	}
	m := new(jsonModel)
	return m, json.Unmarshal(data, m)
}

// wrong is what does not fit the shape in a value that was decoded from JSON; empty
// if all does.
func (m *jsonModel) wrong(name, path string, value any) (list []string) {
	s, ok := m.Shapes[name]
	if !ok {
		return []string{fmt.Sprintf("%s: there is no shape %q", path, name)}
	}
	bad := func(format string, args ...any) { list = append(list, path+": "+fmt.Sprintf(format, args...)) }
	size := func(n float64) {
		if s.Min != nil && n < *s.Min || s.Max != nil && n > *s.Max {
			bad("%v is out of the bounds of %s", n, name)
		}
	}
	switch s.Type {
	case "structure":
		fields, ok := value.(map[string]any)
		if !ok {
			bad("%T is no structure %s", value, name)
			return list
		}
		for _, required := range s.Required {
			if _, ok := fields[required]; !ok {
				bad("%s is required", required)
			}
		}
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			if ref, ok := s.Members[field]; ok {
				list = append(list, m.wrong(ref.Shape, path+"."+field, fields[field])...)
			} else {
				bad("%s has no member %q", name, field)
			}
		}
	case "list":
		items, ok := value.([]any)
		if !ok {
			bad("%T is no list", value)
		}
		size(float64(len(items)))
		for i, item := range items {
			list = append(list, m.wrong(s.Member.Shape, fmt.Sprintf("%s[%d]", path, i), item)...)
		}
	case "map":
		entries, ok := value.(map[string]any)
		if !ok {
			bad("%T is no map", value)
		}
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			list = append(list, m.wrong(s.Key.Shape, path+" key", key)...)
			list = append(list, m.wrong(s.Value.Shape, path+"["+key+"]", entries[key])...)
		}
	case "string":
		text, ok := value.(string)
		if !ok {
			bad("%T is no string", value)
			return list
		}
		size(float64(len(text)))
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, text) {
			bad("%q is none of %s", text, name)
		}
		if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(text) {
			bad("%q does not match %s", text, s.Pattern)
		}
	case "integer", "long":
		number, ok := value.(float64)
		if !ok || number != math.Trunc(number) {
			bad("%v is no whole number", value)
		}
		size(number)
	case "boolean":
		if _, ok := value.(bool); !ok {
			bad("%v is no boolean", value)
		}
	default:
		bad("values of the type %s are not checked here", s.Type)
	}
	return list
}
