package role

import (
	"fmt"
	"syscall"
	"time"

	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/load"
)

// newWeb is a node with the proxy, and with its topology file; and with nginx and php-fpm, if it
// is to listen for HTTP.
func newWeb(c config.Config, tools Tools) (Role, error) {
	var own []*program
	var proxy *program
	if p := c.Web.Proxy; len(p.Command) > 0 {
		// The proxy that the next sidecar starts takes the sockets over from this one.
		proxy = &program{name: config.ProxyProgram, args: p.Command, stopSignal: syscall.SIGTERM, stopAfter: time.Duration(p.StopAfter)}
		own = append(own, proxy)
	}
	var http *site
	if c.Web.HTTP.Listen != "" {
		var err error
		if http, err = newSite(c, proxy); err != nil {
			return nil, err
		}
		own = append(own, http.phpFPM, http.nginx)
	}
	n, err := newNode(c, tools, own...)
	if err != nil {
		return nil, err
	}
	n.published.path, n.published.cluster = c.Web.Topology, c.Web.Cluster
	if address := c.Web.Proxy.Metrics; address != "" {
		n.farm.measures("the proxy", load.NewProxy(address).Sample)
	}
	if http != nil {
		http.join(n, c.Secrets())
	}
	if c.Web.Release.Store != "" {
		if err := newReleases(n, c, http, tools); err != nil {
			return nil, fmt.Errorf("release: %w", err)
		}
	}
	return n, nil
}
