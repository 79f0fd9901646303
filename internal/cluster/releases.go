package cluster

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ReleasesRecord is the name, among a cluster's records, of the one that says which release of its site's code
// each web node is to have.
const ReleasesRecord = "releases"

// Releases are those of all roles.
type Releases struct {
	// Term is the leader's that wrote it.
	Term  int64                    `json:"term"`
	Roles map[string]*RoleReleases `json:"roles"`
}

// RoleReleases are a role's.
type RoleReleases struct {
	// Current is the version that is in force: what a node has that Nodes does not name. Empty for none yet.
	Current string `json:"current,omitempty"`
	// Nodes are those that are to have another version already, by their names.
	Nodes map[string]string `json:"nodes,omitempty"`
	// Attempt names the roll-out that goes on, or the last: what a node has refused in one it tries again in the
	// next.
	Attempt string `json:"attempt,omitempty"`
	// Back: the roll-out is taken back. The version in force is good enough, whatever a check says.
	Back bool `json:"back,omitempty"`
	// Versions are those that can be had, the newest first.
	Versions []Release `json:"versions,omitempty"`
}

// Release is one version of a site's code.
type Release struct {
	Version string `json:"version"`
	// Object is its key in the store of the role's releases, SHA256 its checksum in hexadecimal and Size its
	// length in bytes.
	Object string `json:"object"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	// Files and Bytes are how many files are in it, and how long they are together.
	Files int       `json:"files"`
	Bytes int64     `json:"bytes"`
	Made  time.Time `json:"made"`
	By    string    `json:"by"`
}

// Of returns a version; false if it cannot be had.
func (r *RoleReleases) Of(version string) (Release, bool) {
	if r != nil {
		for _, one := range r.Versions {
			if one.Version == version {
				return one, true
			}
		}
	}
	return Release{}, false
}

// For returns the version that a node is to have; false for none.
func (r *RoleReleases) For(node string) (Release, bool) {
	if r == nil {
		return Release{}, false
	}
	if version, ok := r.Nodes[node]; ok {
		return r.Of(version)
	}
	return r.Of(r.Current)
}

// The forms of what names a version: its name is a directory's on every node.
var (
	versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	sumForm     = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// CheckVersion says what is wrong with the name of a version.
func CheckVersion(name string) error {
	if !versionForm.MatchString(name) {
		return fmt.Errorf("%q is no name for a version; expected at most 64 of A-Z a-z 0-9 . _ -, beginning with a letter or a digit", name)
	}
	return nil
}

// ReleaseObject is the key of a role's version in the store of its releases.
func ReleaseObject(role, version, sha256 string) string {
	return ReleasePrefix(role) + version + "-" + sha256[:16] + ".tar.zst"
}

// ReleasePrefix is what the keys of a role's releases begin with.
func ReleasePrefix(role string) string { return "releases/" + role + "/" }

// Check says what is wrong with a release.
func (r Release) Check() error {
	errs := []error{CheckVersion(r.Version)}
	if !sumForm.MatchString(r.SHA256) || r.Size <= 0 || r.Files <= 0 || r.Bytes < 0 {
		errs = append(errs, fmt.Errorf("release %s: a sha256 %q of %d bytes with %d files is not possible", r.Version, r.SHA256, r.Size, r.Files))
	}
	if !strings.HasPrefix(r.Object, "releases/") {
		errs = append(errs, fmt.Errorf("release %s: %q is no object of a release", r.Version, r.Object))
	}
	return errors.Join(errs...)
}

// Encode returns the record's value.
func (r *Releases) Encode() ([]byte, error) { return encoded(r, "releases") }

// DecodeReleases reads the record's value; of no record it is that there is no release.
func DecodeReleases(data []byte) (*Releases, error) {
	if data == nil {
		return &Releases{}, nil
	}
	r, err := decoded[Releases](data, "releases")
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, role := range r.Roles {
		for _, one := range role.Versions {
			errs = append(errs, one.Check())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("read releases: %w", err)
	}
	return r, nil
}

// ReleaseReport is what a node says of the release that it has.
type ReleaseReport struct {
	// Version is what visitors get; empty for none.
	Version string `json:"version,omitempty"`
	// Attempt is the roll-out of which the rest speaks.
	Attempt string `json:"attempt,omitempty"`
	// Doing is what takes time just now, or why it is tried again; empty if nothing is to be done.
	Doing string `json:"doing,omitempty"`
	// Refused is the version that the node does not take in this attempt, and Why.
	Refused string `json:"refused,omitempty"`
	Why     string `json:"why,omitempty"`
}

// Kept are the versions of which the newest many are kept, and those that are named.
func Kept(versions []Release, many int, named ...string) (kept, dropped []Release) {
	for i, one := range versions {
		if i < many || slices.Contains(named, one.Version) {
			kept = append(kept, one)
		} else {
			dropped = append(dropped, one)
		}
	}
	return kept, dropped
}
