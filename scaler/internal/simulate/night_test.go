package simulate

import (
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/campaign-night.csv anew")

const nightFile = "../../../testdata/campaign-night.csv"

// night makes up the trace of a campaign night: a shop's day, and a newsletter at
// six in the evening that three times as many as usual follow within minutes, and
// some more at nine when it is on television.
func night() string {
	var b strings.Builder
	b.WriteString(`# A campaign night of a shop, from noon to noon. It is MADE UP, not measured: a
# daily curve, a newsletter at 18:00, a mention on television at 21:00, and a ripple.
# go test ./scaler/internal/simulate -run Night -update writes it.
`)
	b.WriteString("time,db.reads,db.writes,web.requests\n")
	zone := time.FixedZone("", 3600)
	begin := time.Date(2026, 11, 26, 12, 0, 0, 0, zone)
	for minute := 0; minute <= 24*60; minute += 2 {
		hour := float64(minute) / 60
		// Most at half past eight in the evening, least before five in the morning.
		day := 0.55 + 0.45*math.Cos((hour-8.5)/24*2*math.Pi)
		visitors := 220 * (day*day + 0.06)
		visitors *= 1 + surge(hour-6, 0.08, 1.1)*2.4 + surge(hour-9, 0.03, 0.35)*1.3
		visitors *= 1 + 0.03*math.Sin(float64(minute)/7) + 0.02*math.Sin(float64(minute)/2.3)
		requests := visitors * 9
		_, _ = fmt.Fprintf(&b, "%s,%.0f,%.0f,%.0f\n", begin.Add(time.Duration(minute)*time.Minute).Format(time.RFC3339),
			requests*4.2, requests*0.11, requests)
	}
	return b.String()
}

// surge goes from 0 to about 1 in rise hours and away again in fall hours.
func surge(hour, rise, fall float64) float64 {
	if hour < 0 {
		return 0
	}
	return (1 - math.Exp(-hour/rise)) * math.Exp(-hour/fall)
}

// TestNightIsAsItIsMade: the trace that ships is the one that the comment says.
func TestNightIsAsItIsMade(t *testing.T) {
	if *update {
		if err := os.WriteFile(nightFile, []byte(night()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(nightFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != night() {
		t.Error("testdata/campaign-night.csv is not what night() makes; -update writes it anew")
	}
}
