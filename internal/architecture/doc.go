// Package architecture holds the rules about which package may depend on
// which, as tests. That no program imports another's parts is Go's own rule for
// internal folders.
package architecture
