package farmfile

import (
	"fmt"
	"maps"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/service"
)

// AWSKind runs every server as an instance of Amazon EC2.
const AWSKind ProviderKind = "aws"

// Market is how an instance is paid for.
type Market string

// The markets.
const (
	OnDemand Market = "on-demand"
	Spot     Market = "spot" // cheaper, can be taken away; on-demand if there is none
)

func (Market) choices() []string { return []string{string(OnDemand), string(Spot)} }

// AWS is a farm on EC2. docs/AWS.md has what must be there.
type AWS struct {
	Region          string             `yaml:"region" is:"label" about:"the region, such as eu-central-1"`
	Endpoint        string             `yaml:"endpoint" is:"text?" about:"where EC2 and ELB answer if it is not AWS, http(s)://host:port; \"\" for AWS"`
	Subnets         []string           `yaml:"subnets" is:"1..16" about:"the subnets, one for each zone; a role's servers are spread over them"`
	SecurityGroups  []string           `yaml:"security_groups" is:"1..5" about:"the security groups of every server"`
	Key             string             `yaml:"key" is:"text?" about:"the name of an EC2 key pair for SSH; \"\" for none"`
	InstanceProfile string             `yaml:"instance_profile" is:"text?" about:"the name of the instance profile of every server, such as one that may write backups; \"\" for none"`
	Programs        string             `yaml:"programs" is:"text?" about:"https address of a .tar.gz with the programs sidecar and proxy; \"\" if they are in the image"`
	ProgramsSHA256  string             `yaml:"programs_sha256" is:"text?" about:"the SHA-256 of programs in hexadecimal, with which it must agree"`
	Directory       string             `yaml:"directory" is:"path" about:"where on a server the programs are (in bin) and its data"`
	DiskType        string             `yaml:"disk_type" is:"label" about:"the kind of EBS volumes"`
	KMSKey          string             `yaml:"kms_key" is:"text?" about:"the KMS key that volumes are encrypted with; \"\" for the account's own for EBS; they are encrypted in any case"`
	Roles           map[string]AWSRole `yaml:"roles" is:"0..32" keys:"label" about:"what is special with the servers of a role, by the role's name"`
}

// AWSRole is what EC2 has for the servers of a role.
type AWSRole struct {
	LaunchTemplate LaunchTemplate `yaml:"launch_template" about:"your own launch template, for what this file does not know (placement, tenancy, monitoring, the root disk …); what it does know comes before the template's"`
	Market         Market         `yaml:"market" about:"on-demand, or spot: cheaper, but AWS can take a server away with two minutes' notice; on-demand if there is no spot capacity"`
	ElasticIPs     []string       `yaml:"elastic_ips" is:"0..100" about:"allocation ids of Elastic IP addresses; each server gets one of them"`
	TargetGroups   []string       `yaml:"target_groups" is:"0..5" about:"ARNs of load balancers' target groups in which the servers are registered"`
	Port           int            `yaml:"port" is:"0..65535" about:"the port that the load balancer sends requests to; 0 for the role's own"`
}

// LaunchTemplate is a launch template of EC2.
type LaunchTemplate struct {
	Name    string `yaml:"name" is:"text?" about:"its id, lt-…, or its name; \"\" for none"`
	Version string `yaml:"version" is:"text" about:"its version: a number, $Default or $Latest, looked up at each launch"`
}

var awsForms = map[string]*regexp.Regexp{
	"subnet":   regexp.MustCompile(`^subnet-[0-9a-f]{8,17}$`),
	"sg":       regexp.MustCompile(`^sg-[0-9a-f]{8,17}$`),
	"image":    regexp.MustCompile(`^(ami-[0-9a-f]{8,17}|resolve:ssm:[A-Za-z0-9/_.:-]+)$`),
	"type":     regexp.MustCompile(`^[a-z][a-z0-9-]*\.[a-z0-9-]+$`),
	"template": regexp.MustCompile(`^(lt-[0-9a-f]{8,17}|[A-Za-z0-9()./_-]{3,128})$`),
	"version":  regexp.MustCompile(`^([1-9][0-9]{0,8}|\$Default|\$Latest)$`),
	"address":  regexp.MustCompile(`^eipalloc-[0-9a-f]{8,17}$`),
	"group":    regexp.MustCompile(`^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:targetgroup/.+$`),
	"sha256":   regexp.MustCompile(`^[0-9a-f]{64}$`),
	"programs": regexp.MustCompile(`^https://[A-Za-z0-9.:-]+/[A-Za-z0-9/_.~%?=&+:@-]+$`),
	"endpoint": regexp.MustCompile(`^https?://[A-Za-z0-9.:\[\]-]+$`),
	"path":     regexp.MustCompile(`^/[A-Za-z0-9/_.-]+$`),
}

func defaultAWS() AWS {
	return AWS{
		Directory: "/opt/farmhand", DiskType: "gp3",
		Subnets: []string{}, SecurityGroups: []string{}, Roles: map[string]AWSRole{},
	}
}

func defaultAWSRole() AWSRole {
	return AWSRole{LaunchTemplate: LaunchTemplate{Version: "$Default"}, Market: OnDemand, ElasticIPs: []string{}, TargetGroups: []string{}}
}

