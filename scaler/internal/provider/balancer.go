package provider

import "context"

// Balancer leads clients to a role's instances by load balancers that are the provider's,
// where the farm's own (the role lb) are not wanted. Its methods may be called from any
// goroutine, and by several scalers at a time; who leads decides, by Balance.
type Balancer interface {
	// Balances reports whether the role's instances have such load balancers.
	Balances(role string) bool
	// Balance has the role's load balancers lead clients to the instances in serve and no
	// more to those in release, and leaves all others as they are. It returns what the load
	// balancers said of the role's instances before, also with an error. change is called
	// before anything is changed, with what: what it returns an error for is not done. It
	// can be repeated, also where it was cut short.
	Balance(ctx context.Context, role string, serve, release []string, change func(text string) error) ([]Target, error)
}

// Target is an instance in a load balancer.
type Target struct {
	Instance string `json:"instance"`
	// Group is the load balancer, in the provider's words.
	Group string `json:"group"`
	State string `json:"state"`
	// Why is why it is not well, for people; empty if it is.
	Why string `json:"why,omitempty"`
	// Well says that it gets requests; Starting, that it has not been looked at yet;
	// Draining, that it ends what it has and gets nothing new.
	Well     bool `json:"well"`
	Starting bool `json:"starting,omitempty"`
	Draining bool `json:"draining,omitempty"`
}
