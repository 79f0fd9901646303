package clone

import (
	"context"
	"fmt"

	"farmhand/internal/dbserver"
	"farmhand/internal/farm"
)

// flavor is how one make of server is copied.
type flavor interface {
	// ready says what is missing on this machine to give or take data.
	ready(dbserver.Install) error
	// give gives the data of g's server until it is whole or ctx ends.
	give(ctx context.Context, g *gift) error
	// take makes the data in in, whose directories exist and are empty, from what the
	// donor gives, and returns the position up to which it holds the donor's
	// transactions.
	take(ctx context.Context, f *fetch, in dbserver.Config) (position string, err error)
}

var flavors = map[farm.Flavor]flavor{
	farm.MariaDB: mariadb{},
	farm.MySQL:   mysql{},
}

func flavorOf(inst dbserver.Install) (flavor, error) {
	f, ok := flavors[inst.Flavor]
	if !ok {
		return nil, fmt.Errorf("no way is known to copy a %v server", inst.Flavor)
	}
	return f, f.ready(inst)
}