// Role is what is special with a role.
func (a *AWS) Role(name string) AWSRole {
	if r, ok := a.Roles[name]; ok {
		return r
	}
	return defaultAWSRole()
}

// OnAWS is what the file says of a farm on EC2, with the port of each role that load
// balancers send requests to; false if the farm is elsewhere.
func (f *Farm) OnAWS() (AWS, bool) {
	if f.Provider.Parameters.AWS == nil {
		return AWS{}, false
	}
	a := *f.Provider.Parameters.AWS
	a.Roles = maps.Clone(a.Roles)
	for name, r := range a.Roles {
		if role := f.Roles[name]; r.Port == 0 {
			r.Port = role.Port()
		}
		a.Roles[name] = r
	}
	return a, true
}

// InstanceTypes are those that a role's size names, the preferred one first.
func InstanceTypes(size string) []string {
	types := strings.Split(size, ",")
	for i := range types {
		types[i] = strings.TrimSpace(types[i])
	}
	return types
}

func checkAWS(p *service.Problems, f *Farm) {
	a, at := f.Provider.Parameters.AWS, "provider.parameters."
	check := func(path, form, value, expected string) {
		if !awsForms[form].MatchString(value) {
			p.Add(path, "%q is not possible; expected %s", value, expected)
		}
	}
	each := func(path, form string, values []string, expected string) {
		seen := map[string]bool{}
		for i, value := range values {
			check(fmt.Sprintf("%s[%d]", path, i), form, value, expected)
			if seen[value] {
				p.Add(fmt.Sprintf("%s[%d]", path, i), "%s is there twice", value)
			}
			seen[value] = true
		}
	}
	each(at+"subnets", "subnet", a.Subnets, "subnet-…")
	each(at+"security_groups", "sg", a.SecurityGroups, "sg-…")
	if a.Endpoint != "" {
		check(at+"endpoint", "endpoint", a.Endpoint, "http(s)://host:port")
	}
	check(at+"directory", "path", a.Directory, "an absolute path of A-Z a-z 0-9 / _ . -")
	if a.Programs != "" {
		check(at+"programs", "programs", a.Programs, "https://…, without characters that a shell could take for its own")
		check(at+"programs_sha256", "sha256", a.ProgramsSHA256, "64 hexadecimal digits: what is fetched from elsewhere is checked")
	} else if a.ProgramsSHA256 != "" {
		p.Add(at+"programs_sha256", "there is no programs whose sum it could be")
	}
	for name, r := range sorted(a.Roles) {
		path := at + "roles." + name
		role, there := f.Roles[name]
		if !there {
			p.Add(path, "the farm has no role %s", name)
			continue
		}
		each(path+".elastic_ips", "address", r.ElasticIPs, "eipalloc-…")
		each(path+".target_groups", "group", r.TargetGroups, "arn:aws:elasticloadbalancing:…:targetgroup/…")
		if r.LaunchTemplate.Name != "" {
			check(path+".launch_template.name", "template", r.LaunchTemplate.Name, "lt-…, or a launch template's name")
		}
		check(path+".launch_template.version", "version", r.LaunchTemplate.Version, "a number, $Default or $Latest")
		if own := role.Port(); len(r.TargetGroups) > 0 {
			switch {
			case r.Port == 0 && own == 0:
				p.Add(path+".port", "the role offers nothing at a port of its own; expected the one that the target groups send requests to")
			case r.Port != 0 && own != 0 && r.Port != own:
				p.Add(path+".port", "%d is not the role's own port, %d, at which its servers answer", r.Port, own)
			}
		}
		if n := len(r.ElasticIPs); n > 0 && n < role.Count.Max {
			p.Add(path+".elastic_ips", "%d addresses for up to %d servers; expected one for each, or none", n, role.Count.Max)
		}
		if r.Market == Spot && role.Kind == MySQLKind {
			p.Add(path+".market", "spot takes servers away as AWS likes, several at a time; a role of kind mysql needs on-demand")
		}
	}
}

func checkAWSRole(p *service.Problems, path string, r *Role) {
	if _, ok := roleKinds[r.Kind]; !ok {
		return
	}
	if !awsForms["image"].MatchString(r.Image) {
		p.Add(path+".image", "%q is no image of AWS; expected ami-… or resolve:ssm:/parameter", r.Image)
	}
	if r.Storage.Kind == DirectoryStorage && r.Storage.Keep {
		p.Add(path+".storage.keep", "a directory of an instance's own is gone with the instance; expected kind volume or array, or keep: false")
	}
	for _, t := range InstanceTypes(r.Size) {
		if !awsForms["type"].MatchString(t) {
			p.Add(path+".size", "%q is no instance type; expected one such as m7g.large, or several with commas, the preferred one first", t)
		}
	}
}

// UnmarshalYAML reads what is special with a role over what is usual.
func (r *AWSRole) UnmarshalYAML(n ast.Node) error {
	role := defaultAWSRole()
	type plain AWSRole // without this method
	if err := over(n, (*plain)(&role)); err != nil {
		return err
	}
	*r = AWSRole(role)
	return nil
}
