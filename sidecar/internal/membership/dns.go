package membership

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"farmhand/internal/farm"
)

// DNSOptions say what to ask.
type DNSOptions struct {
	// Records are the names of SRV records by the role of the hosts in them.
	Records map[string]string
	// Server is the name server's host:port; empty for the system's.
	Server string
	// Limit bounds one question to one server.
	Limit time.Duration
	// AtLeast and AtMost bound the time to live that decides when to ask again.
	AtLeast, AtMost time.Duration
}

// DNS is a membership in SRV records: every target is a host that is up, with
// its name for a name. It knows no epochs, and no state but up.
type DNS struct{ o DNSOptions }

// NewDNS returns the source that is the name servers.
func NewDNS(o DNSOptions) *DNS { return &DNS{o} }

// Run implements [Source].
func (d *DNS) Run(ctx context.Context, observer Observer) error {
	var trouble string
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		s, ttl, err := d.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			observer.Changed(s)
			trouble = ""
		case err.Error() != trouble: // once for each
			trouble = err.Error()
			observer.Trouble(fmt.Errorf("membership by DNS: %w", err))
		}
		timer.Reset(d.pause(ttl))
	}
}

// pause is how long to wait after an answer that is good for ttl.
func (d *DNS) pause(ttl time.Duration) time.Duration {
	return max(d.o.AtLeast, min(ttl, d.o.AtMost))
}

// look asks for all records. One that cannot be had makes the whole unknown: a
// farm without its replicas is another farm. ttl is 0 on an error.
func (d *DNS) look(ctx context.Context) (s Snapshot, ttl time.Duration, err error) {
	r := resolver{servers: []string{d.o.Server}, limit: d.o.Limit}
	if d.o.Server == "" {
		// Anew each time, since the network may have changed.
		if r.servers, err = serversOf("/etc/resolv.conf"); err != nil {
			return Snapshot{}, 0, err
		}
	}
	ttl = d.o.AtMost
	for _, role := range slices.Sorted(maps.Keys(d.o.Records)) {
		a, err := r.lookup(ctx, d.o.Records[role])
		if err != nil {
			return Snapshot{}, 0, err
		}
		ttl = min(ttl, a.ttl)
		for _, one := range a.records {
			s.Hosts = append(s.Hosts, hostOf(role, one))
		}
	}
	if problems := check(s); len(problems) > 0 {
		errs := make([]error, len(problems))
		for i, p := range problems {
			errs[i] = fmt.Errorf("%s: %s", p.Path, p.Message)
		}
		return Snapshot{}, 0, errors.Join(errs...)
	}
	return canonical(s), ttl, nil
}

func hostOf(role string, s record) Host {
	h := Host{Name: s.target, Role: role, Address: net.JoinHostPort(s.target, strconv.Itoa(int(s.port)))}
	if h.Database() {
		h.Weight = min(int(s.weight), farm.MaxWeight) // 0 means the default in both
	}
	return h
}
