package wire

// InRows reports whether the next packet is a row, for tests that count them.
func (t *Tracker) InRows() bool { return t.phase == phaseRows || t.phase == phaseFields }
