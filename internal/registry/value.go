package registry

// Value is what a record holds.
type Value struct {
	Data []byte // nil if there is no such record
	// Revision is the registry's when the value was written; 0 if there is none.
	Revision int64
	// Lost is why the value may be old: the registry cannot be reached. Data is then
	// what was known last, nil also if nothing was ever known.
	Lost error
}
