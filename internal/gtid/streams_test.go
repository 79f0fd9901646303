package gtid_test

import (
	"maps"
	"testing"

	"farmhand/internal/gtid"
)

func TestStreams(t *testing.T) {
	s, err := gtid.ParseStreams("1-4-9, 0-3-12,0-1-7,0-2-11")
	if err != nil {
		t.Fatal(err)
	}
	if want := (gtid.Streams{{1, 4}: 9, {0, 3}: 12, {0, 1}: 7, {0, 2}: 11}); !maps.Equal(s, want) {
		t.Errorf("%v", s)
	}
	if got := s.String(); got != "0-1-7,0-2-11,0-3-12,1-4-9" {
		t.Error(got)
	}
	if got := s.Domains(); !maps.Equal(got, map[uint32]uint64{0: 12, 1: 9}) {
		t.Errorf("%v", got)
	}
	if s, err = gtid.ParseStreams(""); err != nil || len(s) != 0 || s.String() != "" {
		t.Errorf("%v, %v", s, err)
	}
}

func TestParseStreamsRefuses(t *testing.T) {
	for _, text := range []string{"0", "0-1", "0-1-2-3", "0-1-x", "0--1", "4294967296-1-1", "0-1-18446744073709551616", "0-1-2;0-2-3"} {
		if s, err := gtid.ParseStreams(text); err == nil {
			t.Errorf("%q: %v", text, s)
		}
	}
}
