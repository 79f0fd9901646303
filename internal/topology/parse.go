package topology

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"farmhand/internal/farm"
)

// Version is the version of the file's format that this package reads and
// writes.
const Version = 1

// MaxSize is the largest topology file that is read or written, in bytes. A
// server takes about 150, so this is several thousand of them.
const MaxSize = 1 << 20

// Bounds of the attributes of one server.
const (
	maxAttributes     = 64
	maxAttributeValue = 256 // characters
)

// Parse reads a topology and checks the whole of it. Defaults are filled in: a
// replica without a state is serving, a server without a weight has
// [farm.DefaultWeight], and a list of no replicas is empty rather than nil. An
// error is of type [Problems].
func Parse(data []byte) (farm.Topology, error) {
	p := parser{data: data, addresses: map[string]string{}}
	if len(data) > MaxSize {
		p.refuse(MaxSize, "", fmt.Errorf("the file is larger than %d bytes", MaxSize))
		return farm.Topology{}, p.problems
	}
	root, offset, err := readDocument(data)
	if err != nil {
		p.refuse(offset, "", err)
		return farm.Topology{}, p.problems
	}
	topology := p.topology(root)
	if len(p.problems) > 0 {
		slices.SortStableFunc(p.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return farm.Topology{}, p.problems[:min(len(p.problems), maxProblems)]
	}
	return topology, nil
}

// parser turns nodes into a topology. It notes what is wrong and goes on, so
// that a person learns all of it in one go.
type parser struct {
	data      []byte
	problems  Problems
	addresses map[string]string // canonical address -> who has it
}

func (p *parser) refuse(offset int, path string, err error) {
	line, column := position(p.data, offset)
	p.problems = append(p.problems, Problem{line, column, path, err})
}

func (p *parser) refusef(n node, path, format string, args ...any) {
	p.refuse(n.offset, path, fmt.Errorf(format, args...))
}

// is reports whether n is of the kind wanted and complains if it is not.
func (p *parser) is(n node, path string, want kind) bool {
	if n.kind != want {
		p.refusef(n, path, "expected %s, found %s", want, n.kind)
	}
	return n.kind == want
}

// fields returns the members of the object n by key. A key that is in neither
// list is refused, and so is the lack of a required one.
func (p *parser) fields(n node, path string, required, optional []string) map[string]node {
	fields := make(map[string]node, len(n.members))
	for _, m := range n.members {
		if !slices.Contains(required, m.key) && !slices.Contains(optional, m.key) {
			p.refuse(m.offset, path, fmt.Errorf("unknown key %q; expected %s", m.key,
				strings.Join(slices.Concat(required, optional), ", ")))
			continue
		}
		fields[m.key] = m.value
	}
	for _, key := range required {
		if _, ok := fields[key]; !ok {
			p.refusef(n, path, "the key %q is missing", key)
		}
	}
	return fields
}

func (p *parser) topology(n node) farm.Topology {
	var t farm.Topology
	if !p.is(n, "", object) {
		return t
	}
	// A file of another version is judged by its version alone: what else it
	// says is not ours to call wrong.
	for _, m := range n.members {
		if m.key != "version" {
			continue
		}
		if m.value.kind != number || m.value.text != strconv.Itoa(Version) {
			p.refusef(m.value, "version", "expected %d, the version of the format that this program reads", Version)
			return t
		}
		t.Version = Version
	}
	for key, value := range p.fields(n, "", topologyRequired, topologyOptional) {
		switch key {
		case "$schema":
			p.is(value, key, text)
		case "written":
			t.Written = p.time(value, key)
		case "clusters":
			t.Clusters = p.clusters(value, key)
		}
	}
	return t
}

func (p *parser) time(n node, path string) time.Time {
	if !p.is(n, path, text) {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, n.text)
	if err != nil {
		p.refusef(n, path, "%q is not a time; expected one such as 2026-01-31T12:00:00Z", n.text)
	}
	return at
}

func (p *parser) clusters(n node, path string) map[string]farm.Cluster {
	if !p.is(n, path, object) {
		return nil
	}
	if len(n.members) == 0 {
		p.refusef(n, path, "expected at least one cluster")
	}
	clusters := make(map[string]farm.Cluster, len(n.members))
	for _, m := range n.members {
		if err := farm.CheckName(m.key); err != nil {
			p.refuse(m.offset, path, err)
			continue
		}
		clusters[m.key] = p.cluster(m.value, path+"."+m.key)
	}
	return clusters
}

func (p *parser) cluster(n node, path string) farm.Cluster {
	c := farm.Cluster{Replicas: []farm.Server{}}
	if !p.is(n, path, object) {
		return c
	}
	names := map[string]bool{}
	fields := p.fields(n, path, clusterRequired, clusterOptional)
	if epoch, ok := fields["epoch"]; ok {
		c.Epoch = farm.Epoch(p.whole(epoch, path+".epoch", 1, int64(farm.MaxEpoch)))
	}
	if primary, ok := fields["primary"]; ok && primary.kind != null {
		server := p.server(primary, path+".primary", farm.Primary, names)
		c.Primary = &server
	}
	if replicas, ok := fields["replicas"]; ok && p.is(replicas, path+".replicas", list) {
		for i, item := range replicas.items {
			c.Replicas = append(c.Replicas, p.server(item, fmt.Sprintf("%s.replicas[%d]", path, i), farm.Replica, names))
		}
	}
	return c
}

func (p *parser) server(n node, path string, role farm.Role, names map[string]bool) farm.Server {
	s := farm.Server{Weight: farm.DefaultWeight}
	if role == farm.Replica {
		s.State = farm.Serving
	}
	if !p.is(n, path, object) {
		return s
	}
	for key, value := range p.fields(n, path, serverRequired, serverOptional) {
		path := path + "." + key
		switch key {
		case "name":
			s.Name = p.name(value, path, names)
		case "address":
			s.Address = p.address(value, path)
		case "weight":
			if weight := p.whole(value, path, 0, farm.MaxWeight); weight > 0 {
				s.Weight = int(weight)
			}
		case "state":
			s.State = p.state(value, path, role)
		case "attributes":
			s.Attributes = p.attributes(value, path)
		}
	}
	return s
}

func (p *parser) whole(n node, path string, low, high int64) int64 {
	if n.kind == number {
		value, err := strconv.ParseInt(n.text, 10, 64)
		if err == nil && low <= value && value <= high {
			return value
		}
		p.refusef(n, path, "%s is not a whole number from %d to %d", n.text, low, high)
		return 0
	}
	p.refusef(n, path, "expected a whole number from %d to %d, found %s", low, high, n.kind)
	return 0
}

func (p *parser) name(n node, path string, names map[string]bool) string {
	if !p.is(n, path, text) {
		return ""
	}
	if err := farm.CheckName(n.text); err != nil {
		p.refuse(n.offset, path, err)
		return ""
	}
	if names[n.text] {
		p.refusef(n, path, "the cluster has another server named %q", n.text)
	}
	names[n.text] = true
	return n.text
}

// address also keeps one address from being two servers, in one cluster or in
// two: the second would count its load, its lag and its failures twice, or mix
// the data of two clusters.
func (p *parser) address(n node, path string) string {
	if !p.is(n, path, text) {
		return ""
	}
	canonical, err := farm.CanonicalAddress(n.text)
	if err != nil {
		p.refuse(n.offset, path, err)
		return ""
	}
	if other, taken := p.addresses[canonical]; taken {
		p.refusef(n, path, "%s is already the address of %s", n.text, other)
	}
	p.addresses[canonical] = strings.TrimSuffix(path, ".address")
	return n.text
}

func (p *parser) state(n node, path string, role farm.Role) farm.State {
	if role == farm.Primary {
		p.refusef(n, path, "a primary has no state; leave the key out")
		return ""
	}
	state := farm.State(n.text)
	if n.kind != text || !slices.Contains(farm.States(), state) {
		p.refuse(n.offset, path, errors.New(`expected "serving", "warming" or "draining"`))
	}
	return state
}

func (p *parser) attributes(n node, path string) map[string]string {
	if !p.is(n, path, object) || len(n.members) == 0 {
		return nil
	}
	if len(n.members) > maxAttributes {
		p.refusef(n, path, "%d attributes; expected at most %d", len(n.members), maxAttributes)
		return nil
	}
	attributes := make(map[string]string, len(n.members))
	for _, m := range n.members {
		if err := farm.CheckName(m.key); err != nil {
			p.refuse(m.offset, path, err)
			continue
		}
		if !p.is(m.value, path+"."+m.key, text) {
			continue
		}
		if utf8.RuneCountInString(m.value.text) > maxAttributeValue {
			p.refusef(m.value, path+"."+m.key, "the value is longer than %d characters", maxAttributeValue)
		}
		attributes[m.key] = m.value.text
	}
	return attributes
}

// The keys of the file's objects; docs/topology.schema.json says the same.
var (
	topologyRequired = []string{"version", "clusters"}
	topologyOptional = []string{"$schema", "written"}
	clusterRequired  = []string{"epoch", "primary"}
	clusterOptional  = []string{"replicas"}
	serverRequired   = []string{"name", "address"}
	serverOptional   = []string{"weight", "state", "attributes"}
)
