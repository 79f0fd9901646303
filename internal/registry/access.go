package registry

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// grant is a right to one tree of keys.
type grant struct {
	tree string
	how  clientv3.PermissionType
}

// nodeGrants is all that the node with that name may do.
func (k keys) nodeGrants(name string) []grant {
	const (
		own  = clientv3.PermissionType(clientv3.PermReadWrite)
		read = clientv3.PermissionType(clientv3.PermRead)
	)
	return []grant{
		{k.memberTree(name), own},
		{k.healthTree(name), own},
		{k.nodeJournal(name), own},
		{k.members(), read},
		{k.clusters(), read},
		{k.scalers(), read},
		{k.ordersTree(name), read},
	}
}

// Secure switches the registry's access control on: from then on a certificate
// may do what its name is allowed, and a name that is unknown nothing. It can be
// repeated, and by several scalers at a time.
func (c *Client) Secure(ctx context.Context) error {
	status, err := c.accessStatus(ctx)
	if err != nil || status {
		return err
	}
	call := func(what string, f func(context.Context) error, fine ...error) error {
		ctx, cancel := limited(ctx)
		defer cancel()
		return c.failed(unless(f(ctx), fine...), "switch on access control: %s", what)
	}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
		fine []error
	}{
		{"add the administrator's role", func(ctx context.Context) error {
			_, err := c.etcd.RoleAdd(ctx, Administrator)
			return err
		}, []error{rpctypes.ErrRoleAlreadyExist}},
		{"add the administrator", func(ctx context.Context) error {
			_, err := c.etcd.UserAddWithOptions(ctx, Administrator, "", &clientv3.UserAddOptions{NoPassword: true})
			return err
		}, []error{rpctypes.ErrUserAlreadyExist}},
		{"grant the role", func(ctx context.Context) error {
			_, err := c.etcd.UserGrantRole(ctx, Administrator, Administrator)
			return err
		}, nil},
		{"enable it", func(ctx context.Context) error {
			_, err := c.etcd.AuthEnable(ctx)
			return err
		}, nil},
	} {
		if err := call(step.what, step.do, step.fine...); err != nil {
			return err
		}
	}
	return nil
}

// accessStatus reports whether access control is on.
func (c *Client) accessStatus(ctx context.Context) (bool, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	r, err := c.etcd.AuthStatus(ctx)
	if err != nil {
		return false, c.failed(err, "ask whether access control is on")
	}
	return r.Enabled, nil
}

// allowNode makes the user and the role of a node. It can be repeated.
func (c *Client) allowNode(ctx context.Context, name string) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	role := nodeRole(c.farm, name)
	_, err := c.etcd.RoleAdd(ctx, role)
	if err := unless(err, rpctypes.ErrRoleAlreadyExist); err != nil {
		return c.failed(err, "add the role of node %s", name)
	}
	for _, g := range c.keys.nodeGrants(name) {
		if _, err := c.etcd.RoleGrantPermission(ctx, role, g.tree, clientv3.GetPrefixRangeEnd(g.tree), g.how); err != nil {
			return c.failed(err, "grant node %s its rights", name)
		}
	}
	_, err = c.etcd.UserAddWithOptions(ctx, name, "", &clientv3.UserAddOptions{NoPassword: true})
	if err := unless(err, rpctypes.ErrUserAlreadyExist); err != nil {
		return c.failed(err, "add node %s", name)
	}
	if _, err := c.etcd.UserGrantRole(ctx, name, role); err != nil {
		return c.failed(err, "grant node %s its role", name)
	}
	return nil
}

// denyNode removes what allowNode made; the node's certificate is then good for
// nothing. It can be repeated.
func (c *Client) denyNode(ctx context.Context, name string) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	_, err := c.etcd.UserDelete(ctx, name)
	if err := unless(err, rpctypes.ErrUserNotFound); err != nil {
		return c.failed(err, "remove node %s", name)
	}
	_, err = c.etcd.RoleDelete(ctx, nodeRole(c.farm, name))
	if err := unless(err, rpctypes.ErrRoleNotFound); err != nil {
		return c.failed(err, "remove the role of node %s", name)
	}
	return nil
}

// unless is err, or nil where it is one of those that are fine.
func unless(err error, fine ...error) error {
	for _, f := range fine {
		if err != nil && is(err, f) {
			return nil
		}
	}
	return err
}

// RequireSecured returns an error if access control is off, or if it is on and
// this client is not the administrator.
func (c *Client) RequireSecured(ctx context.Context) error {
	on, err := c.accessStatus(ctx)
	if err != nil {
		return err
	}
	if !on {
		return errors.New("registry: its access control is off: every client could write every key; " +
			"add the user root without a password, give it the role root, and enable it (etcdctl auth enable)")
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	_, err = c.etcd.UserList(ctx)
	return c.failed(err, "administrate")
}
