// Package oracle holds the classifier to a parser of someone else's, TiDB's, in
// tests only: no statement that the oracle does not call a pure read may be one
// that a session in no particular state would send to a replica. The other way
// round, reads that go to the primary needlessly are counted, and on what real
// applications send they are bounded.
//
// The statements come from recordings and sources of applications
// (testdata/sql), from the parser's own tests, from its grammar, at random but
// repeatably, and from all of these with comments, white space, case and
// parentheses changed. FARMHAND_ORACLE_TIME=10m makes the generated part run
// for longer than make test has time for.
//
// It is a package of its own so that the parser is compiled for these tests
// only.
package oracle
