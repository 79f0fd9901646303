package farmfile

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"farmhand/internal/service"
)

// key is a key of the file: a field of a struct. Its tag yaml is its name, about
// what it means, and is what its value must be:
//
//	is:"1..20"  a number, a duration or a size from 1 to 20, or a list or a map
//	            of 1 to 20 entries
//	is:"label"  a text that forms has
//
// and keys is what the keys of a map must be. What the value's own type demands
// (one of the choices, a time of day) is not said again.
type key struct {
	field       int
	name, about string
	is, keys    string
	inline      bool // the keys of the field's type are keys of this struct
}

// keysOf returns the keys of a struct.
func keysOf(t reflect.Type) []key {
	var keys []key
	for i := range t.NumField() {
		if !t.Field(i).IsExported() {
			continue
		}
		tag := t.Field(i).Tag
		name, option, _ := strings.Cut(tag.Get("yaml"), ",")
		k := key{i, name, tag.Get("about"), tag.Get("is"), tag.Get("keys"), option == "inline"}
		// The parameters of a kind stand where the field that holds them does.
		k.inline = k.inline || name == ""
		keys = append(keys, k)
	}
	return keys
}

// forms are what a text can have to be, by name; a ? after the name allows none.
var forms = map[string]struct{ pattern, expected string }{
	// A server's name is its role's and a number, and a DNS label too.
	"label":  {`^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$`, "at most 32 of a-z 0-9 -, beginning with a letter and not ending with -"},
	"text":   {`^[^\x00-\x1f\x7f-\x9f]{1,255}$`, "text of 1 to 255 characters"},
	"path":   {`^/[^\x00-\x1f\x7f-\x9f]{1,254}$`, "an absolute path"},
	"listen": {`^([0-9A-Za-z.-]*|\[[0-9A-Fa-f:.]+\]):(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4})$`, "host:port"},
}

// form returns the pattern that is says, and what it means.
func form(is string) (pattern, expected string) {
	name, optional := strings.CutSuffix(is, "?")
	f := forms[name]
	if optional {
		return `^$|` + f.pattern, f.expected + ` or ""`
	}
	return f.pattern, f.expected
}

// matches reports whether text has the pattern, which is one of this package's.
func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }

// choice is a text of which there are a few.
type choice interface{ choices() []string }

// kind is a choice that decides which other keys there are.
type kind interface {
	choice
	about(string) string
}

// bounds returns what "low..high" says for a value of the type.
func bounds(is string, t reflect.Type) (low, high int64) {
	first, last, ok := strings.Cut(is, "..")
	if !ok {
		panic(fmt.Sprintf("farmfile: %q is not low..high", is))
	}
	number := func(text string) int64 {
		switch t {
		case reflect.TypeFor[Duration](), reflect.TypeFor[Size]():
			value := reflect.New(t)
			if err := yaml.Unmarshal([]byte(text), value.Interface()); err != nil {
				panic(fmt.Sprintf("farmfile: bounds %q: %v", is, err))
			}
			return value.Elem().Int()
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			panic(fmt.Sprintf("farmfile: bounds %q: %v", is, err))
		}
		return n
	}
	return number(first), number(last)
}

// checkKeys wants of every key in the farm what its declaration says.
func checkKeys(p *service.Problems, f *Farm) { checkStruct(p, "", reflect.ValueOf(f).Elem()) }

func checkStruct(p *service.Problems, path string, v reflect.Value) {
	// Of a role or a metric of a kind that there is not, nothing else was read.
	if kind := v.FieldByName("Kind"); kind.IsValid() {
		if c := kind.Interface().(choice); !slices.Contains(c.choices(), kind.String()) {
			if kind.String() == "" {
				p.Add(path, "the key kind is missing; expected %s", strings.Join(c.choices(), ", "))
			} else {
				p.OneOf(join(path, "kind"), kind.String(), c.choices()...)
			}
			return
		}
	}
	for _, k := range keysOf(v.Type()) {
		if k.inline {
			checkInline(p, path, v.Field(k.field))
			continue
		}
		checkValue(p, join(path, k.name), k, v.Field(k.field))
	}
}

func checkInline(p *service.Problems, path string, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	checkStruct(p, path, v)
}

func checkValue(p *service.Problems, path string, k key, v reflect.Value) {
	switch value := v.Interface().(type) {
	case choice:
		p.OneOf(path, v.String(), value.choices()...)
		return
	case Level, TimeOfDay, TimeZone, Address, Command, FileMode: // as they were read
		return
	case Count:
		if value.Min == value.Max { // one number in the file
			low, high := bounds(keysOf(v.Type())[0].is, reflect.TypeFor[int]())
			p.Between(path, value.Min, int(low), int(high))
			return
		}
	case Duration:
		low, high := bounds(k.is, v.Type())
		p.DurationBetween(path, value, Duration(low), Duration(high))
		return
	case Size:
		low, high := bounds(k.is, v.Type())
		p.SizeBetween(path, value, Size(low), Size(high))
		return
	}
	switch v.Kind() {
	case reflect.Int:
		low, high := bounds(k.is, v.Type())
		p.Between(path, int(v.Int()), int(low), int(high))
	case reflect.String:
		switch pattern, expected := form(k.is); {
		case matches(pattern, v.String()):
		case v.String() == "":
			p.Add(path, "it is missing or empty; expected %s", expected)
		default:
			p.Add(path, "%q is not possible; expected %s", v.String(), expected)
		}
	case reflect.Bool:
	case reflect.Slice:
		checkLength(p, path, k, v)
		for i := range v.Len() {
			at := fmt.Sprintf("%s[%d]", path, i)
			if v.Type().Elem().Kind() == reflect.Struct {
				checkStruct(p, at, v.Index(i))
			} else {
				checkValue(p, at, key{}, v.Index(i))
			}
		}
	case reflect.Map:
		checkMap(p, path, k, v)
	case reflect.Struct:
		checkStruct(p, path, v)
	default:
		panic("farmfile: no check of " + v.Type().String())
	}
}

// checkMap does not look at the keys of a map whose type has choices: it has only
// those.
func checkMap(p *service.Problems, path string, k key, v reflect.Value) {
	if k.is != "" {
		checkLength(p, path, k, v)
	}
	names := v.MapKeys()
	slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, name := range names {
		at := join(path, name.String())
		if k.keys != "" {
			if pattern, expected := form(k.keys); !matches(pattern, name.String()) {
				p.Add(at, "%q is not possible as a name; expected %s", name.String(), expected)
			}
		}
		checkStruct(p, at, v.MapIndex(name))
	}
}

func checkLength(p *service.Problems, path string, k key, v reflect.Value) {
	switch low, high := bounds(k.is, reflect.TypeFor[int]()); {
	case v.Len() == 0 && low > 0:
		p.Add(path, "it is missing or empty; expected %d to %d entries", low, high)
	case int64(v.Len()) > high:
		p.Add(path, "%d entries; expected %d to %d", v.Len(), low, high)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
