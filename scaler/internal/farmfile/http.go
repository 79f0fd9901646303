package farmfile

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/service"
)

// HTTP is nginx and php-fpm on a web node.
type HTTP struct {
	Port            int             `yaml:"port" is:"0..65535" about:"nginx's port, at the server's own address; 0 for neither nginx nor php-fpm"`
	DocumentRoot    string          `yaml:"document_root" is:"place?" about:"the directory with the files of the site that has no name of its own in sites, on the server; needed for port, unless there are sites"`
	FrontController string          `yaml:"front_controller" is:"path?" about:"the script below document_root that gets what is no file; \"\" for none"`
	Sites           map[string]Site `yaml:"sites" is:"0..32" keys:"label" about:"sites with names of their own, each with PHP processes of its own"`
	LB              string          `yaml:"lb" is:"label?" about:"the role of the load balancers: what they say of a client's address and of TLS is believed; \"\" for none"`
	BalancerNets    []string        `yaml:"balancer_networks" is:"0..32" about:"networks (CIDR) of load balancers that are no servers of the farm, such as an ALB's subnets: what comes from there is believed as from lb"`
	MaxBody         Size            `yaml:"max_body" is:"1KiB..16GiB" about:"the largest request's body"`
	TimeLimit       Duration        `yaml:"time_limit" is:"1s..24h" about:"how long PHP may take for a request, and a server that ends waits for those under way"`
	Nginx           string          `yaml:"nginx" is:"text" about:"nginx: a name that is looked for, or a path"`
	Template        string          `yaml:"template" is:"path?" about:"a file on the servers that is used in the place of the built-in template of nginx's configuration, which sidecar template nginx prints; \"\" for that"`
	PHP             PHP             `yaml:"php" about:"php-fpm"`
}

// Site is one of several sites of a web node.
type Site struct {
	Names           []string `yaml:"names" is:"1..32" about:"the names by which it is asked for, such as shop.example or *.shop.example"`
	DocumentRoot    string   `yaml:"document_root" is:"place" about:"the directory with its files"`
	FrontController string   `yaml:"front_controller" is:"path?" about:"the script below that which gets what is no file; \"\" for none"`
	Children        int      `yaml:"children" is:"1..10000" about:"how many of its requests PHP serves at a time"`
	Settings        Settings `yaml:"settings" about:"PHP's settings (php.ini) for it, by name; scripts cannot change them"`
}

// PHP is php-fpm on a web node.
type PHP struct {
	Children int      `yaml:"children" is:"1..10000" about:"how many requests PHP serves at a time"`
	Program  string   `yaml:"program" is:"text?" about:"php-fpm: a name that is looked for, or a path; \"\" for the newest that there is"`
	Settings Settings `yaml:"settings" about:"PHP's settings (php.ini) for all sites, by name; scripts cannot change them"`
	Template string   `yaml:"template" is:"path?" about:"a file on the servers that is used in the place of the built-in template of php-fpm's configuration, which sidecar template php-fpm prints; \"\" for that"`
}

// The names of nginx and php-fpm among a web node's programs.
const (
	NginxProgram  = "nginx"
	PHPFPMProgram = "php-fpm"
)

// nameForm is what nginx takes for a site's name: a host's, or all below it.
const nameForm = `^(\*\.)?[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?$`

// valueForm is what a setting of PHP can be, in quotes in php-fpm's file; settingForm what it can be called.
const (
	valueForm   = `^[^"\\$\x00-\x1f\x7f]{0,500}$`
	settingForm = `^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$`
)

// roots are the document roots, by the keys that have them.
func (h *HTTP) roots() map[string]string {
	roots := map[string]string{}
	if h.DocumentRoot != "" {
		roots["document_root"] = h.DocumentRoot
	}
	for name, s := range h.Sites {
		roots["sites."+name+".document_root"] = s.DocumentRoot
	}
	return roots
}

func (h *HTTP) check(p *service.Problems, path string, f *Farm) {
	if h.Port == 0 {
		return
	}
	if h.DocumentRoot == "" && len(h.Sites) == 0 {
		p.Add(path+".document_root", "it is missing; expected the directory with the site's files, or sites")
	}
	texts := h.roots()
	texts["front_controller"] = h.FrontController
	for name, s := range h.Sites {
		texts["sites."+name+".front_controller"] = s.FrontController
	}
	for key, text := range texts {
		if strings.ContainsAny(text, `"\$`) {
			p.Add(path+"."+key, "%q has a character in it that nginx would take for its own", text)
		}
	}
	h.checkSites(p, path)
	for i, text := range h.BalancerNets {
		if n, err := netip.ParsePrefix(text); err != nil || n.Masked() != n {
			p.Add(fmt.Sprintf("%s.balancer_networks[%d]", path, i), "%q is no network; expected one such as 10.0.4.0/24", text)
		} else if n.Bits() == 0 {
			p.Add(fmt.Sprintf("%s.balancer_networks[%d]", path, i), "%s is everybody, who could then say which address he has", text)
		}
	}
	if lb, ok := f.Roles[h.LB]; h.LB != "" && (!ok || lb.Kind != LBKind) {
		p.Add(path+".lb", "there is no role %q of kind lb", h.LB)
	}
}

func (h *HTTP) checkSites(p *service.Problems, path string) {
	names := map[string]string{}
	for name, s := range sorted(h.Sites) {
		at := path + ".sites." + name
		if name == "site" || name == "health" {
			p.Add(at, "%s is what the farm calls PHP processes of its own", name)
		}
		for i, host := range s.Names {
			if !matches(nameForm, host) {
				p.Add(fmt.Sprintf("%s.names[%d]", at, i), "%q is not possible; expected a host's name in small letters, such as shop.example or *.shop.example", host)
			}
			if other, twice := names[host]; twice {
				p.Add(fmt.Sprintf("%s.names[%d]", at, i), "%s is a name of the site %s already", host, other)
			}
			names[host] = name
		}
	}
}

// Settings are PHP's, by their names in php.ini.
type Settings map[string]string

// UnmarshalYAML reads names and values.
func (s *Settings) UnmarshalYAML(n ast.Node) error {
	values := map[string]string{}
	if err := over(n, &values); err != nil {
		return err
	}
	for name, value := range sorted(values) {
		if !matches(settingForm, name) || !matches(valueForm, value) {
			return service.ErrorAt(n, "%q: %q is not possible; expected a setting's name in small letters, and a value of at most 500 characters without quotes, backslashes and $", name, value)
		}
	}
	if len(values) > maxWords {
		return service.ErrorAt(n, "expected at most %d settings", maxWords)
	}
	*s = values
	return nil
}

// UnmarshalYAML reads the site over the defaults.
func (s *Site) UnmarshalYAML(n ast.Node) error {
	site := defaults().site
	type plain Site // without this method
	if err := over(n, (*plain)(&site)); err != nil {
		return err
	}
	*s = Site(site)
	return nil
}
