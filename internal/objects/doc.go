// Package objects keeps whole objects under keys in a store: an S3 bucket of
// whatever provider, or a directory. Backups and archives live in one.
//
// It knows nothing of what the objects hold, makes no bucket and decides on no
// retention. It is the only package that has to do with AWS's S3 client.
//
// Invariants, of every store: an object is there as a whole or not at all, also
// after a crash of either side; of several puts with IfAbsent of one key exactly
// one succeeds, and its caller knows; memory does not grow with an object's size;
// every call ends within the store's patience after the store has stopped to
// answer.
package objects
