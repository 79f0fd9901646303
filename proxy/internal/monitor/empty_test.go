package monitor

import (
	"testing"

	"farmhand/internal/gtid"
)

func TestHistoryOfAFarmInWhichNothingWasWritten(t *testing.T) {
	var h history
	if !h.addEmpty(at(1)) || !h.addEmpty(at(2)) {
		t.Error("an empty primary does not continue")
	}
	if since, ok := h.fresh(gtid.Position{}); !ok || !since.Equal(at(2)) {
		t.Errorf("a replica of an empty primary is fresh up to %v, %v", since, ok)
	}
	if !h.add(position(t, "0-1-1"), at(3)) {
		t.Error("the first write does not continue")
	}
	if since, ok := h.fresh(gtid.Position{}); !ok || !since.Equal(at(2)) {
		t.Errorf("a replica that lacks the first write is fresh up to %v, %v", since, ok)
	}
	if since, ok := h.fresh(position(t, "0-1-1")); !ok || !since.Equal(at(3)) {
		t.Errorf("a replica that has it is fresh up to %v, %v", since, ok)
	}
	if h.addEmpty(at(4)) {
		t.Error("a primary that was reset continues")
	}
}
