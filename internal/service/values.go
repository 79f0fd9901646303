package service

import (
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Duration is a time span that a configuration gives as "500ms", "5s" or "1h30m".
type Duration time.Duration

func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	s := time.Duration(d).String()
	// 1h0m0s is how Go says what a person writes as 1h.
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// UnmarshalYAML reads the duration; a number needs its unit, except 0.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	text, err := Scalar(n, `a duration such as "500ms", "5s" or "1h"`)
	if err != nil {
		return err
	}
	value, err := time.ParseDuration(text)
	if err != nil {
		return ErrorAt(n, "%q is not a duration; expected one such as 500ms, 5s or 1h", text)
	}
	*d = Duration(value)
	return nil
}

// MarshalYAML writes the duration as it is read.
func (d Duration) MarshalYAML() (any, error) { return d.String(), nil }

// Size is a number of bytes that a configuration gives as "512KiB", "16MiB" or
// "1GiB", or as a plain number.
type Size int64

var units = []struct {
	suffix string
	bytes  int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

func (s Size) String() string {
	for _, unit := range units {
		if s != 0 && int64(s)%unit.bytes == 0 && unit.bytes > 1 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// UnmarshalYAML reads the size.
func (s *Size) UnmarshalYAML(n ast.Node) error {
	text, err := Scalar(n, `a size such as "512KiB", "16MiB" or "1GiB"`)
	if err != nil {
		return err
	}
	for _, unit := range units {
		digits, ok := strings.CutSuffix(text, unit.suffix)
		if !ok {
			continue
		}
		value, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
		if err != nil || int64(value) > math.MaxInt64/unit.bytes {
			break
		}
		*s = Size(int64(value) * unit.bytes)
		return nil
	}
	return ErrorAt(n, "%q is not a size; expected one such as 512KiB, 16MiB or 1GiB", text)
}

// MarshalYAML writes the size as it is read.
func (s Size) MarshalYAML() (any, error) { return s.String(), nil }

// FileMode is the permission bits of a file, in octal digits whether they are
// quoted or not.
type FileMode fs.FileMode

func (m FileMode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// UnmarshalYAML reads the mode.
func (m *FileMode) UnmarshalYAML(n ast.Node) error {
	text, err := Scalar(n, `a file mode such as "0660"`)
	if err != nil {
		return err
	}
	value, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
	if err != nil || value > 0o777 {
		return ErrorAt(n, `%q is not a file mode; expected octal digits such as "0660"`, text)
	}
	*m = FileMode(value)
	return nil
}

// MarshalYAML writes the mode as it is read.
func (m FileMode) MarshalYAML() (any, error) { return m.String(), nil }

// scalar returns the text of a plain or quoted value as it stands in the file.
func Scalar(n ast.Node, expected string) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, nil
	}
	return "", ErrorAt(n, "expected %s", expected)
}

// ErrorAt is an error about the value n, which [Load] gives n's place in the file.
func ErrorAt(n ast.Node, format string, args ...any) error {
	err := &yaml.SyntaxError{Message: fmt.Sprintf(format, args...)}
	if n != nil {
		err.Token = n.GetToken()
	}
	// The token of keys and values is the first colon.
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		err.Token = m.Values[0].Key.GetToken()
	}
	return err
}
