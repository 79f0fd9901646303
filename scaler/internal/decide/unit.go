package decide

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Unit is what a metric is measured in.
type Unit int

// The units.
const (
	Number  Unit = iota + 1
	Share        // 0.75 is 75%
	Seconds      // 0.5 is 500ms
)

// text is the value with as many digits as people can tell apart.
func (u Unit) text(value float64) string { return short(value*u.scale(value)) + u.suffix(value) }

// scale and suffix are how a value is written: times scale, with the suffix.
func (u Unit) scale(value float64) float64 {
	switch {
	case u == Share:
		return 100
	case u == Seconds && value < 1:
		return 1000
	}
	return 1
}

func (u Unit) suffix(value float64) string {
	switch {
	case u == Share:
		return "%"
	case u == Seconds && value < 1:
		return "ms"
	case u == Seconds:
		return "s"
	}
	return ""
}

// apart is the value with as many more digits as tell it from the thresholds.
func (u Unit) apart(value float64, thresholds ...float64) string {
	text := u.text(value)
	for digits := 4; digits <= 9; digits++ {
		same := false
		for _, t := range thresholds {
			same = same || value != t && text == u.text(t)
		}
		if !same {
			break
		}
		factor := math.Pow(10, float64(digits)-math.Ceil(math.Log10(value*u.scale(value))))
		text = strconv.FormatFloat(math.Round(value*u.scale(value)*factor)/factor, 'f', -1, 64) + u.suffix(value)
	}
	return text
}

// short rounds to three digits, but never to fewer than a whole number has.
func short(value float64) string {
	if math.Abs(value) >= 100 {
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
	text := strconv.FormatFloat(value, 'f', 2, 64)
	if math.Abs(value) >= 10 {
		text = strconv.FormatFloat(value, 'f', 1, 64)
	}
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// span is a duration as a person writes it: 1h30m, not 1h30m0s.
func span(d time.Duration) string {
	text := d.Round(time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// servers is a number of servers.
func servers(n int) string {
	if n == 1 {
		return "1 server"
	}
	return strconv.Itoa(n) + " servers"
}
