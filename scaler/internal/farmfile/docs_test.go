package farmfile

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestSchemaIsWrittenDown: docs/farm.schema.json is the schema of this code.
func TestSchemaIsWrittenDown(t *testing.T) {
	const file = "../../../docs/farm.schema.json"
	if *update {
		must(t, os.WriteFile(file, Schema(), 0o644))
	}
	written, err := os.ReadFile(file)
	must(t, err)
	if string(written) != string(Schema()) {
		t.Errorf("docs/farm.schema.json is not what scaler schema prints; go test ./scaler/internal/farmfile -update writes it anew")
	}
}

// TestTablesAreWrittenDown: the tables of docs/FARMFILE.md say what the code says.
func TestTablesAreWrittenDown(t *testing.T) {
	const file = "../../../docs/FARMFILE.md"
	data, err := os.ReadFile(file)
	must(t, err)
	text, d := string(data), defaults()
	for name, table := range map[string][]string{
		"farm":      rows("", reflect.TypeFor[Farm](), reflect.ValueOf(d.farm)),
		"role":      rows("", reflect.TypeFor[Role](), reflect.ValueOf(d.roles[MySQLKind]), reflect.ValueOf(d.roles[WebKind])),
		"metric":    rows("", reflect.TypeFor[Metric](), reflectAll(d.metrics)...),
		"metrics":   metricRows(d),
		"cron":      rows("", reflect.TypeFor[Cron](), reflect.ValueOf(d.cron)),
		"events":    {"`" + strings.Join(EventKind("").choices(), "`, `") + "`"},
		"aws":       rows("", reflect.TypeFor[AWS](), reflect.ValueOf(defaultAWS())),
		"mysql":     rows("", reflect.TypeFor[MySQL](), reflect.ValueOf(*d.roles[MySQLKind].Parameters.MySQL)),
		"web":       rows("", reflect.TypeFor[Web](), reflect.ValueOf(*d.roles[WebKind].Parameters.Web)),
		"lb":        rows("", reflect.TypeFor[LB](), reflect.ValueOf(*d.roles[LBKind].Parameters.LB)),
		"memcached": rows("", reflect.TypeFor[Memcached](), reflect.ValueOf(*d.roles[MemcachedKind].Parameters.Memcached)),
		"worker":    rows("", reflect.TypeFor[Worker](), reflect.ValueOf(*d.roles[WorkerKind].Parameters.Worker)),
		"storage":   rows("", reflect.TypeFor[StorageServer](), reflect.ValueOf(*d.roles[StorageServerKind].Parameters.StorageServer)),
		"base":      rows("", reflect.TypeFor[Base](), reflect.ValueOf(*d.roles[BaseKind].Parameters.Base)),
	} {
		marked := regexp.MustCompile(`(?s)(<!-- ` + name + `: [^\n]*-->\n)(.*?\n)(\n)`)
		found := marked.FindStringSubmatch(text)
		if found == nil {
			t.Errorf("there is no table %s", name)
			continue
		}
		want := strings.Join(table, "\n") + "\n"
		if *update {
			text = strings.Replace(text, found[0], found[1]+want+found[3], 1)
		} else if found[2] != want {
			t.Errorf("table %s is\n%swant\n%s(go test ./scaler/internal/farmfile -update writes it anew)", name, found[2], want)
		}
	}
	if *update {
		must(t, os.WriteFile(file, []byte(text), 0o644))
	}
	if keys := strings.Count(text, "\n| `"); keys < 65 {
		t.Errorf("only %d keys are explained", keys)
	}
}

const heading = "| key | value | default | meaning |\n|---|---|---|---|"

