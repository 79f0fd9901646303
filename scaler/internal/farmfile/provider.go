package farmfile

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
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
	// check says what is wrong with the parameters that their keys one by one do not show.
	check func(p *service.Problems, f *Farm)
	// checkRole says what the provider cannot give to the role at path.
	checkRole func(p *service.Problems, path string, role *Role)
}{
	LocalKind: {"every server is a process on this machine, at a loopback address of its own", checkLocal, checkLocalRole},
	AWSKind:   {"every server is an instance of Amazon EC2 (docs/AWS.md)", checkAWS, checkAWSRole},
}

func (ProviderKind) choices() []string { return names(providerKinds) }

func (ProviderKind) about(name string) string { return providerKinds[ProviderKind(name)].about }

// Provider is who launches the farm's servers.
type Provider struct {
	Kind       ProviderKind       `yaml:"kind" about:"the kind of provider"`
	Parameters ProviderParameters `yaml:"parameters" about:"what that kind of provider needs to know"`
}

// ProviderParameters are those of the provider's kind; the others are nil.
type ProviderParameters struct {
	Local *Local
	AWS   *AWS
}

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
	if kind != "" && ProviderKind(kind) != v.Kind {
		usual, ok := defaults().providers[ProviderKind(kind)]
		if !ok {
			*v = Provider{Kind: ProviderKind(kind)}
			return nil
		}
		*v = usual
	}
	type plain Provider // without this method
	return over(n, (*plain)(v))
}

// UnmarshalYAML reads the parameters over those that are set.
func (p *ProviderParameters) UnmarshalYAML(n ast.Node) error { return over(n, p.ofKind()) }

// MarshalYAML writes the parameters as they are read.
func (p ProviderParameters) MarshalYAML() (any, error) { return p.ofKind(), nil }

func (p ProviderParameters) ofKind() any {
	if p.AWS != nil {
		return p.AWS
	}
	return p.Local
}

func (v *Provider) check(p *service.Problems, f *Farm) {
	kind, ok := providerKinds[v.Kind]
	if !ok {
		return // as checkKeys says
	}
	kind.check(p, f)
	for name, role := range sorted(f.Roles) {
		kind.checkRole(p, "roles."+name, &role)
	}
}

func checkLocal(p *service.Problems, f *Farm) {
	if l := f.Provider.Parameters.Local; !l.FirstAddress.IsLoopback() && l.Launcher == "" {
		p.Add("provider.parameters.first_address", "%v is not a loopback address; expected one such as 127.0.10.1, or a launcher", l.FirstAddress)
	}
}

// HostImage and localSize are the programs and the resources of the machine that the
// local provider runs on.
const (
	HostImage = "host"
	localSize = "host"
)

// ImageName is the form of the name of an image that the provider made of an instance: a
// name and a time. Whether there is one of that name, the local provider says when an
// instance is launched from it.
var ImageName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}-[0-9]{8}-[0-9]{6}$`)

func checkLocalRole(p *service.Problems, path string, r *Role) {
	if _, ok := roleKinds[r.Kind]; !ok {
		return
	}
	switch image := r.Image; {
	case image == HostImage:
	case !ImageName.MatchString(image):
		p.Add(path+".image", "the local provider has no image %q; expected %s, the programs of this machine, or one that scaler image list names, as web-20260102-150405", image, HostImage)
	case r.Kind == MySQLKind:
		p.Add(path+".image", "a database server's files are its data, which is no image; expected %s", HostImage)
	}
	if frame := r.Frame(); frame != nil && r.Count.Max > 1 {
		for i, m := range frame.Mounts {
			if m.Path == plainWords(m.Path) {
				p.Add(fmt.Sprintf("%s.parameters.mounts[%d].path", path, i), "the servers are all on this machine, and %s is there once; expected a path with {directory}, {name} or {slot} in it", m.Path)
			}
		}
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
