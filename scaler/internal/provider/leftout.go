package provider

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"strings"
)

// rule is a kind of thing that no image gets.
type rule struct {
	why string
	// names are patterns, as of [path.Match], of names in small letters. One that begins with
	// a dot is for directories as well.
	names []string
	// contents are the names of directories, right below the instance's, of which the image
	// has nothing but the directory.
	contents []string
}

// rules are what belongs to one instance alone, and what nobody else may know. Beside
// them no image gets a file in which a private key or one of the farm's passwords
// stands, and nothing that is neither a file nor a directory nor a link.
var rules = []rule{
	{why: "a key, a token or a password", names: []string{
		"*.key", "*.p12", "*.pfx", "*.jks", "*.keytab", "token", "*.token", "*.password", "*.secret", ".env", ".env.*",
		".my.cnf", ".mylogin.cnf", ".pgpass", ".netrc", ".git-credentials", ".npmrc", ".pypirc", ".aws", ".azure", ".docker", ".kube", ".gnupg",
	}},
	{why: "what belongs to ssh", names: []string{".ssh", "ssh_host_*", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "authorized_keys", "known_hosts"}},
	{why: "what somebody typed", names: []string{".*history", ".lesshst", ".viminfo", ".wget-hsts"}},
	{why: "the machine's identity", names: []string{"machine-id", "hostid", "random-seed"}},
	{why: "of a process that runs", names: []string{"*.pid", "*.sock"}, contents: []string{"run", "tmp"}},
	{why: "a log", names: []string{"*.log", "*.log.*"}, contents: []string{"log", "logs"}},
}

// leaveOut is why an image does not get what is at a path below an instance's directory,
// by its name and kind; empty if it does.
func leaveOut(at string, kind fs.FileMode) string {
	switch kind.Type() {
	case 0, fs.ModeDir, fs.ModeSymlink:
	default:
		return "neither a file nor a directory nor a link"
	}
	name := strings.ToLower(path.Base(at))
	for _, r := range rules {
		for _, pattern := range r.names {
			if kind.IsDir() && !strings.HasPrefix(pattern, ".") {
				continue
			}
			if match, err := path.Match(pattern, name); match || err != nil { // as no pattern above has one
				return r.why
			}
		}
		for _, directory := range r.contents {
			if strings.HasPrefix(at, directory+"/") {
				return r.why
			}
		}
	}
	return ""
}

// telltale looks for what may not be in an image in what is written to it.
type telltale struct {
	secrets []string // farm's passwords
	last    []byte   // the end of what was written before
	found   string   // why the file is left out
}

// longest bounds what is looked for; a password that is longer is not.
const longest = 256

var privateKey = []byte(" PRIVATE KEY-----")

// Write is [io.Writer]; it never fails.
func (t *telltale) Write(data []byte) (int, error) {
	text := append(t.last, data...)
	if bytes.Contains(text, privateKey) {
		t.found = "a private key is in it"
	}
	for _, secret := range t.secrets {
		if bytes.Contains(text, []byte(secret)) {
			t.found = "one of the farm's passwords is in it"
		}
	}
	t.last = append([]byte(nil), text[max(0, len(text)-longest):]...)
	return len(data), nil
}

var _ io.Writer = (*telltale)(nil)
