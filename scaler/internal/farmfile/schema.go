package farmfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/goccy/go-yaml"

	"farmhand/internal/service"
)

// object is a JSON object.
type object = map[string]any

// Schema returns the JSON schema of the farm file, made from the declarations of
// its keys. It is looser than [Load] where a schema cannot say what is meant: how
// long a duration may be, and how keys must fit together; it does not have a key
// without a value, which means the default to Load.
func Schema() []byte {
	d := defaults()
	s := schemas{elements: map[reflect.Type][]reflect.Value{
		reflect.TypeFor[Provider](): reflectAll(d.providers),
		reflect.TypeFor[AWSRole]():  {reflect.ValueOf(defaultAWSRole())},
		reflect.TypeFor[Role]():     reflectAll(d.roles),
		reflect.TypeFor[Metric]():   reflectAll(d.metrics),
		reflect.TypeFor[Template](): {reflect.ValueOf(d.template)},
		reflect.TypeFor[Cron]():     {reflect.ValueOf(d.cron)},
		reflect.TypeFor[Program]():  {reflect.ValueOf(d.program)},
		reflect.TypeFor[Site]():     {reflect.ValueOf(d.site)},
		reflect.TypeFor[Health]():   {reflect.ValueOf(d.health)},
		reflect.TypeFor[Mount]():    {reflect.ValueOf(d.mount)},
		reflect.TypeFor[Hook]():     {reflect.ValueOf(Hook{Mode: Sync}), reflect.ValueOf(Hook{Mode: Async})}, // by the event
	}}
	root := s.structure(reflect.TypeFor[Farm](), []reflect.Value{reflect.ValueOf(d.farm)})
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Farmhand farm file"
	root["description"] = "What a farm is to be (farm.yaml). docs/FARMFILE.md explains it."
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(root); err != nil {
		panic(err) // of maps, texts and numbers there is none
	}
	return text.Bytes()
}

func reflectAll[K ~string, V any](m map[K]V) []reflect.Value {
	var all []reflect.Value
	for _, v := range sorted(m) {
		all = append(all, reflect.ValueOf(v))
	}
	return all
}

// schemas makes schemas. What it is given beside a type is the values that keys
// of the type have by default: one, or one for each kind.
type schemas struct {
	elements map[reflect.Type][]reflect.Value // the defaults of what lists and maps have in them
}

func (s *schemas) structure(t reflect.Type, usual []reflect.Value) object {
	properties := object{}
	schema := object{"type": "object", "properties": properties, "additionalProperties": false}
	if required := s.properties(properties, t, usual); len(required) > 0 {
		schema["required"] = required
	}
	return schema
}

// properties adds the keys of a struct to properties and returns those that a
// file must have, because what they are by default cannot be.
func (s *schemas) properties(properties object, t reflect.Type, usual []reflect.Value) (required []string) {
	for _, k := range keysOf(t) {
		field := t.Field(k.field)
		var values []reflect.Value
		for _, v := range usual {
			values = append(values, v.Field(k.field))
		}
		if k.inline {
			required = append(required, s.properties(properties, field.Type, values)...)
			continue
		}
		schema := s.value(k, field.Type, values)
		schema["description"] = describe(k, field.Type)
		if cannotBe(k, field.Type, values) {
			required = append(required, k.name)
		} else if usual, ok := common(values); ok {
			schema["default"] = usual
		}
		properties[k.name] = schema
	}
	return required
}

// cannotBe reports whether a key of the type has no default that is possible.
func cannotBe(k key, t reflect.Type, usual []reflect.Value) bool {
	if len(usual) == 0 {
		usual = []reflect.Value{reflect.Zero(t)}
	}
	return !slices.ContainsFunc(usual, func(v reflect.Value) bool {
		var p service.Problems
		checkValue(&p, "", k, v)
		return len(p) == 0
	})
}

// describe returns what a key means, with what its schema cannot say.
func describe(k key, t reflect.Type) string {
	if c, ok := reflect.Zero(t).Interface().(kind); ok {
		text := k.about
		for i, name := range c.choices() {
			text += [2]string{": ", "; "}[min(i, 1)] + name + ", " + c.about(name)
		}
		return text
	}
	if t == reflect.TypeFor[Duration]() || t == reflect.TypeFor[Size]() {
		low, high := bounds(k.is, t)
		if t == reflect.TypeFor[Size]() {
			return fmt.Sprintf("%s (%v to %v)", k.about, Size(low), Size(high))
		}
		return fmt.Sprintf("%s (%v to %v)", k.about, Duration(low), Duration(high))
	}
	return k.about
}

