package classify

import (
	"encoding/binary"
	"math/bits"
)

// wordIndex finds the number of a word in a table of rules, whatever its case
// and without allocating. Number 0 is "not in the table".
type wordIndex struct {
	names []string // in capitals
	slots []uint16 // open addressing, a power of two
	long  int      // length of the longest name
}

// newWordIndex indexes the words name(1) … name(count-1); an empty name is
// left out.
func newWordIndex(count int, name func(int) string) *wordIndex {
	size := 64
	for size < 4*count {
		size *= 2
	}
	x := &wordIndex{names: make([]string, count), slots: make([]uint16, size)}
	for i := 1; i < count; i++ {
		x.names[i] = name(i)
		if x.names[i] == "" {
			continue
		}
		x.long = max(x.long, len(x.names[i]))
		h := hashWord([]byte(x.names[i])) & uint32(size-1)
		for x.slots[h] != 0 {
			h = (h + 1) & uint32(size-1)
		}
		x.slots[h] = uint16(i)
	}
	return x
}

func (x *wordIndex) lookup(word []byte) int {
	if len(word) > x.long {
		return 0
	}
	mask := uint32(len(x.slots) - 1)
	for h := hashWord(word) & mask; x.slots[h] != 0; h = (h + 1) & mask {
		if i := int(x.slots[h]); equalFold(word, x.names[i]) {
			return i
		}
	}
	return 0
}

// hashWord is the same for a word in small letters and in capitals. It looks at
// the first eight bytes and at the last eight, which may be some of the same.
func hashWord(word []byte) uint32 {
	const (
		noCase = 0xdfdfdfdfdfdfdfdf // without the bit that tells a from A
		mix    = 0x9e3779b97f4a7c15
	)
	var head, tail uint64
	switch n := len(word); {
	case n >= 8:
		head, tail = binary.LittleEndian.Uint64(word), binary.LittleEndian.Uint64(word[n-8:])
	case n >= 4:
		head, tail = uint64(binary.LittleEndian.Uint32(word)), uint64(binary.LittleEndian.Uint32(word[n-4:]))
	case n >= 2:
		head, tail = uint64(binary.LittleEndian.Uint16(word)), uint64(binary.LittleEndian.Uint16(word[n-2:]))
	case n == 1:
		head = uint64(word[0])
	}
	h := (head&noCase ^ bits.RotateLeft64(tail&noCase, 29) ^ uint64(len(word))) * mix
	return uint32(h >> 32)
}

// upper folds ASCII letters; the names in the tables are all ASCII.
func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c - ('a' - 'A')
	}
	return c
}

// equalFold reports whether word is name, which is in capitals, but for case.
func equalFold(word []byte, name string) bool {
	if len(word) != len(name) {
		return false
	}
	for i, c := range word {
		if upper(c) != name[i] {
			return false
		}
	}
	return true
}
