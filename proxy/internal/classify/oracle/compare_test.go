package oracle

import (
	"fmt"
	"sort"
	"strings"
	"testing"

	"farmhand/proxy/internal/classify"
	"farmhand/proxy/internal/route"
)

// modes are all combinations of what changes the meaning of a text and is
// known to the oracle too. Version 0 takes every version comment for code, as
// the oracle does.
func modes() []classify.Mode {
	var all []classify.Mode
	for bits := range 16 {
		all = append(all, classify.Mode{
			MariaDB: bits&1 != 0, ANSIQuotes: bits&2 != 0, NoBackslashEscapes: bits&4 != 0, IgnoreSpace: bits&8 != 0,
		})
	}
	return all
}

func describe(m classify.Mode) string {
	var words []string
	for _, w := range []struct {
		is   bool
		word string
	}{{m.MariaDB, "MariaDB"}, {!m.MariaDB, "MySQL"}, {m.ANSIQuotes, "ANSI_QUOTES"}, {m.NoBackslashEscapes, "NO_BACKSLASH_ESCAPES"}, {m.IgnoreSpace, "IGNORE_SPACE"}} {
		if w.is {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ",")
}

// comparison counts what the classifier and the oracle said about a corpus.
type comparison struct {
	t       *testing.T
	name    string
	oracles []*oracle

	texts, refused            int // texts, and those that are not both the oracle's and the servers' language
	reads, onReplica, objects int // what the oracle calls a pure read, how many of these go to a replica; what it objects to
	needless                  map[string]*needless
	failed                    map[string]bool
}

// needless is why pure reads go to the primary.
type needless struct {
	count   int
	example string
}

func newComparison(t *testing.T, name string, modes ...classify.Mode) *comparison {
	c := &comparison{t: t, name: name, needless: map[string]*needless{}, failed: map[string]bool{}}
	for _, m := range modes {
		c.oracles = append(c.oracles, newOracle(m))
	}
	return c
}

// add compares the two on text in every mode. It reports whether the oracle
// parses it in any.
func (c *comparison) add(text string) bool {
	accepted := false
	for _, o := range c.oracles {
		accepted = c.compare(o, text) || accepted
	}
	return accepted
}

// compare compares the two on text in one mode; false if it cannot be parsed.
func (c *comparison) compare(o *oracle, text string) bool {
	c.texts++
	objection, ok := o.judge(text)
	if !ok || objection == foreign {
		c.refused++
		return ok
	}
	meaning := classify.Classify([]byte(text), o.mode)
	decision := route.Decide(&meaning, &route.Facts{})
	toReplica := decision.Target == route.Replica && meaning.Class != classify.BeginReadOnly
	switch {
	case objection != "":
		c.objects++
		if toReplica || meaning.Class == classify.Read && !elsewhere(decision.Target, meaning.Flags) {
			c.fail(o, text, objection)
		}
	case toReplica:
		c.reads++
		c.onReplica++
	case meaning.Class == classify.Empty:
	default:
		c.reads++
		n := c.needless[decision.Reason]
		if n == nil {
			n = &needless{example: text}
			c.needless[decision.Reason] = n
		}
		n.count++
		if len(text) < len(n.example) {
			n.example = text
		}
	}
	return true
}

// elsewhere reports whether a read is known to have its answer at one
// connection, where it then goes.
func elsewhere(t route.Target, f classify.Flags) bool {
	return t == route.Last || t == route.Primary && f&(classify.LastInsertID|classify.Diagnostics) != 0
}

// fail reports a statement that would go to a replica though the oracle
// objects, once whatever the mode.
func (c *comparison) fail(o *oracle, text, objection string) {
	if c.failed[text] {
		return
	}
	c.failed[text] = true
	if len(c.failed) <= 40 {
		c.t.Errorf("%s: a read to the classifier, but the oracle objects: %s\n%q", describe(o.mode), objection, text)
	}
}

// report logs the figures and returns the share of pure reads that go to the
// primary needlessly.
func (c *comparison) report() float64 {
	if len(c.failed) > 40 {
		c.t.Errorf("%d such statements in all", len(c.failed))
	}
	share := 0.0
	if c.reads > 0 {
		share = float64(c.reads-c.onReplica) / float64(c.reads)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d texts, %d of them not the language of oracle and servers; %d it objects to, %d pure reads, of which %.2f %% go to the primary",
		c.name, c.texts, c.refused, c.objects, c.reads, 100*share)
	reasons := make([]string, 0, len(c.needless))
	for r := range c.needless {
		reasons = append(reasons, r)
	}
	sort.Slice(reasons, func(i, j int) bool { return c.needless[reasons[i]].count > c.needless[reasons[j]].count })
	for _, r := range reasons {
		fmt.Fprintf(&b, "\n  %6d %s: %.120q", c.needless[r].count, r, c.needless[r].example)
	}
	c.t.Log(b.String())
	return share
}