// common returns the value that all values have, as JSON has it, unless it is
// made of others or empty.
func common(values []reflect.Value) (any, bool) {
	var first any
	for i, v := range values {
		data, err := yaml.Marshal(v.Interface())
		if err != nil {
			panic(fmt.Sprintf("farmfile: default %v: %v", v, err))
		}
		var value any
		if err := yaml.Unmarshal(data, &value); err != nil {
			panic(fmt.Sprintf("farmfile: default %s: %v", data, err))
		}
		if i > 0 && !reflect.DeepEqual(value, first) {
			return nil, false
		}
		first = value
	}
	switch first.(type) {
	case nil, []any, map[string]any:
		return nil, false
	}
	return first, first != "" || len(values) > 0 && values[0].Kind() == reflect.String
}

const (
	durationPattern = `^(0|([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+)$`
	sizePattern     = `^[0-9]+ *(TiB|GiB|MiB|KiB|B)?$`
	modePattern     = `^(0o)?0*[0-7]{1,3}$`
)

// value returns the schema of a key's value.
func (s *schemas) value(k key, t reflect.Type, usual []reflect.Value) object {
	if c, ok := reflect.Zero(t).Interface().(choice); ok {
		return object{"enum": c.choices()}
	}
	switch t {
	case reflect.TypeFor[Duration]():
		return object{"anyOf": []object{{"const": 0}, {"type": "string", "pattern": durationPattern}}}
	case reflect.TypeFor[Size]():
		return object{"anyOf": []object{{"type": "integer", "minimum": 0}, {"type": "string", "pattern": sizePattern}}}
	case reflect.TypeFor[FileMode]():
		return object{"type": []string{"integer", "string"}, "pattern": modePattern, "minimum": 0}
	case reflect.TypeFor[Level]():
		return object{"type": []string{"number", "string"}}
	case reflect.TypeFor[TimeOfDay]():
		return object{"type": "string", "pattern": timePattern}
	case reflect.TypeFor[TimeZone](), reflect.TypeFor[Address]():
		return object{"type": "string", "minLength": 1}
	case reflect.TypeFor[Recurrence]():
		return object{"type": "string"}
	case reflect.TypeFor[Environment](), reflect.TypeFor[Settings]():
		return object{"type": "object", "additionalProperties": object{"type": "string"}, "maxProperties": maxWords}
	case reflect.TypeFor[Command]():
		return object{"anyOf": []object{
			{"type": "string", "pattern": `^$|` + wordPattern},
			{"type": "array", "items": object{"type": "string", "pattern": listedPattern}, "maxItems": maxWords},
		}}
	case reflect.TypeFor[Count]():
		number := s.value(keysOf(t)[0], reflect.TypeFor[int](), nil)
		both := s.structure(t, nil)
		both["required"] = []string{"min", "max"}
		return object{"anyOf": []object{number, both}}
	}
	switch t.Kind() {
	case reflect.Int:
		low, high := bounds(k.is, t)
		return object{"type": "integer", "minimum": low, "maximum": high}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		pattern, _ := form(k.is)
		return object{"type": "string", "pattern": pattern}
	case reflect.Slice:
		low, high := bounds(k.is, t)
		return object{"type": "array", "items": s.element(t.Elem(), nil), "minItems": low, "maxItems": high}
	case reflect.Map:
		return s.mapping(k, t, usual)
	case reflect.Struct:
		if t == reflect.TypeFor[Provider]() {
			return s.provider(usual[0].Interface().(Provider))
		}
		return s.section(t, usual)
	}
	panic("farmfile: no schema of " + t.String())
}

func (s *schemas) mapping(k key, t reflect.Type, usual []reflect.Value) object {
	var values []reflect.Value
	for _, v := range usual {
		for iter := v.MapRange(); iter.Next(); {
			values = append(values, iter.Value())
		}
	}
	schema := object{"type": "object", "additionalProperties": s.element(t.Elem(), values)}
	if c, ok := reflect.Zero(t.Key()).Interface().(choice); ok {
		schema["propertyNames"] = object{"enum": c.choices()}
	} else {
		pattern, _ := form(k.keys)
		schema["propertyNames"] = object{"pattern": pattern}
	}
	if k.is != "" {
		low, high := bounds(k.is, t)
		schema["minProperties"], schema["maxProperties"] = low, high
	}
	return schema
}

