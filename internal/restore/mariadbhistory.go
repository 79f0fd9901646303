package restore

import (
	"errors"
	"fmt"

	"farmhand/internal/binlog"
	"farmhand/internal/gtid"
)

// domains is a MariaDB server's history: in each replication domain numbers rise, and who
// wrote one is part of its name.
type domains struct {
	base    marks        // what the data had at first
	at      marks        // base and all that was taken
	to      marks        // nil: no position is asked for
	writers gtid.Streams // who wrote what was taken
	// server is an id that no transaction may have: that of who replays them, which
	// would pass over them.
	server uint32
}

// newDomains is the history of data at a position; to is the one that is asked for, empty
// for none.
func newDomains(base, to gtid.Position, server uint32) (*domains, error) {
	d := &domains{server: server}
	var errs [3]error
	d.base, errs[0] = marksOf(base)
	d.at, errs[1] = marksOf(base)
	if !to.IsZero() {
		d.to, errs[2] = marksOf(to)
	}
	return d, errors.Join(errs[:]...)
}

func (d *domains) had(x *binlog.Transaction) (bool, error) {
	at := d.at[x.Domain]
	if x.Number == at.number && x.Server != at.server {
		return false, fmt.Errorf("it has %s, and what came before has %d-%d-%d", x, x.Domain, at.server, at.number)
	}
	return x.Number <= at.number, nil
}

func (d *domains) original(x *binlog.Transaction) bool { return x.Number <= d.base[x.Domain].number }

func (d *domains) wanted(x *binlog.Transaction) (bool, error) {
	to, asked := d.to[x.Domain]
	if !asked || x.Number > to.number {
		return false, nil
	}
	if x.Number == to.number && x.Server != to.server {
		return false, fmt.Errorf("it has %s, and %d-%d-%d is asked for: that is of another history", x, x.Domain, to.server, to.number)
	}
	return true, nil
}

func (d *domains) add(x *binlog.Transaction) error {
	if x.Server == d.server {
		return fmt.Errorf("%s is of the server id %d, with which it is to be replayed", x, d.server)
	}
	d.at[x.Domain] = mark{x.Server, x.Number}
	if d.writers == nil {
		d.writers = gtid.Streams{}
	}
	d.writers[gtid.Stream{Domain: x.Domain, Server: x.Server}] = x.Number
	return nil
}

func (d *domains) reached() bool { return d.at.reached(d.to) }

func (d *domains) ended() error {
	for domain, to := range d.to {
		if at := d.at[domain]; at != to {
			return fmt.Errorf("there is no transaction %d-%d-%d; the last one before is %d-%d-%d", domain, to.server, to.number, domain, at.server, at.number)
		}
	}
	return nil
}

func (d *domains) position() string    { return d.at.String() }
func (d *domains) wrote() gtid.Streams { return d.writers }