// rows returns the table of a struct's keys, the sections below it included;
// usual are its defaults, one for each kind.
func rows(path string, typ reflect.Type, usual ...reflect.Value) []string {
	var list []string
	if path == "" {
		list = append(list, heading)
	}
	for _, k := range keysOf(typ) {
		field := typ.Field(k.field).Type
		var values []reflect.Value
		for _, v := range usual {
			values = append(values, v.Field(k.field))
		}
		at := join(path, k.name)
		switch {
		case k.inline && field.Kind() == reflect.Pointer:
			if len(values) == 1 && !values[0].IsNil() { // parameters that do not depend on the kind
				list = append(list, rows(path, field.Elem(), values[0].Elem())...)
			}
			continue
		case k.inline:
			inner := rows(path, field, values...)
			if path == "" {
				inner = inner[1:] // its heading
			}
			list = append(list, inner...)
			continue
		case isSection(field):
			list = append(list, rows(at, field, values...)...)
			if field == reflect.TypeFor[Parameters]() {
				list = append(list, row(at, "by the kind", "", k.about))
			}
			continue
		}
		list = append(list, row(at, takes(k, field), usually(k, field, values), k.about))
		switch {
		case field.Kind() == reflect.Map && field.Elem() == reflect.TypeFor[Hook]():
			list = append(list, rows(at+".EVENT", field.Elem(), reflect.ValueOf(Hook{Mode: Sync}), reflect.ValueOf(Hook{Mode: Async}))...)
		case field.Kind() == reflect.Map && field.Elem() == reflect.TypeFor[AWSRole]():
			list = append(list, rows(at+".ROLE", field.Elem(), reflect.ValueOf(defaultAWSRole()))...)
		case field == reflect.TypeFor[[]Template]():
			list = append(list, rows(at+"[]", field.Elem(), reflect.ValueOf(defaults().template))...)
		case field == reflect.TypeFor[map[string]Program]():
			list = append(list, rows(at+".NAME", field.Elem(), reflect.ValueOf(defaults().program))...)
		case field == reflect.TypeFor[map[string]Site]():
			list = append(list, rows(at+".NAME", field.Elem(), reflect.ValueOf(defaults().site))...)
		case field == reflect.TypeFor[[]Mount]():
			list = append(list, rows(at+"[]", field.Elem(), reflect.ValueOf(defaults().mount))...)
		case field == reflect.TypeFor[[]Health]():
			list = append(list, rows(at+"[]", field.Elem(), reflect.ValueOf(defaults().health))...)
		case field == reflect.TypeFor[[]Shared](), field == reflect.TypeFor[[]Window](), field == reflect.TypeFor[[]Schedule]():
			list = append(list, rows(at+"[]", field.Elem())...)
		}
	}
	return list
}

func isSection(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[Count](), reflect.TypeFor[TimeZone](), reflect.TypeFor[Address](), reflect.TypeFor[Level](), reflect.TypeFor[Recurrence]():
		return false
	}
	return t.Kind() == reflect.Struct
}

func row(key, value, usual, about string) string {
	cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
	return strings.ReplaceAll(fmt.Sprintf("| `%s` | %s | %s | %s |", key, cell(value), cell(usual), cell(about)), "|  |", "| |")
}

// takes says what the value of a key can be.
func takes(k key, t reflect.Type) string {
	if c, ok := reflect.Zero(t).Interface().(choice); ok {
		return "`" + strings.Join(c.choices(), "`, `") + "`"
	}
	low, high, _ := strings.Cut(k.is, "..")
	switch t {
	case reflect.TypeFor[Duration](), reflect.TypeFor[Size]():
		return low + " to " + high
	case reflect.TypeFor[FileMode]():
		return "octal digits"
	case reflect.TypeFor[Level]():
		return "by the kind"
	case reflect.TypeFor[TimeOfDay]():
		return "HH:MM"
	case reflect.TypeFor[Recurrence]():
		return "a period, cron fields or \"\""
	case reflect.TypeFor[TimeZone]():
		return "UTC, or one such as Europe/Berlin"
	case reflect.TypeFor[Address]():
		return "IP address"
	case reflect.TypeFor[Environment](), reflect.TypeFor[Settings]():
		return "texts by name"
	case reflect.TypeFor[Command]():
		return "words, or a list of words; no shell"
	case reflect.TypeFor[Count]():
		return "1 to 100, or `{min: 1 to 100, max: 1 to 100}`"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		_, expected := form(k.is)
		return expected
	case reflect.Slice, reflect.Map:
		if k.is == "" {
			return "by name"
		}
		return low + " to " + high + " entries"
	}
	return low + " to " + high
}

// usually says what a key is by default.
func usually(k key, t reflect.Type, values []reflect.Value) string {
	if cannotBe(k, t, values) {
		return "must be given"
	}
	if len(values) > 0 && (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) {
		return "none"
	}
	if value, ok := common(values); ok {
		if value == "" {
			return "`\"\"`"
		}
		return fmt.Sprintf("%v", value)
	}
	if len(values) == 2 && values[0].Type() != reflect.TypeFor[HookMode]() && values[0].Type() != reflect.TypeFor[RoleKind]() {
		first, _ := common(values[:1])
		second, _ := common(values[1:])
		return fmt.Sprintf("mysql %v, web %v", first, second)
	}
	return ""
}

func metricRows(d values) []string {
	list := []string{"| kind | what it measures | scale_out, scale_in | roles |\n|---|---|---|---|"}
	for kind, m := range sorted(metricKinds) {
		levels := "must be given"
		if kind == QueueMetric {
			levels = "none: per_server"
		}
		if usual := d.metrics[kind]; usual.ScaleOut.Unit != "" {
			levels = fmt.Sprintf("%v, %v", usual.ScaleOut, usual.ScaleIn)
		}
		roles := "all"
		if len(m.only) > 0 {
			roles = strings.Trim(fmt.Sprint(m.only), "[]")
		}
		list = append(list, row(string(kind), m.about, levels, roles))
	}
	return list
}
