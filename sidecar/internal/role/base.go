package role

import "farmhand/sidecar/internal/config"

// newBase is a node that is what its templates, programs and health checks make of it.
func newBase(c config.Config, tools Tools) (Role, error) { return newNode(c, tools) }
