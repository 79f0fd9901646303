package daemon

import (
	"testing"

	"farmhand/scaler/internal/provider"
)

// TestOthersTakeThePlaceOfFixedInstances for what another provider's would take live.
func TestOthersTakeThePlaceOfFixedInstances(t *testing.T) {
	const key = "parameters.buffer_pool"
	for _, fixed := range []bool{false, true} {
		l := &leader{
			fixed: fixed, wanted: map[string]provider.Configuration{"db": {key: "2GiB"}},
			instances: []provider.Instance{{Name: "db1", RoleName: "db", State: provider.Running, Configuration: provider.Configuration{key: "1GiB"}}},
		}
		if names, _ := l.outdated("db"); (len(names) == 1) != fixed {
			t.Errorf("fixed %v: others take the place of %v", fixed, names)
		}
	}
}
