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
	"unicode/utf8"

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
	for i, line := range source.lines {
		// The YAML library would take it for other text.
		if !utf8.ValidString(line) {
			column := 1 + len([]rune(line[:invalidUTF8(line)]))
			return ConfigErrors{{File: name, Line: i + 1, Column: column, Message: "this is not UTF-8 text"}}
		}
	}
	if err := source.decode(data, into); err != nil {
		return source.yamlError(err)
	}
	if v, ok := into.(Validator); ok {
		if problems := v.Validate(); len(problems) > 0 {
			return source.errors(problems)
		}
	}
	return nil
}

// invalidUTF8 returns where the first byte stands that is no UTF-8; the end if all is.
func invalidUTF8(text string) int {
	for i, r := range text {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				return i
			}
		}
	}
	return len(text)
}

// decode parses data, keeps its tree for locate and decodes it.
func (s *source) decode(data []byte, into any) (err error) {
	// The YAML library has been seen to panic on what is no YAML. A reload must
	// not take the sessions of a running program with it.
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("the YAML parser gave up: %v", cause)
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return err
	}
	if len(file.Docs) > 1 {
		return errors.New("the file has more than one YAML document; expected one")
	}
	if len(file.Docs) == 1 {
		s.root = file.Docs[0].Body
	}
	content, err := plain(s.root)
	if err != nil || content == nil {
		return err
	}
	if content.Type() != ast.MappingType {
		return ErrorAt(content, "expected keys and values")
	}
	return yaml.NewDecoder(bytes.NewReader(nil), yaml.Strict()).DecodeFromNode(content, into)
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
	// What cannot be parsed any more leaves the problems without a place, but
	// they are still the problems.
	_ = source.decode(data, new(struct{}))
	return source.errors(problems)
}

// plain returns n without the keys that have no value, at any depth: a section
// all of whose keys are comments means the defaults, but the decoder would set
// the struct to zero. It leaves n as it is, for errors to point into.
//
// It refuses tags, anchors, aliases and merge keys: a configuration that is read
// top to bottom needs none, and the decoder has been seen to panic on odd ones.
func plain(n ast.Node) (ast.Node, error) {
	switch n := n.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return nil, nil
	case *ast.MappingNode:
		full := *n
		full.Values = make([]*ast.MappingValueNode, 0, len(n.Values))
		for _, pair := range n.Values {
			if _, ok := pair.Key.(*ast.StringNode); !ok {
				return nil, ErrorAt(pair.Key, "expected the name of a key")
			}
			value, err := plain(pair.Value)
			if err != nil {
				return nil, err
			}
			if value != nil {
				pair := *pair
				pair.Value = value
				full.Values = append(full.Values, &pair)
			}
		}
		return &full, nil
	case *ast.SequenceNode:
		full := *n
		full.Values = make([]ast.Node, len(n.Values))
		for i, item := range n.Values {
			value, err := plain(item)
			if err != nil {
				return nil, err
			}
			if value == nil {
				return nil, ErrorAt(item, "expected a value")
			}
			full.Values[i] = value
		}
		return &full, nil
	case *ast.StringNode, *ast.LiteralNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n, nil
	}
	return nil, ErrorAt(n, "expected a plain value, a list or keys and values; tags, anchors and aliases are not supported")
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
		line, column := s.locate(p.Path, p.Key)
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

// locate returns where the value at path stands, or the key if that is wanted, or
// else the nearest key above it that is in the file; the beginning of the file if
// none is.
func (s source) locate(path string, key bool) (line, column int) {
	line, column = 1, 1
	node := s.root
	for path != "" {
		var item bool
		switch n := node.(type) {
		case *ast.MappingNode:
			// A key may have dots of its own: the longest that fits is meant.
			node = nil
			rest := path
			for _, pair := range n.Values {
				token := pair.Key.GetToken()
				after, ok := strings.CutPrefix(path, token.Value)
				if ok && len(after) < len(rest) && (after == "" || after[0] == '.' || after[0] == '[') {
					node, rest = pair.Value, after
					line, column = token.Position.Line, token.Position.Column
				}
			}
			if rest == "" && key {
				return line, column
			}
			path = rest
		case *ast.SequenceNode:
			digits, rest, _ := strings.Cut(strings.TrimPrefix(path, "["), "]")
			i, err := strconv.Atoi(digits)
			if err != nil || i < 0 || i >= len(n.Values) {
				return line, column
			}
			node, path, item = n.Values[i], rest, true
		default:
			return line, column
		}
		// A key says better than what stands below it where a section is; an
		// item of a list has no key.
		switch n := node.(type) {
		case nil:
			return line, column
		case *ast.MappingNode:
			if item {
				position := n.GetToken().Position
				if len(n.Values) > 0 {
					position = n.Values[0].Key.GetToken().Position
				}
				line, column = position.Line, position.Column
			}
		case *ast.SequenceNode, *ast.NullNode:
		default:
			position := n.GetToken().Position
			line, column = position.Line, position.Column
		}
		path = strings.TrimPrefix(path, ".")
	}
	return line, column
}
