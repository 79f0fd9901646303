package farmfile

import (
	"strings"

	"github.com/goccy/go-yaml/ast"

	"farmhand/internal/service"
)

// Command is a program and its arguments. No shell is between.
type Command []string

// wordPattern is a command that can be given as text: words, with blanks between,
// that mean the same to a shell. It begins with a program.
const wordPattern = `^[A-Za-z0-9_./][A-Za-z0-9_./@%+=:,{}-]*( +[A-Za-z0-9_./@%+=:,{}-]+)*$`

// listedPattern is a word in a list.
const listedPattern = `^[^\x00-\x1f\x7f-\x9f]{0,1000}$`

// Bounds of a command.
const (
	maxWords = 64
	maxWord  = 1000 // characters
)

// UnmarshalYAML reads text, which is split at its blanks, or a list of words.
func (c *Command) UnmarshalYAML(n ast.Node) error {
	if n.Type() == ast.SequenceType {
		var words []string
		if err := over(n, &words); err != nil {
			return err
		}
		if len(words) > maxWords || len(words) > 0 && words[0] == "" {
			return service.ErrorAt(n, "expected a program and at most %d arguments", maxWords-1)
		}
		for _, word := range words {
			if !matches(listedPattern, word) {
				return service.ErrorAt(n, "%q is not possible; expected words of at most %d characters, without control characters", word, maxWord)
			}
		}
		*c = words
		return nil
	}
	text, err := service.Scalar(n, "a command: text, or a list of words")
	if err != nil {
		return err
	}
	if text == "" {
		*c = Command{}
		return nil
	}
	if !matches(wordPattern, text) {
		return service.ErrorAt(n, "no shell runs the command, and this has more than words in it; expected a list of words such as [php, -l, \"{file}\"]")
	}
	words := strings.Fields(text)
	if len(words) > maxWords {
		return service.ErrorAt(n, "expected a program and at most %d arguments", maxWords-1)
	}
	*c = words
	return nil
}
