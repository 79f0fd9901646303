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
func (u Unit) text(value float64) string {
	switch u {
	case Share:
		return short(value*100) + "%"
	case Seconds:
		if value < 1 {
			return short(value*1000) + "ms"
		}
		return short(value) + "s"
	}
	return short(value)
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
