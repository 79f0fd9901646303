package consistency

import "fmt"

// Level is what a read sees at least. The levels are ordered: each promises
// what the one before it does.
type Level uint8

// The levels.
const (
	// Eventual: whatever a server that is fit has.
	Eventual Level = iota
	// Session: what the session wrote, and never less than it has seen.
	Session
	// Farm: and whatever any client of any proxy had been told was committed
	// before the session's first read, or before its first read after a pause.
	Farm
	// Strict: the same before every read, so that reads are linearizable.
	Strict
)

var names = [...]string{"eventual", "session", "farm", "strict"}

func (l Level) String() string {
	if int(l) < len(names) {
		return names[l]
	}
	return fmt.Sprintf("Level(%d)", uint8(l))
}

// ParseLevel reads a level's name.
func ParseLevel(name string) (Level, error) {
	for i, n := range names {
		if n == name {
			return Level(i), nil
		}
	}
	return 0, fmt.Errorf("%q is no level of consistency; expected eventual, session, farm or strict", name)
}
