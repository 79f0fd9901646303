package volume_test

import (
	"testing"

	"farmhand/scaler/internal/volume"
	"farmhand/scaler/internal/volume/volumetest"
)

func TestVolumes(t *testing.T) {
	for sort := range specs {
		t.Run(sort, func(t *testing.T) {
			s, o := need(t, sort), options(t)
			volumetest.Contract(t, func() volume.Store { return volume.NewLocal(o) }, s)
		})
	}
}
