package differential

import (
	"fmt"
	"testing"
)

func TestASessionIsAFunctionOfSeedAndNumber(t *testing.T) {
	for index := range uint64(50) {
		a, b := generate(7, index, "app_d0"), generate(7, index, "app_d0")
		if fmt.Sprint(a.steps) != fmt.Sprint(b.steps) || a.scene != b.scene {
			t.Fatalf("session %d is another the second time", index)
		}
	}
}

func TestEveryAlternativeExpands(t *testing.T) {
	g := &generator{r: newRand(1, 1), schema: "app_d0"}
	for name, r := range grammar() {
		if len(r.alternatives) == 0 {
			t.Errorf("rule %s has no alternatives", name)
		}
		for _, text := range r.alternatives {
			for range 20 {
				if s := g.expand(text); len(s) > 20_000 {
					t.Errorf("rule %s makes a text of %d bytes", name, len(s))
				}
			}
		}
	}
}
