package simulate

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// canvas writes SVG.
type canvas struct{ strings.Builder }

func (c *canvas) add(format string, values ...any) {
	_, _ = fmt.Fprintf(c, format+"\n", values...) // to memory
}

// panel is a part of the plot with axes of its own.
type panel struct {
	from, to    time.Time
	top, height float64
	most        float64 // at its upper edge
}

func (p *panel) x(at time.Time) float64 {
	return left + inner*float64(at.Sub(p.from))/float64(p.to.Sub(p.from))
}

func (p *panel) y(value float64) float64 {
	if p.most == 0 {
		return p.top + p.height
	}
	return p.top + p.height*(1-value/p.most)
}

// entry is a line of the legend.
type entry struct{ class, text string }

func (c *canvas) legend(y float64, entries []entry) {
	x := float64(left)
	for _, e := range entries {
		switch e.class {
		case "over", "servers":
			c.add(`<rect class="%s" x="%.0f" y="%.0f" width="18" height="10"/>`, e.class, x, y-9)
		default:
			c.add(`<path class="%s" d="M%.0f %.0fh18"/>`, e.class, x, y-4)
		}
		c.add(`<text x="%.0f" y="%.0f">%s</text>`, x+24, y, e.text)
		x += 24 + 7*float64(len(e.text)) + 14
	}
}

// frame draws the axes of a panel, with a line at every step.
func (c *canvas) frame(p *panel, label string, step float64) {
	for value := 0.0; value <= p.most; value += step {
		y := p.y(value)
		c.add(`<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, left, left+inner, y, y)
		c.add(`<text x="%d" y="%.1f" text-anchor="end">%s</text>`, left-6, y+4, thousands(value))
		if step <= 0 {
			break
		}
	}
	c.add(`<line class="axis" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, left, left, p.top, p.top+p.height)
	c.add(`<line class="axis" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, left, left+inner, p.top+p.height, p.top+p.height)
	c.add(`<text transform="translate(14 %.1f) rotate(-90)" text-anchor="middle">%s</text>`, p.top+p.height/2, label)
}

// hours draws the axis of time that two panels share.
func (c *canvas) hours(upper, lower *panel, zone *time.Location) {
	bottom := lower.top + lower.height
	step := 24 * time.Hour
	for _, s := range []time.Duration{time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour} {
		if upper.to.Sub(upper.from)/s <= 14 {
			step = s
			break
		}
	}
	for step > 24*time.Hour/2 && upper.to.Sub(upper.from)/step > 14 {
		step += 24 * time.Hour
	}
	year, month, day := upper.from.Date()
	dated := 0
	for at := time.Date(year, month, day, 0, 0, 0, 0, zone); !at.After(upper.to); at = after(at, step) {
		if at.Before(upper.from) {
			continue
		}
		x := upper.x(at)
		c.add(`<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, x, x, upper.top, upper.top+upper.height)
		c.add(`<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, x, x, lower.top, bottom)
		c.add(`<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, x, bottom+16, at.Format("15:04"))
		if at.YearDay() != dated { // the first of each day
			c.add(`<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, x, bottom+31, at.Format("2 Jan"))
			dated = at.YearDay()
		}
	}
	c.add(`<text x="%d" y="%.1f" text-anchor="middle">time, %s</text>`, left+inner/2, bottom+46, upper.from.Format("MST"))
}

// after adds a step; days are those of the calendar.
func after(at time.Time, step time.Duration) time.Time {
	if days := int(step / (24 * time.Hour)); days > 0 {
		return at.AddDate(0, 0, days)
	}
	return at.Add(step)
}

// line joins the points.
func (c *canvas) line(class string, p *panel, points []Point, of func(*Point) float64) {
	var d strings.Builder
	for i := range points {
		command := "L"
		if i == 0 {
			command = "M"
		}
		_, _ = fmt.Fprintf(&d, "%s%.1f %.1f", command, p.x(points[i].At), p.y(of(&points[i])))
	}
	c.add(`<path class="%s" d="%s"/>`, class, d.String())
}

// steps holds each value until the next.
func (c *canvas) steps(class string, p *panel, points []Point, of func(*Point) float64) {
	c.add(`<path class="%s" d="%s"/>`, class, stepPath(p, points, of))
}

// area is steps with what is below them filled.
func (c *canvas) area(class string, p *panel, points []Point, of func(*Point) float64) {
	c.add(`<path class="%s" d="%sV%.1fH%dZ"/>`, class, stepPath(p, points, of), p.y(0), left)
}

func stepPath(p *panel, points []Point, of func(*Point) float64) string {
	var d strings.Builder
	last := math.NaN()
	for i := range points {
		switch y := p.y(of(&points[i])); {
		case i == 0:
			_, _ = fmt.Fprintf(&d, "M%.1f %.1f", p.x(points[i].At), y)
			last = y
		case y != last:
			_, _ = fmt.Fprintf(&d, "H%.1fV%.1f", p.x(points[i].At), y)
			last = y
		}
	}
	_, _ = fmt.Fprintf(&d, "H%d", left+inner)
	return d.String()
}

// niceStep divides what reaches up to most into about n steps of 1, 2 or 5.
func niceStep(most float64, n int) float64 {
	if most <= 0 {
		return 0
	}
	step := math.Pow(10, math.Floor(math.Log10(most/float64(n))))
	for _, factor := range []float64{1, 2, 5, 10} {
		if most/(step*factor) <= float64(n)+1 {
			return step * factor
		}
	}
	return step * 10
}

func thousands(value float64) string {
	text := strconv.FormatFloat(value, 'f', -1, 64)
	if value < 10_000 {
		return text
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + " " + text[i:]
	}
	return text
}
