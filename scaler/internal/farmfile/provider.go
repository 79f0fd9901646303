package farmfile

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/service"
)

// ProviderKind is a kind of provider.
type ProviderKind string

// LocalKind runs every server as a process on this machine.
const LocalKind ProviderKind = "local"

// providerKinds are the kinds of provider that there are.
var providerKinds = map[ProviderKind]struct {
	about string
	// check says what the provider cannot give to the role at path.
	check func(p *service.Problems, path string, role *Role)
}{
	LocalKind: {"every server is a process on this machine, at a loopback address of its own", checkLocalRole},
}

func (ProviderKind) choices() []string { return names(providerKinds) }

func (ProviderKind) about(name string) string { return providerKinds[ProviderKind(name)].about }

// Provider is who launches the farm's servers.
type Provider struct {
	Kind       ProviderKind       `yaml:"kind" about:"the kind of provider"`
	Parameters ProviderParameters `yaml:"parameters" about:"what that kind of provider needs to know"`
}

// ProviderParameters are those of the provider's kind; the others are nil.
type ProviderParameters struct{ Local *Local }

// Local is a farm on this machine.
type Local struct {
	Directory    string  `yaml:"directory" is:"text" about:"where the data is; relative to the directory of this file"`
	FirstAddress Address `yaml:"first_address" about:"loopback address of the first server; the others get those after it"`
	Launcher     string  `yaml:"launcher" is:"path?" about:"a program that starts each server, in a namespace or control group of its own, say: LAUNCHER NAME ADDRESS PROGRAM ARGUMENT… and then becomes that program; the addresses need not be loopback ones then; \"\" for none"`
}

// UnmarshalYAML reads the provider over the defaults of its kind. One whose kind is
// not known has nothing else that could be judged.
func (v *Provider) UnmarshalYAML(n ast.Node) error {
	kind, err := kindOf(n)
	if err != nil {
		return err
	}
	if _, ok := providerKinds[ProviderKind(kind)]; !ok && kind != "" {
		*v = Provider{Kind: ProviderKind(kind)}
		return nil
	}
	type plain Provider // without this method
	return over(n, (*plain)(v))
}

// UnmarshalYAML reads the parameters over those that are set.
func (p *ProviderParameters) UnmarshalYAML(n ast.Node) error { return over(n, p.Local) }

// MarshalYAML writes the parameters as they are read.
func (p ProviderParameters) MarshalYAML() (any, error) { return p.Local, nil }

func (v *Provider) check(p *service.Problems, f *Farm) {
	kind, ok := providerKinds[v.Kind]
	if !ok {
		return // as checkKeys says
	}
	if l := v.Parameters.Local; l != nil && !l.FirstAddress.IsLoopback() && l.Launcher == "" {
		p.Add("provider.parameters.first_address", "%v is not a loopback address; expected one such as 127.0.10.1, or a launcher", l.FirstAddress)
	}
	for name, role := range sorted(f.Roles) {
		kind.check(p, "roles."+name, &role)
	}
}

// localImage and localSize are the only ones that the local provider has: the
// programs and the resources of the machine that it runs on.
const (
	localImage = "host"
	localSize  = "host"
)

func checkLocalRole(p *service.Problems, path string, r *Role) {
	if _, ok := roleKinds[r.Kind]; !ok {
		return
	}
	if r.Image != localImage {
		p.Add(path+".image", "the local provider has no image %q; expected %s, the programs of this machine", r.Image, localImage)
	}
	if r.Size != localSize {
		p.Add(path+".size", "the local provider has no size %q; expected %s, this machine", r.Size, localSize)
	}
}

// Address is an IP address.
type Address struct{ netip.Addr }

// UnmarshalYAML reads the address.
func (a *Address) UnmarshalYAML(n ast.Node) error {
	text, err := service.Scalar(n, "an IP address")
	if err != nil {
		return err
	}
	if a.Addr, err = netip.ParseAddr(text); err != nil {
		return service.ErrorAt(n, "%q is not an IP address", text)
	}
	return nil
}

// MarshalYAML writes the address as it is read.
func (a Address) MarshalYAML() (any, error) { return a.String(), nil }

// names are the keys of a table of kinds, in order.
func names[K ~string, V any](kinds map[K]V) []string {
	list := make([]string, 0, len(kinds))
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		list = append(list, string(kind))
	}
	return list
}
