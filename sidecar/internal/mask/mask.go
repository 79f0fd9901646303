// Package mask takes secrets out of what other programs say before it is logged
// or journaled.
//
// It knows the secrets in the files that it was told of, and what looks like one
// by the name in front of it. It does not recognise a secret that was encoded.
package mask

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"farmhand/internal/service"
)

// Masked stands where a secret was.
const Masked = "***"

// minSecret is how long a secret must be to be looked for: a shorter one would
// tear holes into every word.
const minSecret = 4

// looksSecret finds name=value and name: value where the name says that the
// value is nobody's business, with or without quotes, also in JSON and in URLs.
var looksSecret = regexp.MustCompile(
	`(?i)([a-z0-9_.-]*(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|authorization)[a-z0-9_.-]*["']?\s*[=:]\s*)` +
		`("(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?|(?:bearer|basic)[ \t]+\S+|\S+)`)

// inURL finds the password of scheme://user:password@host.
var inURL = regexp.MustCompile(`(://[^\s/:@]*:)[^\s/@]+(@)`)

// Mask takes secrets out of texts. The zero value knows what looks like one.
type Mask struct{ secrets []string } // longest first

// Read reads the files that hold secrets.
func Read(files []string) (Mask, error) {
	var secrets []string
	for _, file := range files {
		secret, err := service.ReadSecret(file)
		if err != nil {
			return Mask{}, err
		}
		secrets = append(secrets, secret)
		// A hook may print a secret of several lines line by line.
		if strings.Contains(secret, "\n") {
			secrets = append(secrets, strings.FieldsFunc(secret, func(r rune) bool { return r == '\n' || r == '\r' })...)
		}
	}
	secrets = slices.DeleteFunc(secrets, func(s string) bool { return len(s) < minSecret })
	// Of two secrets one of which begins the other the whole is to go.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return Mask{secrets}, nil
}

// Longest is the length of the longest secret.
func (m Mask) Longest() int {
	if len(m.secrets) == 0 {
		return 0
	}
	return len(m.secrets[0])
}

// Text returns s without secrets.
func (m Mask) Text(s string) string { return byName(m.known(s, false)) }

// Beginning is Text for a text of which more followed: its end may be the
// beginning of a secret.
func (m Mask) Beginning(s string) string { return byName(m.known(s, true)) }

// known takes out the secrets from the files, and, if more followed, the end that
// may have become one.
func (m Mask) known(s string, more bool) string {
	if len(m.secrets) == 0 {
		return s
	}
	var clean strings.Builder
	for i := 0; i < len(s); {
		rest := s[i:]
		begins := func(secret string) bool { return len(rest) < len(secret) && strings.HasPrefix(secret, rest) }
		if more && slices.ContainsFunc(m.secrets, begins) {
			break
		}
		whole := slices.IndexFunc(m.secrets, func(secret string) bool { return strings.HasPrefix(rest, secret) })
		if whole < 0 {
			clean.WriteByte(s[i])
			i++
			continue
		}
		clean.WriteString(Masked)
		i += len(m.secrets[whole])
	}
	return clean.String()
}

// byName takes out what looks like a secret.
func byName(s string) string {
	s = looksSecret.ReplaceAllString(s, "${1}"+Masked)
	return inURL.ReplaceAllString(s, "${1}"+Masked+"${2}")
}

// Fields returns fields without secrets; a field may say by its name that it is
// one.
func (m Mask) Fields(fields map[string]string) map[string]string {
	if len(fields) == 0 {
		return nil
	}
	clean := make(map[string]string, len(fields))
	for key, value := range fields {
		// With its name, which may say that it is a secret.
		if looksSecret.MatchString(key + "=x") {
			value = Masked
		}
		clean[key] = m.Text(value)
	}
	return clean
}
