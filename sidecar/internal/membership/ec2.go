package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"farmhand/internal/ec2"
)

// EC2Options say which instances are the farm's hosts.
type EC2Options struct {
	// Region and Endpoint are where EC2 answers; empty for what the SDK finds, as it
	// finds the credentials: in the environment, the files in ~/.aws, the instance's
	// role.
	Region, Endpoint string
	// Tags are what an instance must be tagged with.
	Tags map[string]string
	// RoleTag is the tag whose value is a host's role.
	RoleTag string
	// Ports are those of each role's address; a role without one has none in it.
	Ports map[string]int
	// Every is how often EC2 is asked; after errors less often, up to AtMost.
	Every, AtMost time.Duration
	// Limit bounds one answer, with all its pages and attempts.
	Limit time.Duration
	// Misses is how many answers in a row may lack an instance that has not said that it
	// ends: EC2's answers are consistent only after a while.
	Misses int
}

// EC2 is a membership in the tags of EC2 instances: each that runs is a host that is
// up, with its id for a name and its private address. It knows no epochs.
type EC2 struct {
	o       EC2Options
	missing map[string]int // by id: how many answers in a row have lacked a host
	last    map[string]Host
}

// NewEC2 returns the source that is EC2.
func NewEC2(o EC2Options) *EC2 {
	return &EC2{o: o, missing: map[string]int{}, last: map[string]Host{}}
}

// Run implements [Source].
func (e *EC2) Run(ctx context.Context, observer Observer) error {
	var client *ec2.Client
	var trouble string
	defer func() {
		if client != nil {
			client.Close()
		}
	}()
	wait := e.o.Every
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		s, err := func() (Snapshot, error) {
			limited, cancel := context.WithTimeoutCause(ctx, e.o.Limit, fmt.Errorf("no whole answer within %v", e.o.Limit))
			defer cancel()
			if client == nil {
				var err error
				if client, err = ec2.Open(limited, e.o.Region, e.o.Endpoint); err != nil {
					return Snapshot{}, err
				}
			}
			return e.look(limited, client)
		}()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			observer.Changed(s)
			trouble, wait = "", e.o.Every
		default:
			wait = min(2*wait, max(e.o.AtMost, e.o.Every)) // EC2 throttles who asks too often
			if text := plain(err).Error(); text != trouble {
				trouble = text
				observer.Trouble(fmt.Errorf("membership: %w", plain(err)))
			}
		}
		timer.Reset(wait)
	}
}

// look asks for all instances. A page that cannot be had makes the whole unknown.
func (e *EC2) look(ctx context.Context, client *ec2.Client) (Snapshot, error) {
	instances, err := client.Instances(ctx, e.o.Tags, e.o.RoleTag)
	if err != nil {
		return Snapshot{}, err
	}
	running, ended := map[string]Host{}, map[string]bool{}
	for _, i := range instances {
		h := Host{Name: i.ID, Role: i.Tags[e.o.RoleTag], Address: i.Address}
		switch {
		case i.State == ec2.Pending: // it is none yet
		case i.State != ec2.Running:
			ended[i.ID] = true
		case h.Role == "": // it is none any more
		default:
			if port, ok := e.o.Ports[h.Role]; ok {
				h.Address = net.JoinHostPort(h.Address, strconv.Itoa(port))
			}
			running[i.ID] = h
		}
	}
	return e.settle(running, ended)
}

// settle makes a membership of an answer. One that the answer lacks without saying that it
// has ended stays for a while.
func (e *EC2) settle(running map[string]Host, ended map[string]bool) (Snapshot, error) {
	missing, hosts := map[string]int{}, maps.Clone(running)
	for id, h := range e.last {
		if _, there := running[id]; there || ended[id] {
			continue
		}
		if n := e.missing[id] + 1; n <= e.o.Misses {
			missing[id], hosts[id] = n, h
		}
	}
	e.missing, e.last = missing, hosts // whatever the answer is worth, it is one
	s := Snapshot{Hosts: slices.SortedFunc(maps.Values(hosts), func(a, b Host) int { return cmp.Compare(a.Name, b.Name) })}
	if problems := check(s); len(problems) > 0 {
		errs := make([]error, len(problems))
		for i, p := range problems {
			errs[i] = fmt.Errorf("%s: %s", p.Path, p.Message)
		}
		return Snapshot{}, errors.Join(errs...)
	}
	return canonical(s), nil
}
