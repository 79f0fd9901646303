// Package load owns what a node has to do: the machine ([Host]), its database
// server ([Server]) and its proxy ([Proxy]), measured when somebody asks and as
// numbers by name; the names are those of package cluster.
//
// It refuses to keep a history, to judge a number and to have a clock or a
// goroutine of its own.
//
// Invariant: what could not be measured is absent, never zero; an error says why.
// A rate needs two measurements and is absent in the first one, and in the one
// after a counter has gone back because its owner began anew.
//
// The machine is what the kernel shows under /proc. In a container that is all of
// the host, whatever the limits of its control group are: nodes are machines of
// their own. Those of a farm on one machine therefore all say the same of it.
package load
