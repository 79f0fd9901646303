// Package monitor is the proxy's eyes: it probes the cluster's servers and
// publishes what it knows of them as an immutable [View].
//
// It owns one probing goroutine and one connection per server, and the
// judgement which server may take reads or writes. It refuses to route: how far
// behind is too far for a statement is for the caller to say.
//
// The invariant: unknown is not good. A server is eligible or writable only
// while the last word about it, from a probe or from the data path, was a good
// one, and a replica's lag is known only while it is a bound that was measured
// against the primary's own history.
package monitor
