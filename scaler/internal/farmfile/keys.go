package farmfile

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
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
	"label": {`^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$`, "at most 32 of a-z 0-9 -, beginning with a letter and not ending with -"},
	"text":  {`^[^\x00-\x1f\x7f-\x9f]{1,255}$`, "text of 1 to 255 characters"},
	"store": {`^[^\x00-\x20\x7f-\x9f]{1,1000}$`, "/path or s3://bucket/prefix"},
	"queue": {`^https?://[^\x00-\x20\x7f-\x9f]{1,1000}$`, "a queue's URL"},
	// Of what SQS takes.
	"body": {`^[^\x00-\x08\x0b\x0c\x0e-\x1f]+$`, "text"},
	"path": {`^/[^\x00-\x1f\x7f-\x9f]{1,254}$`, "an absolute path"},
	// Below the server's own directory, or anywhere.
	"place": {`^(/|\{directory\}/)[^\x00-\x1f\x7f-\x9f]{1,254}$`, "an absolute path, or one that begins with {directory}/"},
	// Of a URL.
	"request": {`^/[^\x00-\x20\x7f-\x9f"\\]{0,254}$`, "a path such as /health"},
	"host":    {`^[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?$`, "a host's name"},
	"below":   {`^([A-Za-z0-9_@+-][A-Za-z0-9._@+-]*/)*[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*$`, "a path below the release of letters, digits and . _ @ + -, no name in it beginning with a dot"},
	"listen":  {`^([0-9A-Za-z.-]*|\[[0-9A-Fa-f:.]+\]):(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4})$`, "host:port"},
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

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
