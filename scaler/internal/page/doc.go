// Package page owns the operator's page: an HTTP server on loopback that shows a
// farm in a browser, live. What it shows it is given by a [Source]; docs/UI.md is for
// people.
//
// It refuses to change anything in the farm, to listen anywhere but on loopback, and
// to know what a server's state means: that is decided where scaler status and
// scaler doctor take it from.
//
// Invariants:
//   - Nothing but the refusal is served to who has not shown the token that the
//     operator's terminal got, nor to a request that was made for another host name
//     than loopback's.
//   - The browser is sent data and files of this package, never text put together as
//     HTML; its policy forbids everything from elsewhere.
//   - A slow browser costs no memory: it is sent what is there when it can take it.
package page
