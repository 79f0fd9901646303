package farmfile

import (
	"fmt"
	"time"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/service"
)

// Day is a day of the week.
type Day string

var days = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

func (Day) choices() []string { return days }

// Window is a time that comes again every day or week.
type Window struct {
	Days []Day     `yaml:"days" is:"0..7" about:"the days on which it begins; none for every day"`
	From TimeOfDay `yaml:"from" about:"when it begins"`
	To   TimeOfDay `yaml:"to" about:"when it ends; on the day after if that is before from"`
}

func (w Window) String() string {
	on := "every day"
	if len(w.Days) > 0 {
		on = "on"
		for _, day := range w.Days {
			on += " " + string(day)
		}
	}
	return fmt.Sprintf("%v to %v %s", w.From, w.To, on)
}

func (w Window) check(p *service.Problems, path string) {
	if w.From == w.To {
		p.Add(path+".to", "from and to are both %v; a whole day is from 00:00 to 24:00", w.From)
	}
	if w.From == endOfDay {
		p.Add(path+".from", "%v is the end of a day; expected 00:00", w.From)
	}
	seen := map[Day]bool{}
	for i, day := range w.Days {
		if seen[day] {
			p.Add(fmt.Sprintf("%s.days[%d]", path, i), "%s is there already", day)
		}
		seen[day] = true
	}
}

// Schedule is a time in which a role has more servers.
type Schedule struct {
	Window  `yaml:",inline"`
	AtLeast int `yaml:"at_least" is:"1..100" about:"the least number of servers in that time"`
}

func (s Schedule) check(p *service.Problems, path string, r *Role) {
	s.Window.check(p, path)
	switch {
	case s.AtLeast < 1 || r.Count.Min == r.Count.Max: // which is said already
	case s.AtLeast <= r.Count.Min:
		p.Add(path+".at_least", "%d changes nothing: count has min %d", s.AtLeast, r.Count.Min)
	case s.AtLeast > r.Count.Max:
		p.Add(path+".at_least", "%d is above max %d of count", s.AtLeast, r.Count.Max)
	}
}

// TimeOfDay is a time on the clock, in minutes since midnight.
type TimeOfDay int

const endOfDay TimeOfDay = 24 * 60

// timePattern is HH:MM.
const timePattern = `^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$`

func (t TimeOfDay) String() string { return fmt.Sprintf("%02d:%02d", int(t)/60, int(t)%60) }

// UnmarshalYAML reads HH:MM.
func (t *TimeOfDay) UnmarshalYAML(n ast.Node) error {
	text, err := service.Scalar(n, "a time of day such as 08:30")
	if err != nil {
		return err
	}
	var hour, minute int
	if _, err := fmt.Sscanf(text, "%d:%d", &hour, &minute); err != nil || !matches(timePattern, text) {
		return service.ErrorAt(n, "%q is not a time of day; expected one such as 08:30, 00:00 to 24:00", text)
	}
	*t = TimeOfDay(hour*60 + minute)
	return nil
}

// MarshalYAML writes the time as it is read.
func (t TimeOfDay) MarshalYAML() (any, error) { return t.String(), nil }

// TimeZone is where the times of day are. It is found when the file is read, so
// that deciding by it reads nothing.
type TimeZone struct{ *time.Location }

// UnmarshalYAML reads the name of a time zone that this machine knows.
func (z *TimeZone) UnmarshalYAML(n ast.Node) error {
	const expected = "expected UTC or one such as Europe/Berlin"
	text, err := service.Scalar(n, "the name of a time zone such as UTC or Europe/Berlin")
	if err != nil {
		return err
	}
	if text == "" || text == "Local" { // which Go knows but no person would mean
		return service.ErrorAt(n, "%q is not a time zone; %s", text, expected)
	}
	location, err := time.LoadLocation(text)
	if err != nil {
		return service.ErrorAt(n, "this machine knows no time zone %q; %s", text, expected)
	}
	*z = TimeZone{location}
	return nil
}

// MarshalYAML writes the time zone as it is read.
func (z TimeZone) MarshalYAML() (any, error) { return z.String(), nil }
