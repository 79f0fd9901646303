package farmfile

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/service"
)

// Unit is what a level is measured in.
type Unit string

// The units, and how a level in them is written.
const (
	Number  Unit = "a number such as 1.5"
	Percent Unit = "a share such as 75%"
	Seconds Unit = "a duration such as 500ms or 10s"
)

// Level is the value of a metric at which something happens.
type Level struct {
	Value float64 // a number, 0.75 for 75%, or seconds
	Unit  Unit    // empty: not given
}

// levelPattern is what a number and a share look like. A level is bounded
// because a number beyond it can only be a slip.
const (
	numberPattern = `^[0-9]{1,9}(\.[0-9]{1,6})?$`
	sharePattern  = `^(100|[0-9]{1,2}(\.[0-9]{1,6})?)%$`
)

// UnmarshalYAML reads 1.5, 75% or 10s.
func (l *Level) UnmarshalYAML(n ast.Node) error {
	text, err := service.Scalar(n, "a threshold such as 1.5, 75% or 10s")
	if err != nil {
		return err
	}
	switch {
	case matches(numberPattern, text):
		value, err := strconv.ParseFloat(text, 64)
		*l = Level{value, Number}
		return err
	case matches(sharePattern, text):
		value, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
		*l = Level{value / 100, Percent}
		return err
	}
	if value, err := time.ParseDuration(text); err == nil && value >= 0 {
		*l = Level{value.Seconds(), Seconds}
		return nil
	}
	return service.ErrorAt(n, "%q is not a threshold; expected one such as 1.5, 75%% or 10s", text)
}

// MarshalYAML writes the level as it is read.
func (l Level) MarshalYAML() (any, error) {
	if l.Unit == Number {
		return l.Value, nil
	}
	return l.String(), nil
}

// String returns the level rounded to what people can tell apart.
func (l Level) String() string {
	round := func(f float64) string { return strconv.FormatFloat(math.Round(f*1e4)/1e4, 'f', -1, 64) }
	switch l.Unit {
	case Percent:
		return round(l.Value*100) + "%"
	case Seconds:
		return Duration(math.Round(l.Value * 1e9)).String()
	case Number:
		return round(l.Value)
	}
	return ""
}

// check wants a level above zero in the unit; it reports whether it is one.
func (l Level) check(p *service.Problems, path, key string, unit Unit) bool {
	switch {
	case l.Unit == "":
		p.Add(path, "the key %s is missing; expected %s", key, unit)
	case l.Unit != unit:
		p.Add(path+"."+key, "%v is not in the metric's unit; expected %s", l, unit)
	case l.Value <= 0:
		p.Add(path+"."+key, "%v is no threshold: nothing is below it; expected more", l)
	default:
		return true
	}
	return false
}
