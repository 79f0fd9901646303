package share

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"

	"farmhand/internal/farm"
)

// HoldersTemplate is of the file by which a door knows whom to lead to: the members of the role %q, a line each.
const HoldersTemplate = `{{range members %q}}{{if .Address}}{{.Name}} {{.Address}}
{{end}}{{end}}`

// MembersTemplate is of the file by which a gate knows the farm's members.
const MembersTemplate = "{{range .Hosts}}{{.Name}}\n{{end}}"

// holder is a node that gives the directory, or is to.
type holder struct{ name, address string }

// Bounds of the file.
const (
	maxHolders     = 100
	maxHoldersFile = 64 << 10
)

func parseHolders(text []byte) ([]holder, error) {
	if len(text) > maxHoldersFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxHoldersFile)
	}
	var list []holder
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 || len(list) == maxHolders {
			return nil, fmt.Errorf("line %d: expected a node's name and its host:port, of %d nodes at most", n, maxHolders)
		}
		h := holder{fields[0], fields[1]}
		if err := farm.CheckName(h.name); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if err := farm.CheckAddress(h.address); err != nil || strings.HasPrefix(h.address, "/") {
			return nil, fmt.Errorf("line %d: %q is not a host:port", n, h.address)
		}
		list = append(list, h)
	}
	return list, lines.Err()
}
