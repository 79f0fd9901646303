package simulate

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"farmhand/scaler/internal/farmfile"
)

func nightResult(t *testing.T) *Result {
	t.Helper()
	trace, err := ReadFile(nightFile)
	if err != nil {
		t.Fatal(err)
	}
	f, err := farmfile.Load("../../../testdata/campaign-farm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	a := assumptions("db", "web")
	a.Roles["db"], a.Roles["web"] = Assumption{2500, 0.4}, Assumption{700, 0.1}
	return run(t, f, trace, a)
}

// wellFormed reads all of the XML and returns its texts.
func wellFormed(t *testing.T, text string) string {
	t.Helper()
	var texts strings.Builder
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := token.(xml.CharData); ok {
			texts.Write(data)
		}
	}
}

func TestPlotOfTheNight(t *testing.T) {
	r := nightResult(t)
	var svg, page strings.Builder
	if err := r.SVG(&svg, `a <b> & "c"`); err != nil {
		t.Fatal(err)
	}
	if err := r.HTML(&page, `a <b> & "c"`); err != nil {
		t.Fatal(err)
	}
	texts := wellFormed(t, svg.String())
	for _, want := range []string{`a <b> & "c"`, "reads per second", "requests per second", "overloaded, " + farmfile.Duration(r.Roles[0].Fleet.Overloaded*1e9).String(), "time, CET", "18:00", "27 Nov", "20 000", "fleet of a fixed size"} {
		if !strings.Contains(texts, want) {
			t.Errorf("the plot does not say %q", want)
		}
	}
	marks := 0
	for _, role := range r.Roles {
		over := false
		for _, p := range role.Points {
			if now := p.overloaded(); now != over {
				if over = now; now {
					marks++
				}
			}
		}
	}
	if got := strings.Count(svg.String(), "<title>overloaded from "); got != marks || marks == 0 {
		t.Errorf("%d marks of %d overloads", got, marks)
	}
	for name, text := range map[string]string{"svg": svg.String(), "html": page.String()} {
		if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") || strings.Contains(text, "%!") {
			t.Errorf("%s has something that is no number", name)
		}
		if !strings.Contains(text, "prefers-color-scheme: dark") {
			t.Errorf("%s has no colours for the dark", name)
		}
		if rest := strings.ReplaceAll(text, `xmlns="http://www.w3.org/2000/svg"`, ""); strings.Contains(rest, "//") || strings.Contains(rest, "<script") {
			t.Errorf("%s needs something from outside", name)
		}
	}
	if !strings.Contains(page.String(), "<title>a &lt;b&gt; &amp; &#34;c&#34;</title>") {
		t.Error("the page's title is not what it was")
	}
}

// TestPlotOfAnything: of no load, of a minute and of a month; what a plot has of
// points is bounded, and no overload is lost by that.
func TestPlotOfAnything(t *testing.T) {
	f := farmOf(t, scaled)
	begin := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	long := &Trace{columns: map[string][]float64{"db.reads": {}}}
	for i := range 31 * 24 * 2 {
		load := 100.0
		if i == 700 {
			load = 2300
		}
		long.Times = append(long.Times, begin.Add(time.Duration(i)*30*time.Minute))
		long.columns["db.reads"] = append(long.columns["db.reads"], load)
	}
	for name, trace := range map[string]*Trace{"none": rows(t, "db.reads", "0", "0"), "short": rows(t, "db.reads", "1", "2"), "long": long} {
		r := run(t, f, trace, assumptions("db"))
		var svg strings.Builder
		if err := r.SVG(&svg, name); err != nil {
			t.Fatal(err)
		}
		wellFormed(t, svg.String())
		if strings.Contains(svg.String(), "NaN") || svg.Len() > 100_000 {
			t.Errorf("%s: %d bytes\n%.2000s", name, svg.Len(), svg.String())
		}
		if r.Roles[0].Fleet.Overloaded > 0 != strings.Contains(svg.String(), "<title>overloaded from ") {
			t.Errorf("%s: overloaded for %v s, which the plot does not show", name, r.Roles[0].Fleet.Overloaded)
		}
		if labels := strings.Count(svg.String(), `text-anchor="middle"`); labels > 60 {
			t.Errorf("%s: %d labels", name, labels)
		}
	}
}

func TestNumbersOfAnAxis(t *testing.T) {
	for value, want := range map[float64]string{0: "0", 0.5: "0.5", 2000: "2000", 20_000: "20 000", 1_500_000: "1 500 000"} {
		if got := thousands(value); got != want {
			t.Errorf("%v is %s; want %s", value, got, want)
		}
	}
}

func TestStepsOfAnAxis(t *testing.T) {
	for most, want := range map[float64]float64{0: 0, 1: 0.2, 3: 1, 8.4: 2, 23: 5, 26_000: 10_000, 8400: 2000, 0.07: 0.02} {
		if got := niceStep(most, 4); got != want {
			t.Errorf("up to %v: %v; want %v", most, got, want)
		}
	}
}

// TestDaysBeginAtMidnight: also after the clocks were changed.
func TestDaysBeginAtMidnight(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 10, 24, 0, 0, 0, 0, zone) // the day before
	if two := after(after(at, 24*time.Hour), 48*time.Hour); two.Hour() != 0 || two.Day() != 27 {
		t.Errorf("got %v", two)
	}
	if got := after(at, time.Hour); got.Sub(at) != time.Hour {
		t.Errorf("got %v", got)
	}
}
