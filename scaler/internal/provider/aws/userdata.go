package aws

import (
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
)

// Files are what an instance runs by: contents, by paths on the instance. In what stands
// in them, @ADDRESS@ is the instance's private address, which is known only there.
type Files map[string]string

// Places are where an instance has what belongs to it, below the farm's directory.
type Places struct{ Dir string }

// Config is the sidecar's configuration, Token the token's file, and Data the directory
// of the role's data, on which its volume is mounted.
func (p Places) Config() string { return p.Dir + "/sidecar.yaml" }

// Token is the file with the token, which the sidecar removes when it has joined.
func (p Places) Token() string { return p.Dir + "/token" }

// Data is the directory of the role's data, where its volume is mounted.
func (p Places) Data() string { return p.Dir + "/data" }

//go:embed boot.sh
var boot string

// maxUserData is what EC2 takes, in bytes.
const maxUserData = 16 << 10

// disk is what an instance gets besides its root disk.
type disk struct {
	ids   []string // of EBS, in order
	fresh bool     // nobody ever had it: it may be formatted
}

// userData is the script that cloud-init runs on the instance as root, once.
//
// The token in it is good for one node of one name, once, and for minutes only. Until
// then the instance alone can read it, by IMDSv2 from its own processes, and who may call
// DescribeInstanceAttribute in the account; docs/AWS.md says what follows from that.
func userData(a farmfile.AWS, s provider.Spec, files Files, d disk) (string, error) {
	at := Places{a.Directory}
	if files[at.Config()] == "" {
		return "", errors.New("it has no configuration of its sidecar")
	}
	all := maps.Clone(files)
	all[at.Token()] = s.Token + "\n"
	var text strings.Builder
	text.WriteString("#!/bin/sh\n")
	set := func(name, value string) { fmt.Fprintf(&text, "%s=%s\n", name, quote(value)) }
	set("DIR", a.Directory)
	set("PROGRAMS", a.Programs)
	set("SHA256", a.ProgramsSHA256)
	set("CONFIG", at.Config())
	set("VOLUME", s.Volume)
	set("INSTANCE", s.Name)
	set("DATA", at.Data())
	set("DISKS", strings.Join(d.ids, " "))
	set("FRESH", strconv.FormatBool(d.fresh))
	set("FILE_SYSTEM", string(s.Role.Storage.FileSystem))
	set("LAYOUT", string(s.Role.Storage.Layout))
	text.WriteString("files() {\n")
	for _, path := range sortedKeys(all) {
		fmt.Fprintf(&text, "put %s %s\n", quote(path), base64.StdEncoding.EncodeToString([]byte(all[path])))
	}
	text.WriteString("}\n")
	text.WriteString(boot)
	if text.Len() > maxUserData {
		return "", fmt.Errorf("its user data has %d bytes, and EC2 takes %d: fewer hooks and templates are needed", text.Len(), maxUserData)
	}
	return text.String(), nil
}

// quote is a text as one word of a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
