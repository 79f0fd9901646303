package awstest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	//lint:ignore SA1019 it is old, and it has the models; it is for tests only
	_ "github.com/aws/aws-sdk-go"
)

// model is one service as AWS has published it.
type model struct {
	Metadata struct {
		APIVersion   string `json:"apiVersion"`
		Protocol     string `json:"protocol"`
		XMLNamespace string `json:"xmlNamespace"`
	} `json:"metadata"`
	Operations map[string]struct {
		Input  *ref `json:"input"`
		Output *ref `json:"output"`
	} `json:"operations"`
	Shapes map[string]*shape `json:"shapes"`
}

type ref struct {
	Shape         string `json:"shape"`
	LocationName  string `json:"locationName"`
	QueryName     string `json:"queryName"`
	Flattened     bool   `json:"flattened"`
	ResultWrapper string `json:"resultWrapper"`
}

type shape struct {
	Type      string         `json:"type"`
	Members   map[string]ref `json:"members"`
	Member    *ref           `json:"member"`
	Required  []string       `json:"required"`
	Enum      []string       `json:"enum"`
	Flattened bool           `json:"flattened"`
}

// directory is where the module with the models is: it is among this module's
// requirements, so the go command has it, or gets it as any other.
var directory = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go").Output()
	if err != nil {
		return "", fmt.Errorf("find the service models: %w", err)
	}
	dir := strings.TrimSpace(string(out))
	if dir == "" {
		return "", fmt.Errorf("the module github.com/aws/aws-sdk-go is not downloaded: go mod download")
	}
	return dir, nil
})

// Model returns the text of a service's model (api-2.json) in one of its versions.
func Model(service, version string) ([]byte, error) {
	dir, err := directory()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "models", "apis", service, version, "api-2.json"))
	if err != nil {
		return nil, fmt.Errorf("service model: %w", err)
	}
	return text, nil
}

func load(service, version string) (*model, error) {
	text, err := Model(service, version)
	if err != nil {
		return nil, err
	}
	m := &model{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("service model of %s: %w", service, err)
	}
	return m, nil
}

