package hook

import (
	"os"
	"strings"
	"testing"
)

func TestJournalIsBounded(t *testing.T) {
	dir := t.TempDir()
	j, err := OpenJournal(dir, 10_000)
	must(t, err)
	for i := range 1000 {
		must(t, j.Write(Record{Event: "e", Attempt: i + 1, Result: "ok", Output: strings.Repeat("x", 100)}))
	}
	must(t, j.Close())
	for _, path := range []string{journalPath(dir), journalPath(dir) + ".1"} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Size() > 10_000 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %d bytes, %v", path, info.Size(), info.Mode())
		}
	}
	last, count := 0, 0
	spoilt, err := ReadJournal(dir, func(r Record) {
		if last != 0 && r.Attempt != last+1 {
			t.Errorf("%d after %d", r.Attempt, last)
		}
		last = r.Attempt
		count++
	})
	if err != nil || spoilt != 0 || last != 1000 || count < 40 {
		t.Errorf("%v, %d spoilt, %d read, the last is %d", err, spoilt, count, last)
	}
}

// TestJournalAfterACrash: a line cut short spoils itself only.
func TestJournalAfterACrash(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(journalPath(dir), []byte("{\"event\":\"a\",\"result\":\"ok\"}\n{\"event\":\"b\",\"re"), 0o600))
	j, err := OpenJournal(dir, 10_000)
	must(t, err)
	must(t, j.Write(Record{Event: "c"}))
	must(t, j.Close())
	var got []string
	spoilt, err := ReadJournal(dir, func(r Record) { got = append(got, r.Event) })
	if err != nil || spoilt != 1 || strings.Join(got, "") != "ac" {
		t.Errorf("%v, %d spoilt, read %v", err, spoilt, got)
	}
	if spoilt, err := ReadJournal(t.TempDir(), func(Record) { t.Error("a record") }); err != nil || spoilt != 0 {
		t.Errorf("no journal: %v", err)
	}
}
