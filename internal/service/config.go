package service

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxConfig is the largest configuration file that is read, in bytes.
const maxConfig = 1 << 20

// ConfigError is one thing wrong with a configuration file and its place.
type ConfigError struct {
	File         string
	Line, Column int    // from 1; 0 if the whole file is meant
	Path         string // of the key, such as limits.connections; may be empty
	Message      string // what is wrong and what was expected
	Source       string // the line of the file
}

// Error returns file:line:column: key: message, and below it the line itself
// with a mark.
func (e *ConfigError) Error() string {
	var s strings.Builder
	s.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&s, ":%d:%d", e.Line, e.Column)
	}
	s.WriteString(": ")
	if e.Path != "" {
		s.WriteString(e.Path + ": ")
	}
	s.WriteString(e.Message)
	if strings.TrimSpace(e.Source) != "" {
		number := strconv.Itoa(e.Line)
		fmt.Fprintf(&s, "\n  %s | %s\n  %s | %s^", number, e.Source,
			strings.Repeat(" ", len(number)), strings.Repeat(" ", max(e.Column-1, 0)))
	}
	return s.String()
}

// ConfigErrors is everything wrong with a configuration file, in the order of
// its keys.
type ConfigErrors []*ConfigError

func (e ConfigErrors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Validator is a configuration that can tell what is wrong with it.
type Validator interface{ Validate() Problems }

// Load reads the YAML file at path over into, a pointer to a struct that has the
// defaults already, and validates it if it is a [Validator]. A key that the
// struct does not have is refused, and so is one that stands twice. A list in
// the file replaces the default list; a section without content changes nothing.
// An error that is about the content is a [ConfigErrors].
func Load(path string, into any) error {
	data, err := readConfig(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return Decode(path, data, into)
}

func readConfig(path string) (data []byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err = io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxConfig)
	}
	return data, err
}

// Decode is Load for content that was read already; name stands for the file in
// errors.
func Decode(name string, data []byte, into any) error {
	source := source{name: name, lines: strings.Split(string(data), "\n")}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return source.yamlError(err)
	}
	if len(file.Docs) > 1 {
		return ConfigErrors{{File: name, Message: "the file has more than one YAML document; expected one"}}
	}
	if len(file.Docs) == 1 {
		source.root = withoutEmpty(file.Docs[0].Body)
	}
	if source.root != nil && source.root.Type() != ast.MappingType && source.root.Type() != ast.MappingValueType {
		return source.errors(Problems{{Message: "expected keys and values"}})
	}
	if source.root != nil {
		err := yaml.NewDecoder(bytes.NewReader(nil), yaml.Strict()).DecodeFromNode(source.root, into)
		if err != nil {
			return source.yamlError(err)
		}
	}
	if v, ok := into.(Validator); ok {
		if problems := v.Validate(); len(problems) > 0 {
			return source.errors(problems)
		}
	}
	return nil
}

// Locate gives problems that were found after Load their places in the file at
// path.
func Locate(path string, problems Problems) error {
	if len(problems) == 0 {
		return nil
	}
	data, err := readConfig(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	source := source{name: path, lines: strings.Split(string(data), "\n")}
	if file, err := parser.ParseBytes(data, 0); err == nil && len(file.Docs) == 1 {
		source.root = file.Docs[0].Body
	}
	return source.errors(problems)
}

// withoutEmpty removes the keys without a value from a mapping, at any depth: a
// section all of whose keys are comments means the defaults, but the decoder
// would set the struct to zero.
func withoutEmpty(n ast.Node) ast.Node {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return nil
	case *ast.MappingNode:
		values := n.Values[:0]
		for _, pair := range n.Values {
			if value := withoutEmpty(pair.Value); value != nil {
				pair.Value = value
				values = append(values, pair)
			}
		}
		n.Values = values
	case *ast.SequenceNode:
		for i, value := range n.Values {
			if kept := withoutEmpty(value); kept != nil {
				n.Values[i] = kept
			}
		}
	case *ast.CommentGroupNode:
		return nil
	}
	return n
}

// source is the text and the tree of a configuration file.
type source struct {
	name  string
	lines []string
	root  ast.Node
}

func (s source) at(line, column int, path, message string) *ConfigError {
	e := &ConfigError{File: s.name, Line: line, Column: column, Path: path, Message: message}
	if 0 < line && line <= len(s.lines) {
		e.Source = strings.TrimSuffix(s.lines[line-1], "\r")
	}
	return e
}

func (s source) errors(problems Problems) ConfigErrors {
	errs := make(ConfigErrors, len(problems))
	for i, p := range problems {
		line, column := s.locate(p.Path)
		errs[i] = s.at(line, column, p.Path, p.Message)
	}
	return errs
}

func (s source) yamlError(err error) error {
	var located yaml.Error
	if !errors.As(err, &located) || located.GetToken() == nil {
		return ConfigErrors{{File: s.name, Message: err.Error()}}
	}
	message := located.GetMessage()
	var mismatch *yaml.TypeError
	if errors.As(err, &mismatch) {
		message = "expected " + describe(mismatch.DstType) + ", found " + describe(mismatch.SrcType)
	}
	var unexpected *yaml.UnexpectedNodeTypeError
	if errors.As(err, &unexpected) {
		message = "expected " + describeNode(unexpected.Expected) + ", found " + describeNode(unexpected.Actual)
	}
	position := located.GetToken().Position
	return ConfigErrors{s.at(position.Line, position.Column, "", message)}
}

// describe returns a type in the words of the file.
func describe(t reflect.Type) string {
	if t == nil {
		return "nothing"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "text"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "keys and values"
	case reflect.Pointer:
		return describe(t.Elem())
	}
	return t.String()
}

// describeNode returns a kind of YAML node in the words of the file.
func describeNode(t ast.NodeType) string {
	switch t {
	case ast.MappingType, ast.MappingValueType:
		return "keys and values"
	case ast.SequenceType:
		return "a list"
	case ast.StringType, ast.LiteralType:
		return "text"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "a number"
	case ast.BoolType:
		return "true or false"
	}
	return t.YAMLName()
}

// locate returns where the value at path stands, or else the nearest key above
// it that is in the file; the beginning of the file if none is.
func (s source) locate(path string) (line, column int) {
	line, column = 1, 1
	node := s.root
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		switch n := node.(type) {
		case *ast.MappingNode:
			node = nil
			for _, pair := range n.Values {
				if pair.Key.GetToken().Value == step {
					node = pair.Value
					position := pair.Key.GetToken().Position
					line, column = position.Line, position.Column
				}
			}
		case *ast.SequenceNode:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(n.Values) {
				return line, column
			}
			node = n.Values[i]
		default:
			return line, column
		}
		// A key says better than what stands below it where a section is; an
		// item of a list has no key.
		switch n := node.(type) {
		case nil:
			return line, column
		case *ast.MappingNode:
			if _, err := strconv.Atoi(step); err == nil && len(n.Values) > 0 {
				position := n.Values[0].Key.GetToken().Position
				line, column = position.Line, position.Column
			}
		case *ast.SequenceNode:
		default:
			position := n.GetToken().Position
			line, column = position.Line, position.Column
		}
	}
	return line, column
}
