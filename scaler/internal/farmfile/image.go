package farmfile

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// WithImage returns the text of a farm file in which a role's image is another one. All
// else stays as it was written. name is the file's, for messages. A text in which that
// cannot be done without changing more is refused.
func WithImage(name, text, role, image string) (string, error) {
	want, err := Parse(name, []byte(text))
	if err != nil {
		return "", err
	}
	changed, there := want.Roles[role]
	if !there {
		return "", fmt.Errorf("%s: there is no role %s", name, role)
	}
	changed.Image = image
	want.Roles[role] = changed
	next, err := setImage(text, role, image)
	if err == nil {
		var now *Farm
		if now, err = Parse(name, []byte(next)); err == nil && !reflect.DeepEqual(now, want) {
			err = errors.New("more would change than that")
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s: image of role %s: it is to be %q, and that has to be written by hand: %w", name, role, image, err)
	}
	return next, nil
}

// setImage puts the image in the place of the one that is written there, or before the
// first of the role's keys.
func setImage(text, role, image string) (string, error) {
	file, err := parser.ParseBytes([]byte(text), 0)
	if err != nil {
		return "", err
	}
	if len(file.Docs) != 1 {
		return "", errors.New("the file is not one document")
	}
	node := file.Docs[0].Body
	for _, key := range []string{"roles", role} {
		entry := entryOf(node, key)
		if entry == nil {
			return "", fmt.Errorf("%s is not written there", key)
		}
		node = entry.Value
	}
	if entry := entryOf(node, "image"); entry != nil {
		return replaceAt(text, entry.Value, strings.TrimSpace(entry.Value.GetToken().Origin), image)
	}
	entries := entriesOf(node)
	if len(entries) == 0 {
		return "", errors.New("none of its keys is written there")
	}
	first := entries[0].Key
	after := ", "
	if m, ok := node.(*ast.MappingNode); !ok || !m.IsFlowStyle {
		after = "\n" + strings.Repeat(" ", first.GetToken().Position.Column-1)
	}
	return replaceAt(text, first, "", "image: "+image+after)
}

func entriesOf(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

func entryOf(n ast.Node, key string) *ast.MappingValueNode {
	for _, entry := range entriesOf(n) {
		if entry.Key.GetToken().Value == key {
			return entry
		}
	}
	return nil
}

// replaceAt puts now in the place of was, which is where the node begins.
func replaceAt(text string, n ast.Node, was, now string) (string, error) {
	at := n.GetToken().Position
	lines := strings.SplitAfter(text, "\n")
	if at.Line < 1 || at.Line > len(lines) || at.Column < 1 || at.Column-1 > len(lines[at.Line-1]) {
		return "", errors.New("its place is not found")
	}
	line := lines[at.Line-1]
	rest, ok := strings.CutPrefix(line[at.Column-1:], was)
	if !ok {
		return "", errors.New("its place is not found")
	}
	lines[at.Line-1] = line[:at.Column-1] + now + rest
	return strings.Join(lines, ""), nil
}
