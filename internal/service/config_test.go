package service

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// shape has one key of each kind.
type shape struct {
	Wait  Duration `yaml:"wait"`
	Size  Size     `yaml:"size"`
	Mode  FileMode `yaml:"mode"`
	Name  string   `yaml:"name"`
	Count int      `yaml:"count"`
	On    bool     `yaml:"on"`
	List  []string `yaml:"list"`
	Parts []part   `yaml:"parts"`
	Deep  struct {
		Part part `yaml:"part"`
	} `yaml:"deep"`
}

type part struct {
	Name string `yaml:"name"`
	Port int    `yaml:"port"`
}

func (s *shape) Validate() Problems {
	var p Problems
	p.Between("count", s.Count, 0, 10)
	for i, item := range s.Parts {
		if item.Name == "" {
			p.Add("parts["+string(rune('0'+i))+"]", "a part needs a name")
		}
	}
	if s.Deep.Part.Port < 0 {
		p.Add("deep.part.port", "a port is not negative")
	}
	if s.Name == "deep" && s.Deep.Part.Name == "" {
		p.Add("deep.part.name", "it is missing")
	}
	return p
}

func TestValues(t *testing.T) {
	for text, want := range map[string]shape{
		"wait: 5s":        {Wait: 5e9},
		"wait: 1h30m":     {Wait: 5400e9},
		"wait: \"250ms\"": {Wait: 25e7},
		"wait: 0":         {},
		"wait: 1.5s":      {Wait: 15e8},
		"size: 16MiB":     {Size: 16 << 20},
		"size: 1 GiB":     {Size: 1 << 30},
		"size: 512KiB":    {Size: 512 << 10},
		"size: 2TiB":      {Size: 2 << 40},
		"size: 100B":      {Size: 100},
		"size: 4096":      {Size: 4096},
		"size: 0":         {},
		"mode: \"0660\"":  {Mode: 0o660},
		"mode: 0660":      {Mode: 0o660},
		"mode: 660":       {Mode: 0o660},
		"mode: 0o660":     {Mode: 0o660},
	} {
		var got shape
		if err := Decode("f", []byte(text), &got); err != nil || got.Wait != want.Wait || got.Size != want.Size || got.Mode != want.Mode {
			t.Errorf("%s: got %v %v %v, %v", text, got.Wait, got.Size, got.Mode, err)
		}
	}
	for _, text := range []string{
		"wait: 5", "wait: soon", "wait: [1s]", "wait: 1d", "wait: 9999999h", "wait: true",
		"size: 16MB", "size: 16M", "size: -1", "size: 1.5GiB", "size: 99999999999GiB", "size: GiB", "size: {}", "size: 0x10",
		"mode: 888", "mode: rw", "mode: \"07777\"", "mode: \"-1\"", "mode: []",
	} {
		err := Decode("f", []byte(text), new(shape))
		var errs ConfigErrors
		if !errors.As(err, &errs) || len(errs) != 1 || errs[0].Line != 1 || errs[0].Column != 7 || !strings.Contains(errs[0].Message, "expected") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestValuesReadBack(t *testing.T) {
	for _, value := range []shape{
		{},
		{Wait: 1, Size: 1, Mode: 0o7},
		{Wait: 60e9, Size: 1024, Mode: 0o777},
		{Wait: 3600e9, Size: 1025, Mode: 0o600},
		{Wait: 3660e9, Size: 3 << 30, Mode: 0o640},
		{Wait: 36_000e9, Size: 1 << 40, Mode: 0o10},
		{Wait: 90e9},
		{Wait: -600e9},
	} {
		data, err := yaml.Marshal(value)
		must(t, err)
		var got shape
		if err := Decode("f", data, &got); err != nil || got.Wait != value.Wait || got.Size != value.Size || got.Mode != value.Mode {
			t.Errorf("%s: read back as %+v, %v", data, got, err)
		}
	}
	for want, d := range map[string]Duration{"0s": 0, "1h": 3600e9, "1h1m": 3660e9, "10h": 36_000e9, "10m": 600e9, "1m30s": 90e9, "1h0m1s": 3601e9, "500ms": 5e8} {
		if d.String() != want {
			t.Errorf("%d is %s; want %s", d, d, want)
		}
	}
}

func TestDecodePlacesProblems(t *testing.T) {
	for _, test := range []struct {
		name, text   string
		line, column int
	}{
		{"a value", "name: a\ncount: 11\n", 2, 8},
		{"a default", "name: a\n", 1, 1},
		{"an item of a list", "parts:\n  - name: a\n  - port: 1\n", 3, 5},
		{"an item with nothing in it", "parts: [{name: a}, {}]\n", 1, 20},
		{"an item in a flow list", "parts: [{name: a}, {port: 1}]\n", 1, 21},
		{"a key far down", "deep:\n  part:\n    port: -1\n", 3, 11},
		{"a key that is not there", "name: deep\ndeep:\n  part:\n    port: 1\n", 3, 3},
		{"a section that is not there", "name: deep\ndeep:\n", 2, 1},
		{"a quoted key", "\"count\": 11\n", 1, 10},
		{"with Windows' line ends", "name: a\r\ncount: 11\r\n", 2, 8},
	} {
		value := shape{}
		if test.name == "a default" {
			value.Count = 99
		}
		err := Decode("f", []byte(test.text), &value)
		var errs ConfigErrors
		if !errors.As(err, &errs) || len(errs) != 1 {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if errs[0].Line != test.line || errs[0].Column != test.column {
			t.Errorf("%s: line %d, column %d; want %d, %d", test.name, errs[0].Line, errs[0].Column, test.line, test.column)
		}
		if strings.ContainsRune(err.Error(), '\r') {
			t.Errorf("%s: %q", test.name, err)
		}
	}
}

func TestDecodeReplacesLists(t *testing.T) {
	value := shape{List: []string{"a", "b", "c"}, Count: 3}
	must(t, Decode("f", []byte("list: [x]\n"), &value))
	if len(value.List) != 1 || value.List[0] != "x" || value.Count != 3 {
		t.Errorf("got %+v", value)
	}
	must(t, Decode("f", []byte("list:\n"), &value)) // nothing said
	if len(value.List) != 1 {
		t.Errorf("got %+v", value)
	}
	must(t, Decode("f", []byte("list: []\n"), &value))
	if len(value.List) != 0 {
		t.Errorf("got %+v", value)
	}
}

func TestLoadReads(t *testing.T) {
	var value shape
	must(t, Load(write(t, "c.yaml", "count: 5\n", 0o644), &value))
	if value.Count != 5 {
		t.Errorf("got %+v", value)
	}
	if err := Load(filepath.Join(t.TempDir(), "none"), &value); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := Load(t.TempDir(), &value); err == nil {
		t.Error("a directory was read")
	}
	if err := Load(write(t, "c.yaml", strings.Repeat("#", maxConfig+1), 0o644), &value); err == nil || !strings.Contains(err.Error(), "larger than 1048576 bytes") {
		t.Errorf("a file that is too large: %v", err)
	}
}

// TestDecodeRefusesOddities has what the YAML library reads in ways that are hard
// to foresee.
func TestDecodeRefusesOddities(t *testing.T) {
	for text, want := range map[string]string{
		"list: ! ":                     "f:1:7: expected a plain value",
		"name: !!binary aa":            "f:1:7: expected a plain value",
		"name: &a b\nlist: [*a]":       "f:1:7: expected a plain value",
		"<<: {count: 1}":               "f:1:1: expected the name of a key",
		"5: x":                         "f:1:1: expected the name of a key",
		"list: [a, null]":              "f:1:11: expected a value",
		"list:\n  -\n":                 "f:2:5: expected a value",
		"count: .inf":                  "f:1:8: expected a plain value",
		"count: 5\n---\ncount: 6":      "f: the file has more than one YAML document",
		"a\n":                          "f:1:1: expected keys and values",
		"name: a\nlist: [é\ufffd\xff]": "f:2:10: this is not UTF-8 text",
		"count: 99999999999999999999":  "f:1:8: ",
	} {
		err := Decode("f", []byte(text), new(shape))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v; want %s", text, err, want)
		}
	}
}

func TestLocate(t *testing.T) {
	path := write(t, "c.yaml", "deep:\n  part:\n    name: a\n", 0o644)
	if err := Locate(path, nil); err != nil {
		t.Error(err)
	}
	want := path + ":3:11: deep.part.name: no such part\n  3 |     name: a\n    |           ^"
	if err := Locate(path, Problems{{Path: "deep.part.name", Message: "no such part"}}); err == nil || err.Error() != want {
		t.Errorf(" got %v\nwant %s", err, want)
	}
	path = write(t, "c.yaml", "a: {x: 1}\na.b:\n  c: 1\n  c.d[0]: [{e: 1}, {e: 2}]\n", 0o644)
	for key, want := range map[string]string{
		"a.x": ":1:8: ", "a.b": ":2:1: ", "a.b.c": ":3:6: ", "a.b.c.d": ":3:6: ", "a.b.c.d[0][1].e": ":4:24: ", "a.b.c.d[0][2]": ":4:3: ",
		"a.b.c.d[0][1]": ":4:21: ", "a.bc": ":1:1: ", "nowhere": ":1:1: ",
	} {
		if err := Locate(path, Problems{{Path: key, Message: "wrong"}}); err == nil || !strings.HasPrefix(err.Error(), path+want) {
			t.Errorf("%s: got %v; want %s", key, err, want)
		}
	}
	for key, want := range map[string]string{"a.x": ":1:5: ", "a.b.c": ":3:3: ", "a.b.c.d[0][1].e": ":4:21: ", "a.nowhere": ":1:1: "} {
		var p Problems
		p.AddKey(key, "unknown")
		if err := Locate(path, p); err == nil || !strings.HasPrefix(err.Error(), path+want) {
			t.Errorf("the key %s: got %v; want %s", key, err, want)
		}
	}
}

// FuzzDecode wants an error or a valid value, and never a panic, from whatever
// stands in the file.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "count: 5", "parts:\n  - name: a\n    port: 1\n", "deep: {part: {port: -1}}", "wait: 5s\nsize: 1MiB\nmode: 0660",
		"a: &a [*a]", "<<: {count: 1}", "? x\n: y", "--- |\n x\n...\n---\n", "list: !!seq [a]", "name: 'x\ny'", "\t", "\"", "- -", "deep:\n  part:",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var value shape
		if err := Decode("f", data, &value); err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		if problems := value.Validate(); len(problems) > 0 {
			t.Errorf("accepted with %v", problems)
		}
	})
}
