package classify

import (
	"slices"
	"testing"
)

func TestLocks(t *testing.T) {
	for _, c := range []struct {
		sql             string
		taken, released []string
		known           bool
	}{
		{"SELECT GET_LOCK('a', 0)", []string{"a"}, nil, true},
		{"SELECT GET_LOCK('a', 0), get_lock ('b', 1) AS x", []string{"a", "b"}, nil, true},
		{"DO GET_LOCK('a', 0), RELEASE_LOCK('a')", []string{"a"}, nil, true},
		{"SELECT RELEASE_LOCK('a')", nil, []string{"a"}, true},
		{"DO RELEASE_LOCK('it''s')", nil, []string{"it's"}, true},
		{"SELECT RELEASE_LOCK('a'), RELEASE_LOCK('b')", nil, nil, true}, // which is not counted: the session stays bound
		{"SELECT RELEASE_LOCK(@a)", nil, nil, true},
		{"SELECT IF(0, RELEASE_LOCK('a'), 1)", nil, nil, true},
		{"SELECT 0 AND RELEASE_LOCK('a')", nil, nil, true},
		{"SELECT RELEASE_LOCK('a') FROM t", nil, nil, false},
		{"SELECT RELEASE_ALL_LOCKS()", nil, []string{""}, true},
		{"SELECT RELEASE_ALL_LOCKS(), GET_LOCK('a', 0)", []string{"a"}, nil, true},
		{"SELECT GET_LOCK(@a, 0)", nil, nil, false},
		{"SELECT GET_LOCK(CONCAT('a', 'b'), 0)", nil, nil, false},
		{"SELECT GET_LOCK('a' 'b', 0)", nil, nil, false},
		{"SELECT GET_LOCK('a', 0) FROM t", []string{"a"}, nil, false},
		{"SELECT 1 FROM t WHERE GET_LOCK('a', 0)", []string{"a"}, nil, false},
		{"SELECT GET_LOCK('a", nil, nil, false},
	} {
		var taken, released []string
		known := Locks([]byte(c.sql), Mode{MariaDB: true, Version: 101119},
			func(n []byte) { taken = append(taken, string(n)) }, func(n []byte) { released = append(released, string(n)) })
		if known != c.known || !slices.Equal(taken, c.taken) || !slices.Equal(released, c.released) {
			t.Errorf("%s: takes %q, releases %q, known %v", c.sql, taken, released, known)
		}
	}
}
