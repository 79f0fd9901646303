package console

import (
	"testing"

	"farmhand/proxy/internal/classify"
)

const known = "SELECT option_value FROM wp_options WHERE option_name = 'siteurl' LIMIT 1"

// BenchmarkCount counts a statement whose digest is known.
func BenchmarkCount(b *testing.B) {
	d, mode, text := NewDigests(100), classify.Mode{MariaDB: true, Version: 101119}, []byte(known)
	b.ReportAllocs()
	for b.Loop() {
		d.Count(classify.Fingerprint(text, mode), text, mode, true)
	}
}

func TestNoAllocation(t *testing.T) {
	d, mode, text := NewDigests(100), classify.Mode{MariaDB: true, Version: 101119}, []byte(known)
	d.Count(classify.Fingerprint(text, mode), text, mode, true)
	if n := testing.AllocsPerRun(100, func() { d.Count(classify.Fingerprint(text, mode), text, mode, true) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
