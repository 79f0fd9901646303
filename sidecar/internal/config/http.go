package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"farmhand/internal/farm"
	"farmhand/internal/service"
)

// HTTP is a web node's nginx and php-fpm, whose files are in the role's directory.
type HTTP struct {
	// Listen is nginx's ip:port; empty for neither nginx nor php-fpm.
	Listen string `yaml:"listen"`
	// DocumentRoot is the directory with the files of the site that has no name of its own;
	// empty for none.
	DocumentRoot string `yaml:"document_root"`
	// FrontController is the script, below DocumentRoot, that gets what is no file; empty
	// for none: such a thing is not found.
	FrontController string `yaml:"front_controller"`
	// Sites have names of their own, and PHP processes.
	Sites []HTTPSite `yaml:"sites"`
	// Settings are PHP's for all sites, by their names.
	Settings map[string]string `yaml:"settings"`
	// NginxTemplate and PHPFPMTemplate are files that are used in the place of the built-in templates; empty
	// for those.
	NginxTemplate  string `yaml:"nginx_template"`
	PHPFPMTemplate string `yaml:"php_fpm_template"`
	// Balancers is the role of the load balancers: what they say of a client's address and
	// of TLS is believed. Empty for none.
	Balancers string `yaml:"balancers"`
	// BalancerNetworks are those of load balancers that are no hosts of the farm (CIDR):
	// what comes from there is believed in the same way.
	BalancerNetworks []string `yaml:"balancer_networks"`
	// MaxBody is the largest request's body.
	MaxBody service.Size `yaml:"max_body"`
	// TimeLimit is how long PHP may take for a request.
	TimeLimit service.Duration `yaml:"time_limit"`
	// Children is how many requests PHP serves at a time.
	Children int `yaml:"children"`
	// Nginx and PHPFPM are the programs: a name that is looked for, or a path. An
	// empty PHPFPM is the newest there is, whatever a distribution calls it.
	Nginx  string `yaml:"nginx"`
	PHPFPM string `yaml:"php_fpm"`
	// Database and DatabaseSocket are where PHP finds the proxy, host:port and a path, which
	// it has in its environment; empty for not there.
	Database       string `yaml:"database"`
	DatabaseSocket string `yaml:"database_socket"`
}

// HTTPSite is one of several sites of a node.
type HTTPSite struct {
	Name            string            `yaml:"name"`  // for people, and of its PHP processes
	Names           []string          `yaml:"names"` // hosts' names, or *. and one
	DocumentRoot    string            `yaml:"document_root"`
	FrontController string            `yaml:"front_controller"`
	Children        int               `yaml:"children"`
	Settings        map[string]string `yaml:"settings"`
}

// The names of nginx and php-fpm among a web node's programs.
const (
	NginxProgram  = "nginx"
	PHPFPMProgram = "php-fpm"
)

func defaultHTTP() HTTP {
	return HTTP{FrontController: "/index.php", BalancerNetworks: []string{}, Sites: []HTTPSite{}, Settings: map[string]string{}, MaxBody: 64 << 20, TimeLimit: duration("30s"), Children: 8, Nginx: "nginx"}
}

func (h HTTP) validate(path, directory string) service.Problems {
	var p service.Problems
	if h.Listen == "" {
		return p
	}
	place(&p, path+".listen", h.Listen)
	if h.DocumentRoot != "" || len(h.Sites) == 0 {
		absolute(&p, path+".document_root", h.DocumentRoot)
	}
	if h.FrontController != "" {
		absolute(&p, path+".front_controller", h.FrontController)
	}
	h.validateSites(&p, path)
	for key, file := range map[string]string{"nginx_template": h.NginxTemplate, "php_fpm_template": h.PHPFPMTemplate} {
		if file != "" {
			absolute(&p, path+"."+key, file)
		}
	}
	if h.Balancers != "" {
		if err := farm.CheckName(h.Balancers); err != nil {
			p.Add(path+".balancers", "%v", err)
		}
	}
	for i, text := range h.BalancerNetworks {
		if n, err := netip.ParsePrefix(text); err != nil || n.Masked() != n || n.Bits() == 0 {
			p.Add(fmt.Sprintf("%s.balancer_networks[%d]", path, i), "%q is not a network such as 10.0.4.0/24", text)
		}
	}
	p.SizeBetween(path+".max_body", h.MaxBody, 1<<10, 16<<30)
	p.DurationBetween(path+".time_limit", h.TimeLimit, duration("1s"), duration("24h"))
	p.Between(path+".children", h.Children, 1, 10_000)
	p.Required(path+".nginx", h.Nginx)
	if h.Database != "" {
		if err := farm.CheckAddress(h.Database); err != nil || strings.HasPrefix(h.Database, "/") {
			p.Add(path+".database", "%q is not a host:port", h.Database)
		}
	}
	// They stand in quotes in the files of nginx and of php-fpm.
	texts := h.roots()
	texts["front_controller"], texts["database_socket"], texts["directory"] = h.FrontController, h.DatabaseSocket, directory
	for i, s := range h.Sites {
		texts[fmt.Sprintf("sites[%d].front_controller", i)] = s.FrontController
	}
	for key, text := range texts {
		if strings.ContainsAny(text, "\"\\$\n\r\x00") {
			p.Add(path+"."+key, "%q has a character in it that nginx or PHP would take for its own", text)
		}
	}
	return p
}

// roots are the sites' document roots, by the keys that have them.
func (h HTTP) roots() map[string]string {
	roots := map[string]string{}
	if h.DocumentRoot != "" {
		roots["document_root"] = h.DocumentRoot
	}
	for i, s := range h.Sites {
		roots[fmt.Sprintf("sites[%d].document_root", i)] = s.DocumentRoot
	}
	return roots
}

// What nginx takes for a host's name, and php-fpm for a setting and its value in quotes.
var (
	hostForm    = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?$`)
	settingForm = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$`)
	valueForm   = regexp.MustCompile(`^[^"\\$\x00-\x1f\x7f]{0,500}$`)
)

func (h HTTP) validateSites(p *service.Problems, path string) {
	settings := func(at string, all map[string]string) {
		for name, value := range all {
			if !settingForm.MatchString(name) || !valueForm.MatchString(value) {
				p.Add(at, "the setting %q with the value %q is not possible", name, value)
			}
		}
	}
	settings(path+".settings", h.Settings)
	taken := map[string]bool{"site": true, "health": true}
	for i, s := range h.Sites {
		at := fmt.Sprintf("%s.sites[%d]", path, i)
		if err := farm.CheckName(s.Name); err != nil {
			p.Add(at+".name", "%v", err)
		}
		if taken[s.Name] {
			p.Add(at+".name", "there is a site %s already, or PHP processes of the farm's own", s.Name)
		}
		taken[s.Name] = true
		absolute(p, at+".document_root", s.DocumentRoot)
		if s.FrontController != "" {
			absolute(p, at+".front_controller", s.FrontController)
		}
		p.Between(at+".children", s.Children, 1, 10_000)
		if len(s.Names) == 0 {
			p.Add(at+".names", "there are none")
		}
		for _, name := range s.Names {
			if !hostForm.MatchString(name) {
				p.Add(at+".names", "%q is no host's name in small letters, nor *. and one", name)
			}
		}
		settings(at+".settings", s.Settings)
	}
}
