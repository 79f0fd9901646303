package classify

import "testing"

// TestClosing: the quick search for a closing quote finds what a walk over the
// bytes does, in every short text that is made of what matters to it.
func TestClosing(t *testing.T) {
	const alphabet = "'`\\a\x00"
	const longest = 6
	var walk func(text []byte)
	walk = func(text []byte) {
		l := newLexer(text, mariadbMode)
		for _, quote := range []byte("'`") {
			for _, escapes := range []bool{false, quote != '`'} {
				for from := range len(text) + 1 {
					got, want := l.closing(from, quote, escapes), l.closingByBytes(from, quote, escapes)
					if got != want {
						t.Fatalf("%q from %d, quote %c, escapes %v: %d, want %d", text, from, quote, escapes, got, want)
					}
				}
			}
		}
		if len(text) == longest {
			return
		}
		for _, c := range []byte(alphabet) {
			walk(append(text[:len(text):len(text)], c))
		}
	}
	walk(nil)
}
