package volume

// Machine is what a machine has, for tests of those that lack something.
type Machine struct {
	Root  string
	Look  func(string) (string, error)
	Right func(int) bool
}

// On returns the volumes as on another machine.
func (l *Local) On(change func(*Machine)) *Local {
	m := Machine{l.machine.root, l.machine.look, l.machine.right}
	change(&m)
	other := *l
	other.machine = machine{m.Root, m.Look, m.Right}
	return &other
}

// Able says why there can be no volume but a directory.
func (l *Local) Able() error { return l.machine.able() }
