package classify

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

// hashWord is FNV-1a over the word in capitals.
func hashWord(word []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range word {
		h = (h ^ uint32(upper(c))) * 16777619
	}
	return h
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
