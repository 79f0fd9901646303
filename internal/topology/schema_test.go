package topology

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"farmhand/internal/farm"
)

// at walks into a decoded JSON value.
func at(t *testing.T, value any, keys ...string) any {
	t.Helper()
	for i, key := range keys {
		object, isObject := value.(map[string]any)
		below, ok := object[key]
		if value = below; !isObject || !ok {
			t.Fatalf("the schema has no %s", strings.Join(keys[:i+1], "."))
		}
	}
	return value
}

func texts(t *testing.T, value any) []string {
	t.Helper()
	var all []string
	for _, item := range value.([]any) {
		all = append(all, item.(string))
	}
	slices.Sort(all)
	return all
}

func sorted(lists ...[]string) []string { return slices.Sorted(slices.Values(slices.Concat(lists...))) }

func schema(t *testing.T) any {
	t.Helper()
	data, err := os.ReadFile("../../docs/topology.schema.json")
	must(t, err)
	var schema any
	must(t, json.Unmarshal(data, &schema))
	return schema
}

// TestSchemaSaysWhatTheCodeDoes compares every bound, key and pattern.
func TestSchemaSaysWhatTheCodeDoes(t *testing.T) {
	schema := schema(t)
	for name, object := range map[string]struct {
		schema             any
		required, optional []string
	}{
		"topology": {schema, topologyRequired, topologyOptional},
		"cluster":  {at(t, schema, "$defs", "cluster"), clusterRequired, clusterOptional},
		"replica":  {at(t, schema, "$defs", "replica"), serverRequired, serverOptional},
		"primary": {
			at(t, schema, "$defs", "primary"), serverRequired,
			slices.DeleteFunc(slices.Clone(serverOptional), func(key string) bool { return key == "state" }),
		},
	} {
		if got := texts(t, at(t, object.schema, "required")); !slices.Equal(got, sorted(object.required)) {
			t.Errorf("%s: the schema requires %v, the code %v", name, got, object.required)
		}
		properties := at(t, object.schema, "properties").(map[string]any)
		if got := slices.Sorted(maps.Keys(properties)); !slices.Equal(got, sorted(object.required, object.optional)) {
			t.Errorf("%s: the schema has the keys %v, the code %v", name, got, sorted(object.required, object.optional))
		}
		if at(t, object.schema, "additionalProperties") != false {
			t.Errorf("%s: the schema allows unknown keys", name)
		}
	}
	var states []string
	for _, state := range farm.States() {
		states = append(states, string(state))
	}
	for what, pair := range map[string][2]any{
		"version":          {at(t, schema, "properties", "version", "const"), float64(Version)},
		"clusters":         {at(t, schema, "properties", "clusters", "minProperties"), 1.0},
		"name":             {at(t, schema, "$defs", "name", "pattern"), farm.NamePattern},
		"least weight":     {at(t, schema, "$defs", "weight", "minimum"), 0.0},
		"greatest weight":  {at(t, schema, "$defs", "weight", "maximum"), float64(farm.MaxWeight)},
		"usual weight":     {at(t, schema, "$defs", "weight", "default"), float64(farm.DefaultWeight)},
		"least epoch":      {at(t, schema, "$defs", "cluster", "properties", "epoch", "minimum"), 1.0},
		"greatest epoch":   {at(t, schema, "$defs", "cluster", "properties", "epoch", "maximum"), float64(farm.MaxEpoch)},
		"attributes":       {at(t, schema, "$defs", "attributes", "maxProperties"), float64(maxAttributes)},
		"attribute length": {at(t, schema, "$defs", "attributes", "additionalProperties", "maxLength"), float64(maxAttributeValue)},
		"states":           {texts(t, at(t, schema, "$defs", "replica", "properties", "state", "enum")), sorted(states)},
		"usual state":      {at(t, schema, "$defs", "replica", "properties", "state", "default"), string(farm.Serving)},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: the schema has %v, the code %v", what, pair[0], pair[1])
		}
	}
}

// TestSchemaAddresses holds the schema's patterns against the addresses in the
// examples: they must match every good one, and every bad one that the list in
// parse_test.go calls within a schema's reach must match none.
func TestSchemaAddresses(t *testing.T) {
	var patterns []*regexp.Regexp
	for _, choice := range at(t, schema(t), "$defs", "address", "anyOf").([]any) {
		pattern := at(t, choice, "pattern").(string)
		patterns = append(patterns, regexp.MustCompile(strings.ReplaceAll(pattern, `\u0000`, `\x00`)))
	}
	matches := func(address string) bool {
		return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(address) })
	}
	files, err := filepath.Glob("testdata/valid/*.json")
	must(t, err)
	good := 0
	for _, file := range files {
		topology, err := Read(file)
		must(t, err)
		for _, c := range topology.Clusters {
			for _, s := range members(c) {
				good++
				if !matches(s.Address) {
					t.Errorf("the schema refuses the good address %s", s.Address)
				}
			}
		}
	}
	if good < 6 {
		t.Errorf("only %d good addresses", good)
	}
	address := regexp.MustCompile(`"address": "([^"]*)"`)
	bad := 0
	for _, test := range invalid {
		if !test.schema || !strings.HasPrefix(test.file, "address-") {
			continue
		}
		data, err := os.ReadFile("testdata/invalid/" + test.file + ".json")
		must(t, err)
		for _, found := range address.FindAllSubmatch(data, -1) {
			bad++
			if matches(string(found[1])) {
				t.Errorf("%s: the schema accepts the bad address %s", test.file, found[1])
			}
		}
	}
	if bad < 4 {
		t.Errorf("only %d bad addresses", bad)
	}
}
