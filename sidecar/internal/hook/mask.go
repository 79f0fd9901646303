package hook

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"farmhand/internal/service"
)

// masked stands where a secret was.
const masked = "***"

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

// mask takes secrets out of a text.
type mask struct{ secrets []string } // longest first

// readMask reads the files that hold secrets.
func readMask(files []string) (mask, error) {
	var secrets []string
	for _, file := range files {
		secret, err := service.ReadSecret(file)
		if err != nil {
			return mask{}, err
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
	return mask{secrets}, nil
}

// longest is the length of the longest secret.
func (m mask) longest() int {
	if len(m.secrets) == 0 {
		return 0
	}
	return len(m.secrets[0])
}

func (m mask) text(s string) string {
	for _, secret := range m.secrets {
		s = strings.ReplaceAll(s, secret, masked)
	}
	s = looksSecret.ReplaceAllString(s, "${1}"+masked)
	return inURL.ReplaceAllString(s, "${1}"+masked+"${2}")
}

// beginning masks a text of which more followed: its end may be the beginning of
// a secret.
func (m mask) beginning(s string) string {
	for n := min(m.longest()-1, len(s)); n > 0; n-- {
		end := s[len(s)-n:]
		if slices.ContainsFunc(m.secrets, func(secret string) bool { return strings.HasPrefix(secret, end) }) {
			s = s[:len(s)-n]
			break
		}
	}
	return m.text(s)
}

func (m mask) fields(fields map[string]string) map[string]string {
	if len(fields) == 0 {
		return nil
	}
	clean := make(map[string]string, len(fields))
	for key, value := range fields {
		// With its name, which may say that it is a secret.
		if looksSecret.MatchString(key + "=x") {
			value = masked
		}
		clean[key] = m.text(value)
	}
	return clean
}
