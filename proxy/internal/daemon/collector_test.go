package daemon

import "testing"

func TestPaceOfTheCollector(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 4 << 20: 400, 5 << 20: 400, 10 << 20: 200, 20 << 20: 100, 1 << 30: 30} {
		if got := pace(live); got != want {
			t.Errorf("live heap of %d MiB: %d %%, want %d", live>>20, got, want)
		}
	}
}
