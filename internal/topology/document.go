package topology

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxDepth is well beyond the five levels that a topology has.
const maxDepth = 16

type kind uint8

const (
	null kind = iota
	boolean
	number
	text
	list
	object
)

func (k kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}[k]
}

// node is one JSON value and where it begins. Decoding into a struct would lose
// the place that a later complaint has to name.
type node struct {
	kind    kind
	offset  int
	text    string // of a text or a number
	items   []node // of a list
	members []member
}

type member struct {
	key    string
	offset int // of the key
	value  node
}

// readDocument reads data as exactly one JSON value. On an error the offset says
// where it is.
func readDocument(data []byte) (root node, offset int, err error) {
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		return node{}, 0, errors.New("the file begins with a byte order mark; expected plain UTF-8")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return node{}, 0, errEmpty
	}
	if i := invalidUTF8(data); i >= 0 {
		return node{}, i, errors.New("this is not UTF-8 text")
	}
	// Unmarshal checks the grammar of the whole before it stores anything, so
	// the walk over the tokens below meets well-formed text only.
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		var syntax *json.SyntaxError
		if !errors.As(err, &syntax) {
			return node{}, 0, err
		}
		if strings.HasPrefix(syntax.Error(), "unexpected end") {
			return node{}, len(data), errors.New("the file ends in the middle of a value; it may be half-written")
		}
		return node{}, int(syntax.Offset) - 1, fmt.Errorf("not JSON: %w", syntax)
	}
	r := reader{data: data, tokens: json.NewDecoder(bytes.NewReader(data))}
	r.tokens.UseNumber()
	root, err = r.value(0)
	return root, r.at, err
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

type reader struct {
	data   []byte
	tokens *json.Decoder
	at     int // where the last token began
}

func (r *reader) next() (json.Token, error) {
	at := int(r.tokens.InputOffset())
	for at < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[at]) >= 0 {
		at++
	}
	r.at = at
	return r.tokens.Token()
}

func (r *reader) value(depth int) (node, error) {
	token, err := r.next()
	if err != nil {
		return node{}, err
	}
	n := node{offset: r.at}
	switch token := token.(type) {
	case bool:
		n.kind = boolean
	case json.Number:
		n.kind, n.text = number, token.String()
	case string:
		n.kind, n.text = text, token
	case json.Delim:
		if depth == maxDepth {
			return node{}, fmt.Errorf("values are nested more than %d levels deep", maxDepth)
		}
		if token == '[' {
			n.kind = list
			err = r.list(&n, depth+1)
		} else {
			n.kind = object
			err = r.object(&n, depth+1)
		}
	}
	return n, err
}

func (r *reader) list(n *node, depth int) error {
	for r.tokens.More() {
		item, err := r.value(depth)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	_, err := r.next() // the closing bracket
	return err
}

func (r *reader) object(n *node, depth int) error {
	seen := make(map[string]int)
	for r.tokens.More() {
		token, err := r.next()
		if err != nil {
			return err
		}
		key, at := token.(string), r.at
		if first, twice := seen[key]; twice {
			line, _ := position(r.data, first)
			return fmt.Errorf("the key %q stands twice in one object; first in line %d", key, line)
		}
		seen[key] = at
		value, err := r.value(depth)
		if err != nil {
			return err
		}
		n.members = append(n.members, member{key, at, value})
	}
	_, err := r.next() // the closing brace
	return err
}

// position returns the line and the column, in characters, both from 1, of the
// byte at offset.
func position(data []byte, offset int) (line, column int) {
	before := data[:min(max(offset, 0), len(data))]
	line = 1 + bytes.Count(before, []byte{'\n'})
	column = 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return line, column
}
