package checker

import (
	"fmt"
	"time"
)

// session is what one session must see, so far.
type session struct {
	own       map[object]mark // what it has written
	seen      map[object]mark // what it has read
	read      bool            // it has had its first read since it was new or idle
	from      time.Duration   // when that read began
	lastEnded time.Duration
	began     bool
}

// checkReads holds every read against every level.
func checkReads(r *Report, history []Op, objects map[object]*states, lists map[int]*list, rules Rules) {
	collectShown(history, objects, lists)
	sessions := map[int]*session{}
	for i := range history {
		op := &history[i]
		s := sessions[op.Session]
		if s == nil {
			s = &session{own: map[object]mark{}, seen: map[object]mark{}}
			sessions[op.Session] = s
		}
		if s.began && op.Invoke-s.lastEnded >= rules.Pause {
			s.read = false
		}
		s.began, s.lastEnded = true, op.Complete
		// A first read that failed is the first one all the same.
		if op.Action.Reads() && !s.read {
			s.read, s.from = true, op.Invoke
		}
		if op.Outcome != OK {
			continue
		}
		switch op.Action {
		case Write:
			o := object{number: op.Object}
			s.own[o] = mark{op.Complete, op.Value, op}
		case Append:
			o := object{list: true, number: op.Object}
			// A lost element has no version; checkFinal reports it.
			if v := lists[op.Object].version[op.Value]; v > s.own[o].version {
				s.own[o] = mark{op.Complete, v, op}
			}
		}
		if !op.Action.Reads() {
			continue
		}
		j := judgement{level: levels}
		switch op.Action {
		case ReadRegisters:
			for n, version := range op.Values {
				j.judge(s, op, object{number: n}, objects, version)
			}
		case ReadList:
			j.judge(s, op, object{list: true, number: op.Object}, objects, int64(len(op.Values)))
		}
		j.report(r, op, rules.Level)
	}
}

// collectShown notes what reads have shown, for Undone.
func collectShown(history []Op, objects map[object]*states, lists map[int]*list) {
	note := func(o object, version int64, op *Op) {
		if s := objects[o]; version > 0 {
			s.shown = append(s.shown, mark{op.Complete, version, op})
		}
	}
	for i := range history {
		op := &history[i]
		if op.Outcome != OK {
			continue
		}
		switch op.Action {
		case ReadRegisters:
			for n, version := range op.Values {
				note(object{number: n}, version, op)
			}
		case ReadList:
			note(object{list: true, number: op.Object}, int64(len(op.Values)), op)
		}
	}
	for _, s := range objects {
		s.shown = rising(s.shown)
	}
}

// judgement is what is wrong with one read, over all objects that it shows.
type judgement struct {
	level  Level // the weakest that is broken
	oldest [levels]time.Duration
	broken [levels]*Violation
	undone bool
	odd    []Violation // what no level allows
}

// judge holds the version of one object against what had to be seen, and notes
// that the session has seen it.
func (j *judgement) judge(s *session, op *Op, o object, objects map[object]*states, version int64) {
	known := objects[o]
	if version > 0 {
		w := known.writes[version]
		switch {
		case w == nil:
			j.odd = append(j.odd, Violation{Phantom, fmt.Sprintf("version %d of %v, which nobody wrote", version, o), op, nil})
		case w.Outcome == Failed:
			j.odd = append(j.odd, Violation{Raised, fmt.Sprintf("version %d of %v is shown", version, o), op, w})
		case w.Invoke > op.Complete:
			j.odd = append(j.odd, Violation{Phantom, fmt.Sprintf("version %d of %v before it was written", version, o), op, w})
		}
	}
	demand := func(l Level, p Problem, floor mark, since time.Duration) {
		if floor.op == nil || version >= floor.version {
			return
		}
		j.oldest[l] = max(j.oldest[l], op.Invoke-since)
		if j.broken[l] == nil {
			j.broken[l] = &Violation{p, fmt.Sprintf("%v shows version %d, but version %d was known %v before the read began", o, version, floor.version, op.Invoke-since), op, floor.op}
		}
		j.level = min(j.level, l)
	}
	// What was acknowledged was missed since the acknowledgement of the first
	// version that is missing.
	acked := func(floor mark) time.Duration {
		if floor.version <= version {
			return floor.at
		}
		return missed(known.acked, version).at
	}
	own, seen := s.own[o], s.seen[o]
	demand(Session, OwnMissed, own, own.at)
	demand(Session, WentBack, seen, seen.at)
	first, now := before(known.acked, s.from), before(known.acked, op.Invoke)
	demand(Farm, FarmMissed, first, acked(first))
	demand(Strict, StrictMissed, now, acked(now))
	if before(known.shown, op.Invoke).version > version && now.version <= version && seen.version <= version {
		j.undone = true
	}
	if version >= seen.version {
		s.seen[o] = mark{op.Complete, version, op}
	}
}

func (j *judgement) report(r *Report, op *Op, promised Level) {
	for l := j.level; l < levels; l++ {
		r.Stale[l]++
		for weaker := Session; weaker <= l; weaker++ {
			r.Oldest[l] = max(r.Oldest[l], j.oldest[weaker])
		}
	}
	for l := Session; l <= promised; l++ {
		if v := j.broken[l]; v != nil {
			r.add(*v)
		}
	}
	for _, v := range j.odd {
		r.add(v)
	}
	if j.undone {
		r.Undone++
	}
}

func (o object) String() string {
	if o.list {
		return fmt.Sprintf("list %d", o.number)
	}
	return fmt.Sprintf("register %d", o.number)
}

// checkForks looks for two reads of the registers of which neither shows a
// state that came before the other's: servers that committed in different
// orders.
func checkForks(r *Report, history []Op) {
	var reads []*Op
	for i := range history {
		if op := &history[i]; op.Action == ReadRegisters && op.Outcome == OK {
			reads = append(reads, op)
		}
	}
	forks(reads, func(a, b *Op) {
		r.add(Violation{Forked, fmt.Sprintf("registers %v and %v", a.Values, b.Values), b, a})
	})
}
