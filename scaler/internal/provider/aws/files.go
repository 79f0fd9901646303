package aws

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/goccy/go-yaml"

	"farmhand/internal/enrol"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

// anAddress stands in a configuration for the instance's own until it is there: one that
// nobody has (RFC 5737).
var anAddress = netip.MustParseAddr("192.0.2.255")

// address is what the instance puts its address in the place of.
const address = "@ADDRESS@"

// metadataService is where an instance asks about itself.
const metadataService = "http://169.254.169.254"

// NodeFiles are what an instance runs by, as the farm file says. The accounts' passwords
// are not among them: it gets those that its role needs when it joins.
func NodeFiles(s provider.Spec, a farmfile.AWS) (Files, error) {
	directory := a.Directory
	at := Places{directory}
	node := directory + "/node"
	site := provider.Site{
		Address: anAddress, State: directory + "/state", Node: node, Token: at.Token(), Work: directory + "/work",
		Secret: func(who string) string { return enrol.SecretFile(node, who) },
		Data:   at.Data(), Socket: at.Data() + "/mysql.sock", Account: "mysql",
		ProxyProgram: directory + "/bin/proxy", ProxyFile: directory + "/proxy.yaml", Topology: directory + "/topology.json",
	}
	if w := s.Role.Parameters.Web; w != nil {
		site.Listen, site.ListenSocket, site.Admin = w.Proxy.TCP, w.Proxy.Unix, w.Proxy.Admin
	}
	config, err := s.Sidecar(site)
	if err != nil {
		return nil, err
	}
	if hooks, ok := config["hooks"].(map[string]any); ok && s.Role.Kind != farmfile.MySQLKind {
		hooks["secret_files"] = []string{site.Secret("monitor")} // it has no other
	}
	if of, ok := config["farm"].(map[string]any); ok && a.Role(s.RoleName).Market == farmfile.Spot {
		of["metadata"] = metadataService
	}
	files := Files{}
	contents := map[string]map[string]any{at.Config(): config}
	if s.Role.Kind == farmfile.WebKind {
		contents[site.ProxyFile] = s.Proxy(site)
	}
	for path, content := range contents {
		text, err := yaml.Marshal(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		files[path] = strings.ReplaceAll(string(text), anAddress.String(), address)
	}
	return files, nil
}
