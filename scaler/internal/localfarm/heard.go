package localfarm

import (
	"slices"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/registry"
)

// longest is how much is told of an entry, in characters; a server's error may be
// longer.
const longest = 160

// heard is what who watches the farm is told of an entry of the journal; empty for
// nothing. The whole journal shows scaler events.
func heard(e registry.Entry) string {
	event := slices.Contains(farm.EventKinds(), farm.EventKind(e.Kind))
	switch {
	case e.Fields[registry.Minor] != "":
		return ""
	case event && !e.Node:
		return "" // the decision that it comes of was told
	case e.Node && e.Kind == string(farm.HostDown):
		return "" // it speaks of itself: it is there again
	case e.Kind == "leader":
		return strings.TrimPrefix(e.Who, "scaler ") + " leads"
	case e.Kind == "node-joined":
		return e.Fields["node"] + " has joined the farm"
	}
	if text := []rune(e.Text); len(text) > longest {
		return string(text[:longest]) + "…"
	}
	return e.Text
}