// query is the name of a member in a request.
func (m *model) query(name string, r ref) string {
	if m.Metadata.Protocol != "ec2" {
		if r.LocationName != "" {
			return r.LocationName
		}
		return name
	}
	switch {
	case r.QueryName != "":
		return r.QueryName
	case r.LocationName != "":
		return strings.ToUpper(r.LocationName[:1]) + r.LocationName[1:]
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

// request reads a request's parameters by the model: every one must be known, of its
// type and among the choices, and those that are required must be there.
func (m *model) request(operation string, form url.Values) (Fields, error) {
	o, ok := m.Operations[operation]
	if !ok {
		return nil, fmt.Errorf("the model has no operation %q", operation)
	}
	left := map[string]string{}
	for key, values := range form {
		if key == "Action" || key == "Version" {
			continue
		}
		if len(values) != 1 {
			return nil, fmt.Errorf("%s stands there %d times", key, len(values))
		}
		left[key] = values[0]
	}
	value := any(map[string]any{})
	if o.Input != nil {
		var err error
		if value, err = m.read(o.Input.Shape, "", left); err != nil {
			return nil, err
		}
	}
	if len(left) > 0 {
		var names []string
		for key := range left {
			names = append(names, key)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("%s has no parameters %s", operation, strings.Join(names, ", "))
	}
	if value == nil {
		value = map[string]any{}
	}
	return value.(map[string]any), nil
}

// read takes a value of a shape out of the parameters; nil if there is none.
func (m *model) read(name, at string, left map[string]string) (any, error) {
	s := m.Shapes[name]
	switch s.Type {
	case "structure":
		fields := map[string]any{}
		for member, r := range s.Members {
			value, err := m.read(r.Shape, join(at, m.query(member, r)), left)
			if err != nil {
				return nil, err
			}
			if value != nil {
				fields[member] = value
			}
		}
		if len(fields) == 0 && at != "" {
			return nil, nil
		}
		for _, required := range s.Required {
			if _, there := fields[required]; !there {
				return nil, fmt.Errorf("%s lacks %s", name, required)
			}
		}
		return fields, nil
	case "list":
		if m.Metadata.Protocol != "ec2" && !s.Flattened {
			at = join(at, "member")
		}
		var list []any
		for n := 1; ; n++ {
			value, err := m.read(s.Member.Shape, join(at, strconv.Itoa(n)), left)
			if err != nil {
				return nil, err
			}
			if value == nil {
				break
			}
			list = append(list, value)
		}
		if list == nil {
			return nil, nil
		}
		return list, nil
	}
	text, there := left[at]
	if !there {
		return nil, nil
	}
	delete(left, at)
	switch s.Type {
	case "string":
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, text) {
			return nil, fmt.Errorf("%s is %q, which is none of %s", at, text, name)
		}
		return text, nil
	case "integer", "long":
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("%s is %q, which is no number", at, text)
		}
		return n, nil
	case "boolean":
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%s is %q, neither true nor false", at, text)
		}
		return b, nil
	case "blob", "timestamp":
		return text, nil
	}
	return nil, fmt.Errorf("%s is of type %s, which no test needed yet", at, s.Type)
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// reply writes an answer by the model, as XML.
func (m *model) reply(operation string, fields Fields) (string, error) {
	o := m.Operations[operation]
	var text strings.Builder
	fmt.Fprintf(&text, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<%sResponse xmlns=%q>", operation, m.Metadata.XMLNamespace)
	wrapper := ""
	if o.Output != nil {
		wrapper = o.Output.ResultWrapper
	}
	if wrapper != "" {
		text.WriteString("<" + wrapper + ">")
	}
	if o.Output != nil {
		if err := m.write(&text, o.Output.Shape, "", map[string]any(fields)); err != nil {
			return "", err
		}
	} else if len(fields) > 0 {
		return "", fmt.Errorf("%s answers with nothing", operation)
	}
	if wrapper != "" {
		text.WriteString("</" + wrapper + ">")
	}
	text.WriteString("<requestId>11111111-2222-3333-4444-555555555555</requestId></" + operation + "Response>")
	return text.String(), nil
}

func (m *model) write(text *strings.Builder, name, at string, value any) error {
	s := m.Shapes[name]
	wrong := func() error { return fmt.Errorf("the answer's %s is %T, and the model has %s", at, value, s.Type) }
	switch s.Type {
	case "structure":
		fields, ok := value.(map[string]any)
		if f, is := value.(Fields); is {
			fields, ok = f, true
		}
		if !ok {
			return wrong()
		}
		var names []string
		for member := range fields {
			names = append(names, member)
		}
		slices.Sort(names)
		for _, member := range names {
			r, known := s.Members[member]
			if !known {
				return fmt.Errorf("the answer's %s has %s, which the model has not", at, member)
			}
			element := r.LocationName
			if element == "" {
				element = member
			}
			text.WriteString("<" + element + ">")
			if err := m.write(text, r.Shape, join(at, member), fields[member]); err != nil {
				return err
			}
			text.WriteString("</" + element + ">")
		}
		return nil
	case "list":
		list, ok := value.([]any)
		if !ok {
			return wrong()
		}
		element := s.Member.LocationName
		if element == "" {
			element = "member"
		}
		for _, one := range list {
			text.WriteString("<" + element + ">")
			if err := m.write(text, s.Member.Shape, at, one); err != nil {
				return err
			}
			text.WriteString("</" + element + ">")
		}
		return nil
	case "string", "timestamp", "blob":
		one, ok := value.(string)
		if !ok {
			return wrong()
		}
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, one) {
			return fmt.Errorf("the answer's %s is %q, which is none of %s", at, one, name)
		}
		escape(text, one)
		return nil
	case "integer", "long":
		if _, ok := value.(int); !ok {
			return wrong()
		}
	case "boolean":
		if _, ok := value.(bool); !ok {
			return wrong()
		}
	default:
		return wrong()
	}
	fmt.Fprint(text, value)
	return nil
}
