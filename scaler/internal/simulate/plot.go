package simulate

import (
	"fmt"
	"html"
	"io"
	"time"

	"farmhand/scaler/internal/farmfile"
)

// The plot's measures, in pixels.
const (
	plotWidth  = 960
	left       = 76 // of the axes: room for the numbers
	right      = 28
	inner      = plotWidth - left - right
	titleSpace = 56
	loadHeight = 190
	between    = 44 // with a legend
	countSpace = 100
	axisSpace  = 58
	roleHeight = titleSpace + loadHeight + between + countSpace + axisSpace
	columns    = inner // more points than pixels show nothing more
)

// plotStyle has its colours twice, for a light and a dark background, told apart
// by lightness too.
const plotStyle = `
.farmhand text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #1f2328; }
.farmhand .title { font-size: 15px; font-weight: 600; }
.farmhand .paper { fill: #ffffff; }
.farmhand .grid { stroke: #d8dee4; stroke-width: 1; }
.farmhand .axis { stroke: #6e7781; stroke-width: 1; }
.farmhand path { fill: none; stroke-width: 1.8; }
.farmhand .load { stroke: #0969da; }
.farmhand .capacity { stroke: #1a7f37; stroke-dasharray: 7 3; }
.farmhand .servers { stroke: #57606a; fill: #57606a; fill-opacity: 0.15; stroke-width: 1; }
.farmhand .ready { stroke: #1a7f37; }
.farmhand .fixed { stroke: #8250df; stroke-dasharray: 3 3; }
.farmhand .over { fill: #cf222e; fill-opacity: 0.35; stroke: #cf222e; stroke-width: 1; }
@media (prefers-color-scheme: dark) {
.farmhand text { fill: #e6edf3; }
.farmhand .paper { fill: #0d1117; }
.farmhand .grid { stroke: #30363d; }
.farmhand .axis { stroke: #8b949e; }
.farmhand .load { stroke: #58a6ff; }
.farmhand .capacity, .farmhand .ready { stroke: #3fb950; }
.farmhand .servers { stroke: #8b949e; fill: #8b949e; }
.farmhand .fixed { stroke: #bc8cff; }
.farmhand .over { fill: #ff7b72; stroke: #ff7b72; }
}
`

// SVG writes the plot of a replay as an image of its own.
func (r *Result) SVG(w io.Writer, title string) error {
	_, err := io.WriteString(w, r.svg(title))
	return err
}

// HTML writes it as a page that needs nothing else.
func (r *Result) HTML(w io.Writer, title string) error {
	_, err := fmt.Fprintf(w, `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>%s</title>
<style>
:root { color-scheme: light dark; }
body { margin: 1em auto; max-width: %dpx; background: #ffffff; }
svg { width: 100%%; height: auto; }
@media (prefers-color-scheme: dark) { body { background: #0d1117; } }
</style>
%s</html>
`, html.EscapeString(title), plotWidth, r.svg(title))
	return err
}

func (r *Result) svg(title string) string {
	c := &canvas{}
	height := roleHeight * len(r.Roles)
	c.add(`<svg class="farmhand" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img">`, plotWidth, height)
	c.add(`<title>%s</title>`, html.EscapeString(title))
	c.add(`<style>%s</style>`, plotStyle)
	c.add(`<rect class="paper" width="%d" height="%d"/>`, plotWidth, height)
	for i := range r.Roles {
		r.drawRole(c, &r.Roles[i], i*roleHeight)
	}
	c.add("</svg>")
	return c.String()
}

func (r *Result) drawRole(c *canvas, role *RoleResult, top int) {
	points := thin(role.Points)
	most := 0.0
	for _, p := range points {
		most = max(most, p.Load, p.Capacity)
	}
	load := panel{from: r.From, to: r.To, top: float64(top + titleSpace), height: loadHeight, most: most * 1.05}
	count := panel{from: r.From, to: r.To, top: load.top + loadHeight + between, height: countSpace, most: float64(max(role.Most, role.Count)) * 1.1}

	c.add(`<text class="title" x="%d" y="%d">%s</text>`, left, top+20, html.EscapeString(role.Name))
	c.legend(load.top-14, []entry{
		{"load", fmt.Sprintf("load, %s per second", role.Unit)},
		{"capacity", "what the ready servers can do of it"},
		{"over", "overloaded, " + spanOf(role.Fleet.Overloaded)},
	})
	c.legend(count.top-14, []entry{
		{"servers", "servers that are paid for"},
		{"ready", "ready"},
		{"fixed", "fleet of a fixed size"},
	})
	c.frame(&load, role.Unit+" per second", niceStep(load.most, 4))
	c.frame(&count, "servers", max(1, niceStep(count.most, 4)))
	c.hours(&load, &count, r.From.Location())
	for _, from := range overloads(points) {
		x := load.x(points[from[0]].At)
		c.add(`<rect class="over" x="%.1f" y="%.1f" width="%.1f" height="%d"><title>overloaded from %s</title></rect>`,
			x, load.top, max(load.x(points[from[1]].At)-x, 1.5), loadHeight, points[from[0]].At.Format("15:04:05"))
	}
	c.steps("capacity", &load, points, func(p *Point) float64 { return p.Capacity })
	c.line("load", &load, points, func(p *Point) float64 { return p.Load })
	c.area("servers", &count, points, func(p *Point) float64 { return float64(p.Servers) })
	c.steps("ready", &count, points, func(p *Point) float64 { return float64(p.Ready) })
	c.steps("fixed", &count, points, func(*Point) float64 { return float64(role.Count) })
}

// thin leaves as many points as the plot has columns: of those that share one the
// most load and the least that could be done about it.
func thin(points []Point) []Point {
	size := (len(points) + columns - 1) / columns
	var list []Point
	for i := 0; i < len(points); i += size {
		p := points[i]
		for _, q := range points[i:min(i+size, len(points))] {
			if q.Load-q.Capacity > p.Load-p.Capacity {
				p.Load, p.Capacity = q.Load, q.Capacity
			}
			p.Servers, p.Ready = max(p.Servers, q.Servers), min(p.Ready, q.Ready)
		}
		list = append(list, p)
	}
	return list
}

// overloads are the beginnings and the ends of what is to be marked.
func overloads(points []Point) [][2]int {
	var list [][2]int
	for i := 0; i < len(points); i++ {
		from := i
		for i < len(points) && points[i].overloaded() {
			i++
		}
		if i > from {
			list = append(list, [2]int{from, min(i, len(points)-1)})
		}
	}
	return list
}

func spanOf(seconds float64) string {
	return farmfile.Duration(time.Duration(seconds * float64(time.Second)).Round(time.Second)).String()
}
