// Package clone copies a running database server's data to a server that is to
// follow it: Serve gives it, Fetch takes it, and Copy.Swap puts it in place.
//
// Two sidecars speak HTTPS with each other, each with its node's certificate, and
// each checks the other's name. Whether the joiner may have the data is for the
// donor's owner to say; which donor to ask, and when to give up its own data, for
// the joiner's. A donor gives its data to one joiner at a time.
//
// It starts and stops no server of either node's, but for one on the copied data,
// without a network. It keeps no data in memory beyond some buffers.
//
// Invariants: the joiner's data stays as it is until Swap, which is one rename;
// only a copy counts whose donor said that it is whole, that was recovered, and
// that a server was run on; what a failed or killed attempt leaves is removed by
// the next.
package clone
