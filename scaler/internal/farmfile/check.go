package farmfile

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"farmhand/internal/service"
)

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
	case Level, TimeOfDay, TimeZone, Address, Command, Environment, Settings, FileMode, Recurrence: // as they were read
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