// element returns the schema of what a list or a map has in it.
func (s *schemas) element(t reflect.Type, usual []reflect.Value) object {
	if known, ok := s.elements[t]; ok {
		usual = known
	}
	if t.Kind() != reflect.Struct {
		return s.value(key{}, t, nil)
	}
	if _, ok := t.FieldByName("Kind"); ok {
		return s.kinds(t, usual)
	}
	return s.structure(t, usual)
}

// section returns the schema of a struct. If it holds the parameters of one kind
// and it depends on the kind which, they can be anything here, and kinds says more.
func (s *schemas) section(t reflect.Type, usual []reflect.Value) object {
	if !keysOf(t)[0].inline || t.Field(0).Type.Kind() != reflect.Pointer {
		return s.structure(t, usual)
	}
	var set []reflect.Value
	for i := range t.NumField() {
		for _, v := range usual {
			if !v.Field(i).IsNil() {
				set = append(set, v.Field(i).Elem())
			}
		}
	}
	if len(set) != 1 {
		return object{"type": "object"}
	}
	return s.structure(set[0].Type(), set)
}

// kinds returns the schema of a struct with a kind: what all kinds have, and what
// is special with each.
func (s *schemas) kinds(t reflect.Type, usual []reflect.Value) object {
	all := s.structure(t, usual)
	required, _ := all["required"].([]string)
	all["required"] = append(required, "kind")
	kind := all["properties"].(object)["kind"].(object)
	delete(kind, "default")
	var special []object
	for _, v := range usual {
		one := s.structure(t, []reflect.Value{v})["properties"].(object)
		delete(one, "kind")
		maps.DeleteFunc(one, func(name string, schema any) bool {
			return reflect.DeepEqual(schema, all["properties"].(object)[name])
		})
		then := object{"properties": one}
		name := v.FieldByName("Kind").String()
		if m, ok := v.Interface().(Metric); ok {
			metricSchema(then, m)
		}
		special = append(special, object{
			"if":   object{"properties": object{"kind": object{"const": name}}, "required": []string{"kind"}},
			"then": then,
		})
	}
	all["allOf"] = special
	return all
}

// provider returns the schema of a provider, of whose kinds one is usual.
func (s *schemas) provider(usual Provider) object {
	schema := s.kinds(reflect.TypeFor[Provider](), s.elements[reflect.TypeFor[Provider]()])
	delete(schema, "required")
	schema["properties"].(object)["kind"].(object)["default"] = usual.Kind
	for _, special := range schema["allOf"].([]object) {
		if condition := special["if"].(object); condition["properties"].(object)["kind"].(object)["const"] == string(usual.Kind) {
			delete(condition, "required") // nothing said is this one too
		}
	}
	return schema
}

// unitPatterns is what levels look like. A number may be quoted.
var unitPatterns = map[Unit]object{
	Number:  {"type": []string{"number", "string"}, "pattern": numberPattern, "exclusiveMinimum": 0},
	Percent: {"type": "string", "pattern": sharePattern},
	Seconds: {"type": "string", "pattern": durationPattern},
}

// metricSchema adds what a kind of metric needs.
func metricSchema(then object, m Metric) {
	properties := then["properties"].(object)
	var required []string
	if m.Kind == QueueMetric {
		then["required"] = []string{"per_server", "queue"}
		properties["queue"], properties["per_server"] = object{"minLength": 1}, object{"minimum": 1}
		properties["scale_out"], properties["scale_in"], properties["command"] = false, false, object{"maxLength": 0, "maxItems": 0}
		return
	}
	properties["queue"], properties["per_server"] = object{"maxLength": 0}, object{"maximum": 0}
	for name, level := range map[string]Level{"scale_out": m.ScaleOut, "scale_in": m.ScaleIn} {
		property := maps.Clone(unitPatterns[metricKinds[m.Kind].unit])
		if value, ok := common([]reflect.Value{reflect.ValueOf(level)}); ok {
			property["default"] = value
		} else {
			required = append(required, name)
		}
		properties[name] = property
	}
	if m.Kind == CommandMetric {
		required = append(required, "command")
		properties["command"] = object{"minLength": 1, "minItems": 1}
	} else {
		properties["command"] = object{"maxLength": 0, "maxItems": 0}
	}
	if slices.Sort(required); len(required) > 0 {
		then["required"] = required
	}
}
