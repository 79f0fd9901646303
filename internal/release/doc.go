// Package release makes one file of a site's code, and the code of that file again.
//
// The file is a tar archive in zstd, and is named by its SHA-256. There are directories, files and symbolic
// links in it, and nothing else: no owners, no setuid, no path and no link that leads out of it. Who unpacks
// one trusts the checksum, not the archive: each entry is checked again.
//
// Invariant: what Unpack has written without an error is what Pack was given, and nothing outside of the
// directory was touched.
package release
