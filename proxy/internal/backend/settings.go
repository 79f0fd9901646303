package backend

import "hash/maphash"

// Setting is a piece of session state that is carried from connection to
// connection by value.
type Setting struct {
	Name string // what it sets: "NAMES", "sql_mode", "@a"
	SQL  string // an assignment of a SET statement: "NAMES latin1", "SESSION sql_mode='…'"
}

// Settings are what a session has established by value on its connections, in
// the order in which it did. They are immutable; nil is none.
type Settings struct {
	list []Setting
	sum  uint64
	user bool // there are user variables among them
}

var settingsSeed = maphash.MakeSeed()

// NewSettings returns the settings of a list, which it keeps.
func NewSettings(list []Setting) *Settings {
	if len(list) == 0 {
		return nil
	}
	s := &Settings{list: list}
	for _, x := range list {
		// The order does not matter: what overrides another setting has taken it
		// out of the list.
		s.sum += maphash.String(settingsSeed, x.SQL)
		s.user = s.user || x.Name[0] == '@'
	}
	return s
}

// Equal tells whether two sessions have set the same.
func (s *Settings) Equal(o *Settings) bool {
	if s == o {
		return true
	}
	return s != nil && o != nil && s.sum == o.sum && len(s.list) == len(o.list)
}

// has tells whether a setting of that name is among them.
func (s *Settings) has(name string) bool {
	if s == nil {
		return false
	}
	for _, x := range s.list {
		if x.Name == name {
			return true
		}
	}
	return false
}

// Overrides tells whether everything that o sets is set by s, too: a connection
// with o is one with s after s has been established on it.
func (s *Settings) Overrides(o *Settings) bool {
	if o == nil {
		return true
	}
	for _, theirs := range o.list {
		if !s.has(theirs.Name) {
			return false
		}
	}
	return true
}
