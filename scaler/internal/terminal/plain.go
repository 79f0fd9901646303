// Package terminal makes text fit for a person's terminal.
package terminal

import (
	"strconv"
	"strings"
)

// Plain makes what a node wrote safe to be shown: no control character is left, and
// it is one line.
func Plain(text string) string {
	quoted := strconv.Quote(text)
	quoted = quoted[1 : len(quoted)-1]
	return strings.ReplaceAll(quoted, `\"`, `"`)
}
