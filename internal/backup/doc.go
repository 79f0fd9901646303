// Package backup is the form that backups have in an object store, how they are
// written, read, checked, listed and thinned out. docs/BACKUPS.md describes it.
//
// A full backup is a stream of bytes that is compressed, encrypted if that is
// asked for, and cut into parts, each an object; its manifest names them with their
// checksums and is written last, if there is none. Where the bytes come from and
// what is made of them is for others.
//
// Invariants: a backup without a manifest does not count, and no crash leaves a
// manifest of a backup that is not whole; nothing is read of a part whose checksum
// is not the manifest's; memory does not grow with a backup's size; what is removed
// stops to count first.
package backup
