package volume

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"farmhand/internal/backup"
)

// Name is the name of a role's volume with an index, which is from 1.
func Name(role string, index int) string { return fmt.Sprintf("%s-%d", role, index) }

// Index is the index in the name of a role's volume; false for another name.
func Index(role, name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, role+"-")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n >= 1 && strconv.Itoa(n) == digits
}

// Choose is the name of the volume that a role's new instance gets. Pinned, it is the
// one with the lowest index that nobody has, with what is on it; else one that nobody
// ever had, which a launch that was cut short has made; else the lowest index that no
// volume has.
func Choose(role string, pinned bool, all []Volume) string {
	taken := map[int]bool{}
	free := 0
	for _, v := range all {
		index, ok := Index(role, v.Name)
		if !ok {
			continue
		}
		taken[index] = true
		unused := v.Epoch == 0 && v.From == ""
		if v.Instance == "" && v.Trouble == "" && (pinned || unused) && (free == 0 || index < free) {
			free = index
		}
	}
	if free != 0 {
		return Name(role, free)
	}
	index := 1
	for taken[index] {
		index++
	}
	return Name(role, index)
}

// Prune says what becomes of each snapshot, volume by volume, the newest first: which
// rules keep it, or that it may go.
func Prune(p backup.Policy, all []Snapshot, now time.Time) []backup.Verdict {
	byVolume := map[string][]backup.Candidate{}
	var names []string
	for _, s := range all {
		if byVolume[s.Volume] == nil {
			names = append(names, s.Volume)
		}
		byVolume[s.Volume] = append(byVolume[s.Volume], backup.Candidate{ID: s.ID, Ended: s.Taken, Good: true})
	}
	slices.Sort(names)
	var verdicts []backup.Verdict
	for _, name := range names {
		verdicts = append(verdicts, p.Decide(byVolume[name], now)...)
	}
	return verdicts
}
