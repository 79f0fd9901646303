package safekeep

import (
	"fmt"
	"slices"
	"time"

	"farmhand/internal/gtid"
)

// Meter is what would be lost now.
type Meter struct {
	// Primary is what would be lost with the server that takes the writes, Everything
	// what would be lost with all servers of the farm.
	Primary    Loss `json:"primary"`
	Everything Loss `json:"everything"`
}

// Loss is how much would be lost: acknowledged commits only.
type Loss struct {
	// Known: the rest says something.
	Known bool `json:"known"`
	// Seconds are the last ones whose commits would be lost; 0 for none.
	Seconds float64 `json:"seconds"`
	// Transactions is about how many; -1 is not known.
	Transactions int64 `json:"transactions"`
	// Text says it for people, with its reason.
	Text string `json:"text"`
}

func unknown(format string, args ...any) Loss {
	return Loss{Transactions: -1, Text: "unknown: " + fmt.Sprintf(format, args...)}
}

// Measure says what would be lost now.
func Measure(v View, p Policy) Meter {
	return Meter{Primary: withPrimary(v), Everything: withAll(v, p)}
}

// withPrimary: what clients were told is committed waits for a replica, or it may be
// on the primary alone.
func withPrimary(v View) Loss {
	leader, ok := v.Assignment.Leader()
	if !ok {
		return unknown("nobody leads")
	}
	seen := v.Servers[leader.Name]
	if seen.Database == nil || seen.DatabaseAge > fresh {
		return unknown("nothing is heard of %s", leader.Name)
	}
	if len(v.Assignment.Servers) == 1 {
		return Loss{Known: true, Transactions: -1, Seconds: -1, Text: "everything but what the archive has: there is no replica"}
	}
	if v.Assignment.SemiSync && seen.Database.SemiSync && v.Assignment.Durable {
		return Loss{Known: true, Text: "nothing: commits wait for a replica, and all before are on one"}
	}
	// The replica that has the most.
	own, err := gtid.Parse(seen.Database.Flavor, seen.Database.Executed)
	if err != nil || seen.Database.Executed == "" {
		return unknown("the position of %s is", leader.Name)
	}
	best, behind, missing := "", time.Duration(0), int64(-1)
	for _, s := range v.Assignment.Servers {
		r := v.Servers[s.Name]
		if s.Name == leader.Name || r.Database == nil || r.DatabaseAge > fresh || r.Database.Received == "" {
			continue
		}
		received, err := gtid.Parse(r.Database.Flavor, r.Database.Received)
		if err != nil {
			continue
		}
		late := r.DatabaseAge
		if a := r.Database.ReceivedAge; a != nil {
			late += *a
		}
		n := between(received, own)
		if best == "" || n < missing || n == missing && late < behind {
			best, behind, missing = s.Name, late, n
		}
	}
	if best == "" {
		return Loss{Known: true, Transactions: -1, Seconds: -1, Text: "everything but what the archive has: no replica is heard, and commits do not wait for one"}
	}
	return Loss{
		Known: true, Seconds: behind.Seconds(), Transactions: missing,
		Text: fmt.Sprintf("about %d transactions, of the last %.1f s: commits do not wait for a replica; %s has the most", missing, behind.Seconds(), best),
	}
}

// between is about how many transactions b has beyond a.
func between(a, b gtid.Position) (n int64) {
	count := func(p gtid.Position) map[uint32]uint64 {
		streams, err := gtid.ParseStreams(p.String())
		if err != nil {
			return nil
		}
		return streams.Domains()
	}
	has := count(a)
	for domain, last := range count(b) {
		if last > has[domain] {
			n += int64(last - has[domain])
		}
	}
	return n
}

// withAll: what the store has is left.
func withAll(v View, p Policy) Loss {
	if p.Store == "" {
		return Loss{Known: true, Transactions: -1, Seconds: -1, Text: "everything: the farm file has no store for backups"}
	}
	if v.Stock == nil {
		return unknown("it is not known what the store has%s", because(v.StockError))
	}
	if v.Stock.Newest < 0 {
		return Loss{Known: true, Transactions: -1, Seconds: -1, Text: "everything: there is no full backup yet"}
	}
	full := v.Stock.Fulls[v.Stock.Newest]
	if v.Stock.Open {
		return Loss{Known: true, Transactions: -1, Seconds: v.age(v.Stock.Until, full.Ended), Text: "all since " + later(v.Stock.Until, full.Ended).UTC().Format(time.RFC3339) + ": the archive has a gap there"}
	}
	if v.Plan == nil || v.Plan.Archive == nil {
		return unknown("nobody archives")
	}
	node := v.Plan.Archive.Node
	r := v.Servers[node]
	switch {
	case r.Backup == nil || r.Backup.Archive == nil || r.Backup.Archive.Epoch != v.Plan.Archive.Epoch:
		return unknown("%s does not archive yet", node)
	case r.Backup.Archive.Unstored == nil:
		return unknown("%s does not know yet what it has to archive%s", node, because(r.Backup.Archive.Error))
	}
	seconds := (*r.Backup.Archive.Unstored + r.BackupAge).Seconds()
	loss := Loss{Known: true, Seconds: seconds, Transactions: -1, Text: fmt.Sprintf("the commits of the last %.1f s: all before are in the store", seconds)}
	if own := v.Servers[node].Database; own != nil {
		stored, err := gtid.Parse(own.Flavor, r.Backup.Archive.Position)
		executed, err2 := gtid.Parse(own.Flavor, own.Executed)
		if err == nil && err2 == nil {
			loss.Transactions = between(stored, executed)
		}
	}
	if e := r.Backup.Archive.Error; e != "" {
		loss.Text += "; it does not go on: " + e
	}
	return loss
}

func later(a, b time.Time) time.Time { return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare) }

// age is how long ago the later of two times was, by the moment at which the store
// was listed.
func (v *View) age(a, b time.Time) float64 { return v.Stock.At.Sub(later(a, b)).Seconds() }
