package roles

import "time"

// Limits are how long things may take.
type Limits struct {
	// Fresh is the age from which a report says nothing any more.
	Fresh time.Duration
	// Appear is how long an instance that was asked for may take to be in the provider's list,
	// and how long one that was there may be missing from it.
	Appear time.Duration
	// Launch is how long an instance may take, from its launch, to be heard of.
	Launch time.Duration
	// Warm is how long a server may take from then to be ready. To copy the data is
	// part of it.
	Warm time.Duration
	// Silent is how long nothing may be heard of a server that was heard of.
	Silent time.Duration
	// AllSilent takes the place of Silent while nothing is heard of any server of the
	// role: then it may be us.
	AllSilent time.Duration
	// Trouble is how long a server that was ready may be heard of and not be it.
	Trouble time.Duration
	// Hooks is how long a server that leaves is kept for the hooks of before-host-terminate;
	// 0 for not at all.
	Hooks time.Duration
	// Settle is how long it may take until no new clients are led to a web node that
	// leaves.
	Settle time.Duration
	// Drain is how long the proxies may take to let go of a server that leaves.
	Drain time.Duration
	// Retire is how long a server that leaves may take to shut down.
	Retire time.Duration
	// Keep is how long a lost server that was ready once is there to be looked at, or to
	// come back, before its instance is terminated.
	Keep time.Duration
	// Hand says that what takes a lost server's place takes its disk: its instance goes
	// at once.
	Hand bool
}

// DefaultLimits are the limits that docs/SCALING.md names.
func DefaultLimits() Limits {
	return Limits{
		Fresh: 5 * time.Second, Appear: time.Minute,
		Launch: 10 * time.Minute, Warm: 6 * time.Hour,
		Silent: time.Minute, AllSilent: 10 * time.Minute, Trouble: 15 * time.Minute,
		Hooks: 5 * time.Minute, Settle: 5 * time.Second, Drain: time.Minute, Retire: 2 * time.Minute, Keep: time.Hour,
	}
}
