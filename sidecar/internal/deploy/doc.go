// Package deploy keeps the releases of a site's code on a node, and says which one visitors get.
//
//	DIR/releases/VERSION-SUM/   the code of each, which nobody but its owner can change
//	DIR/current                 a link to the one that visitors get
//	DIR/next                    a link to the one that is tried, through the same web server, before that
//	DIR/owner                   the node whose releases they are
//	DIR/trial.json              the change that was not found good yet, and what was before it
//
// It owns these files. Where the code comes from, how a site is asked and a web server told are functions that
// it is given; which version is wanted somebody else decides.
//
// Invariant: current is a whole release that was verified, or is not there. A release that was refused is not
// what visitors get, also if this process is killed at any moment: the next one finishes what it finds.
package deploy
