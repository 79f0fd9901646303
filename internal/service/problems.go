package service

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Problem is one value that a configuration cannot have.
type Problem struct {
	Path    string // of the key, such as limits.connections or listen[0].mode
	Message string // what is wrong and what was expected
	Key     bool   // the key itself is wrong, whatever its value
}

// Problems is what a Validate method found; empty if all is well. Its methods
// are the checks that many keys have in common.
type Problems []Problem

// Add notes a problem with the key at path.
func (p *Problems) Add(path, format string, args ...any) {
	*p = append(*p, Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

// AddKey notes a problem with the name of the key at path.
func (p *Problems) AddKey(path, format string, args ...any) {
	*p = append(*p, Problem{Path: path, Message: fmt.Sprintf(format, args...), Key: true})
}

// Join notes all of others.
func (p *Problems) Join(others Problems) { *p = append(*p, others...) }

// Required wants a text that is not empty.
func (p *Problems) Required(path, value string) {
	if value == "" {
		p.Add(path, "it must not be empty")
	}
}

// OneOf wants one of the values allowed.
func (p *Problems) OneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.Add(path, "%q is not possible; expected %s", value, strings.Join(allowed, ", "))
	}
}

// Between wants low <= value <= high.
func (p *Problems) Between(path string, value, low, high int) {
	if value < low || value > high {
		p.Add(path, "%d is out of bounds; expected %d to %d", value, low, high)
	}
}

// DurationBetween wants low <= value <= high.
func (p *Problems) DurationBetween(path string, value, low, high Duration) {
	if value < low || value > high {
		p.Add(path, "%s is out of bounds; expected %s to %s", value, low, high)
	}
}

// SizeBetween wants low <= value <= high.
func (p *Problems) SizeBetween(path string, value, low, high Size) {
	if value < low || value > high {
		p.Add(path, "%s is out of bounds; expected %s to %s", value, low, high)
	}
}

// ListenAddress wants host:port to listen on; an empty host is every address of
// the machine, port 0 any free one.
func (p *Problems) ListenAddress(path, address string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		p.Add(path, "%q is not an address; expected host:port", address)
		return
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(number, 10) != port {
		p.Add(path, "%q is not a port; expected a number from 0 to 65535", port)
	}
	if strings.ContainsAny(host, "/ \t") {
		p.Add(path, "%q is not a host to listen on", host)
	}
}
