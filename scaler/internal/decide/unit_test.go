package decide

import (
	"testing"
	"time"
)

func TestValuesAsPeopleReadThem(t *testing.T) {
	for _, c := range []struct {
		unit        Unit
		value, from float64
		want        string
	}{
		{Share, 0.75, 0.8, "75%"},
		{Share, 0.65004, 0.65, "65.004%"},
		{Share, 0.2999, 0.3, "29.99%"},
		{Share, 0.65, 0.65, "65%"},
		{Share, 0, 0.3, "0%"},
		{Number, 1234.6, 1, "1235"},
		{Number, 0.126, 1, "0.13"},
		{Number, 1000.2, 1000, "1000.2"},
		{Seconds, 0.0501, 0.05, "50.1ms"},
		{Seconds, 12.34, 1, "12.3s"},
		{Seconds, 1e-9, 0.05, "0ms"},
	} {
		if got := c.unit.apart(c.value, c.from); got != c.want {
			t.Errorf("%v beside %v is %s; want %s", c.value, c.from, got, c.want)
		}
	}
	for d, want := range map[time.Duration]string{
		3 * time.Minute: "3m", time.Hour: "1h", 90 * time.Minute: "1h30m", 61 * time.Second: "1m1s", 0: "0s", 45*time.Second + 600*time.Millisecond: "46s",
	} {
		if got := span(d); got != want {
			t.Errorf("%d is %s; want %s", d, got, want)
		}
	}
}
