// Package render writes configuration files of other programs from templates
// and the membership: a list of memcached servers, a PHP setting.
//
// It is strict: what a template names and the membership does not have is an
// error, and then the old file stays. It does not decide when.
//
// Invariant: a reader of a destination sees the old content or the new one, and
// the new one only after its check has passed. A reload that is due is not
// forgotten when the program is killed.
package render

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"farmhand/internal/atomicfile"
	"farmhand/internal/farm"
	"farmhand/internal/filewatch"
	"farmhand/sidecar/internal/command"
	"farmhand/sidecar/internal/mask"
	"farmhand/sidecar/internal/membership"
)

// Bounds of a template and of what it makes, in bytes.
const (
	maxTemplate = 1 << 20
	maxResult   = 4 << 20
)

// NewFile stands in a check's arguments for the path of the new file.
const NewFile = "{}"

// grace is how long a command that is over its limit has to end by itself.
const grace = 2 * time.Second

// kept is how much of what a command says is in an error, in bytes.
const kept = 1 << 10

// Template is one file to be written.
type Template struct {
	Source      string // the template's path
	Text        string // the template itself, if it is not in a file; Source is its name then
	Destination string
	Mode        fs.FileMode // of a new file
	// Check is a command that ends with 0 if the new file is good; empty for none.
	Check []string
	// Reload is a command for after a change; empty for none.
	Reload []string
	// Signal is what else has to be done after a change; nil for nothing.
	Signal func() error
	Limit  time.Duration // for each command
	// Secrets are files whose content must not be in an error.
	Secrets []string
}

// View is what a template sees.
type View struct {
	Node string // the host that the file is for
	// Values are what the role of that host gives its own templates.
	Values any
	Epoch  farm.Epoch // 0 if there has never been a primary
	// Hosts are all of them, by name, and Roles those that are up by their role.
	Hosts []membership.Host
	Roles map[string][]membership.Host
	// Primary is nil while there is none; Replicas are those that are up.
	Primary  *membership.Host
	Replicas []membership.Host
}

// NewView returns what templates see of a membership.
func NewView(node string, s membership.Snapshot) View {
	v := View{Node: node, Epoch: s.Epoch, Hosts: s.Hosts, Roles: map[string][]membership.Host{}}
	for _, h := range s.Hosts {
		if h.State == membership.Up {
			v.Roles[h.Role] = append(v.Roles[h.Role], h)
		}
	}
	if primary, ok := s.Primary(); ok {
		v.Primary = &primary
	}
	v.Replicas = v.Roles[string(farm.Replica)]
	return v
}

// Parse reads a template and says what is wrong with its text.
func Parse(path string) (*template.Template, error) {
	text, err := filewatch.Read(path, maxTemplate)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("template %s is larger than %d bytes", path, maxTemplate)
	}
	return parse(path, string(text))
}

func parse(name, text string) (*template.Template, error) {
	return template.New(name).Option("missingkey=error").Funcs(View{}.functions()).Parse(text)
}

// functions are what a template can call.
func (v View) functions() template.FuncMap {
	return template.FuncMap{
		"host":    hostOf,
		"port":    portOf,
		"join":    strings.Join,
		"up":      func(role string) []membership.Host { return v.Roles[role] },
		"members": func(role string) []membership.Host { return v.members(role) },
		"slots":   func(role string) []membership.Host { return v.slots(role) },
	}
}

// hostOf returns an address without its port, if it has one.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// portOf returns the port of an address that must have one.
func portOf(address string) (string, error) {
	_, port, err := net.SplitHostPort(address)
	return port, err
}

func (t Template) parse() (*template.Template, error) {
	if t.Text != "" {
		return parse(t.Source, t.Text)
	}
	return Parse(t.Source)
}

// Render returns the content that the file is to have.
func (t Template) Render(v View) ([]byte, error) {
	parsed, err := t.parse()
	if err != nil {
		return nil, err
	}
	parsed.Funcs(v.functions())
	var out bounded
	if err := parsed.Execute(&out, v); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// bounded is a buffer that refuses more than a file should have.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxResult {
		return 0, fmt.Errorf("the result is larger than %d bytes", maxResult)
	}
	return b.Buffer.Write(p)
}

// Apply makes the file what it is to be. If it is already, nothing is run, but
// for a reload that did not succeed last time. state is a directory in which
// that is noted.
func (t Template) Apply(ctx context.Context, v View, state string) (changed bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", t.Destination, err)
		}
	}()
	content, err := t.Render(v)
	if err != nil {
		return false, err
	}
	id := sha256.Sum256([]byte(t.Destination))
	due := filepath.Join(state, "reload-"+hex.EncodeToString(id[:8]))
	old, err := filewatch.Read(t.Destination, maxResult)
	switch {
	case err == nil && bytes.Equal(old, content):
		if _, err := os.Stat(due); err == nil {
			return false, t.reload(ctx, due)
		}
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	check := func(temporary string) error {
		if err := t.check(ctx, temporary); err != nil {
			return err
		}
		if !t.reloads() {
			return nil
		}
		// Before the file is there: one reload too many is better than none.
		return os.WriteFile(due, []byte(t.Destination+"\n"), 0o600)
	}
	if err := atomicfile.Write(t.Destination, content, t.Mode, check); err != nil {
		return false, err
	}
	return true, t.reload(ctx, due)
}

func (t Template) reloads() bool { return len(t.Reload) > 0 || t.Signal != nil }

func (t Template) check(ctx context.Context, temporary string) error {
	if len(t.Check) == 0 {
		return nil
	}
	args := make([]string, len(t.Check))
	for i, arg := range t.Check {
		args[i] = strings.ReplaceAll(arg, NewFile, temporary)
	}
	return t.run(ctx, "the check refuses the new file, the old one stays", args)
}

func (t Template) reload(ctx context.Context, due string) error {
	if !t.reloads() {
		return nil
	}
	if len(t.Reload) > 0 {
		if err := t.run(ctx, "the file is there, but the reload failed", t.Reload); err != nil {
			return err
		}
	}
	if t.Signal != nil {
		if err := t.Signal(); err != nil {
			return fmt.Errorf("the file is there, but the reload failed: %w", err)
		}
	}
	return os.Remove(due)
}

func (t Template) run(ctx context.Context, what string, args []string) error {
	o := command.Run(ctx, command.Command{Args: args, Limit: t.Limit, Grace: grace, Output: kept})
	if o.Status == command.OK {
		return nil
	}
	return fmt.Errorf("%s: %s: %w%s", what, args[0], o.Err, t.said(o.Output))
}

// said returns the beginning of a command's output for an error that is logged.
func (t Template) said(output []byte) string {
	secrets, err := mask.Read(t.Secrets)
	if err != nil {
		return fmt.Sprintf(" (what it said is withheld, since it could not be searched for secrets: %v)", err)
	}
	if text := strings.TrimSpace(secrets.Beginning(string(output))); text != "" {
		return ": " + text
	}
	return ""
}
