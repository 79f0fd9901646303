package oracle

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"farmhand/proxy/internal/classify"
)

// production is one alternative of a rule.
type production struct {
	symbols []string
	depth   int // the least depth of a tree that it can grow
	used    int // how often it was part of a statement that the parser accepts
}

// grammar is the rules of parser.y by name. What is not a rule is a token.
type grammar map[string][]*production

const endless = 1 << 20

// readGrammar reads the rules of a yacc file, without their actions.
func readGrammar(t *testing.T, path string) grammar {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(string(data), "\n%%\n", 3)
	if len(parts) < 2 {
		t.Fatalf("%s is no grammar", path)
	}
	words := yaccWords(parts[1])
	g := grammar{}
	rule := ""
	var current *production
	for i := 0; i < len(words); i++ {
		switch word := words[i]; {
		case i+1 < len(words) && words[i+1] == ":":
			rule, current = word, &production{}
			g[rule] = append(g[rule], current)
			i++
		case word == "|":
			current = &production{}
			g[rule] = append(g[rule], current)
		case word == "%prec":
			i++
		case word == ";" || word == "%%":
		default:
			current.symbols = append(current.symbols, word)
		}
	}
	for changed := true; changed; {
		changed = false
		for _, productions := range g {
			for _, p := range productions {
				depth := 0
				for _, s := range p.symbols {
					depth = max(depth, g.depth(s))
				}
				if p.depth == 0 || depth+1 < p.depth {
					changed = changed || p.depth != min(depth+1, endless)
					p.depth = min(depth+1, endless)
				}
			}
		}
	}
	return g
}

// depth is the least depth of a tree for a symbol; 0 for a token.
func (g grammar) depth(symbol string) int {
	productions, rule := g[symbol]
	if !rule {
		return 0
	}
	least := endless
	for _, p := range productions {
		if p.depth > 0 {
			least = min(least, p.depth)
		}
	}
	return least
}

// yaccWords splits the rules of a yacc file into names, quoted tokens and
// punctuation, without comments and actions.
func yaccWords(text string) []string {
	var words []string
	depth := 0
	for _, m := range yaccToken.FindAllString(text, -1) {
		switch {
		case m == "{":
			depth++
		case m == "}":
			depth--
		case depth > 0 || strings.HasPrefix(m, "/*") || strings.HasPrefix(m, "//"):
		default:
			words = append(words, m)
		}
	}
	return words
}

var yaccToken = regexp.MustCompile("(?s)/\\*.*?\\*/|//[^\n]*|\"(?:[^\"\\\\]|\\\\.)*\"|'(?:[^'\\\\]|\\\\.)*'|`[^`]*`|%?[A-Za-z_][A-Za-z_0-9]*|[{}:|;]")

// generator grows statements from a grammar.
type generator struct {
	grammar grammar
	random  *rand.Rand

	words []string
	grown []*production
}

// most is about how many words a statement has at most.
const most = 90

// statement grows one statement: its words, and what it was grown from.
func (g *generator) statement() ([]string, []*production) {
	g.words, g.grown = nil, nil
	start := "Statement"
	if g.random.IntN(3) > 0 {
		start = queries[g.random.IntN(len(queries))]
	}
	g.grow(start, g.grammar.depth(start)+g.random.IntN(14))
	return g.words, g.grown
}

// queries are the rules of which most statements that may be reads come.
var queries = []string{"SelectStmt", "SelectStmt", "SelectStmt", "SetOprStmt", "SelectStmtWithClause", "SubSelect", "ExplainStmt", "ShowStmt", "ShowStmt"}

// grow appends the words of a symbol, from a tree of no more than depth where
// the grammar allows it.
func (g *generator) grow(symbol string, depth int) {
	productions, rule := g.grammar[symbol]
	if !rule {
		g.words = append(g.words, g.word(symbol))
		return
	}
	if len(g.words) > most {
		depth = 0
	}
	least := g.grammar.depth(symbol)
	total := 0.0
	weigh := func(p *production) float64 {
		if p.depth > max(depth, least) {
			return 0
		}
		return 1 / (4 + float64(p.used))
	}
	for _, p := range productions {
		total += weigh(p)
	}
	point := g.random.Float64() * total
	var chosen *production
	for _, p := range productions {
		if w := weigh(p); w > 0 {
			chosen = p
			if point -= w; point < 0 {
				break
			}
		}
	}
	g.grown = append(g.grown, chosen)
	for _, s := range chosen.symbols {
		g.grow(s, depth-1)
	}
}

// word is the text of a token. Names are chosen later, when what follows them
// is known.
func (g *generator) word(token string) string {
	pick := func(of ...string) string { return of[g.random.IntN(len(of))] }
	switch token {
	case "identifier":
		return identifier
	case "stringLit":
		return pick("'a'", "'it''s'", "''", `"b"`, `'\''`, "'for update'", "'%Y-%m'", "'/*'", "'json'", "'2026-01-01'")
	case "singleAtIdentifier":
		return pick("@a", "@`b c`", "@'d'")
	case "doubleAtIdentifier":
		return pick("@@a", "@@global.b", "@@session.sql_mode", "@@last_insert_id", "@@version", "@@autocommit")
	case "intLit":
		return pick("0", "1", "42", "18446744073709551615")
	case "floatLit":
		return pick("1e1", "1.5e-3")
	case "decLit":
		return pick("1.5", ".5", "1.")
	case "hexLit":
		return pick("0x41", "x'41'")
	case "bitLit":
		return pick("0b01", "b'01'")
	case "paramMarker":
		return "?"
	case "underscoreCS":
		return pick("_utf8mb4", "_binary", "_latin1")
	case "hintComment":
		return pick("/*+ MAX_EXECUTION_TIME(1) */", "/*+ SET_VAR(sort_buffer_size=1) */", "/*+ QB_NAME(`a`) */")
	case "not2":
		return "NOT"
	case "builtinCurDate", "builtinCurTime", "builtinSysDate":
		return strings.ToUpper(strings.TrimPrefix(token, "builtin"))
	}
	if name, ok := strings.CutPrefix(token, "builtin"); ok && name != "s" {
		return strings.ToUpper(capital.ReplaceAllString(name, "${1}_$2"))
	}
	if len(token) > 1 && (token[0] == '"' || token[0] == '\'') {
		return token[1 : len(token)-1]
	}
	if text, ok := operators[token]; ok {
		return text
	}
	return token
}

const identifier = "\x00"

var (
	capital   = regexp.MustCompile(`([a-z])([A-Z])`)
	operators = map[string]string{
		"andand": "&&", "pipes": "||", "andnot": "&^", "assignmentEq": ":=", "eq": "=", "ge": ">=", "le": "<=", "jss": "->",
		"juss": "->>", "lsh": "<<", "neq": "!=", "neqSynonym": "<>", "nulleq": "<=>", "rsh": ">>", "asof": "AS OF",
		"toTimestamp": "TO TIMESTAMP", "toTSO": "TO TSO", "memberof": "MEMBER OF", "optionallyEnclosedBy": "OPTIONALLY ENCLOSED BY",
		"odbcDateType": "d", "odbcTimeType": "t", "odbcTimestampType": "ts",
	}
	names     = []string{"t", "a", "b1", "`select`", "`x y`", "s", "id", "mysql", "information_schema", "nextval", "c$", "`f`"}
	functions = []string{
		"abs", "concat", "lower", "uuid", "version", "json_extract", "st_x", "sleep", "get_lock", "RELEASE_LOCK", "nextval",
		"setval", "lastval", "last_insert_id", "row_count", "found_rows", "load_file", "benchmark", "my_function", "`abs`",
		"tidb_version", "is_used_lock", "master_pos_wait", "UUID_SHORT", "inet_aton", "greatest", "connection_id", "sys_exec",
	}
)

// text joins words to a statement and chooses names.
func (g *generator) text(words []string) string {
	var b strings.Builder
	for i, w := range words {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		if w == identifier {
			if w = names[g.random.IntN(len(names))]; next == "(" && g.random.IntN(4) > 0 {
				w = functions[g.random.IntN(len(functions))]
			}
		}
		b.WriteString(w)
		if next != "(" || g.random.IntN(8) == 0 {
			if w != "." && next != "." {
				b.WriteByte(' ')
			}
		}
	}
	return strings.TrimSuffix(b.String(), " ")
}

// soak is for how long the generated part runs beyond what make test runs.
func soak(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("FARMHAND_ORACLE_TIME")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("FARMHAND_ORACLE_TIME: %v", err)
	}
	return d
}

// rounds calls yield with numbers from 0 for n rounds, and for as long as
// the soak runs.
func rounds(t *testing.T, n int, yield func()) {
	t.Helper()
	until := time.Now().Add(soak(t))
	for i := 0; i < n || time.Now().Before(until); i++ {
		yield()
	}
}

// newRandom is the same in every run of make test, and another in every soak.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(1)
	if soak(t) > 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// anyMode compares text in one of the modes.
func anyMode(random *rand.Rand, c *comparison, text string) bool {
	return c.compare(c.oracles[random.IntN(len(c.oracles))], text)
}

// TestGrammar holds the classifier to the oracle on statements grown from the
// parser's grammar, production by production, and on changed ones.
func TestGrammar(t *testing.T) {
	random := newRandom(t)
	g := &generator{grammar: readGrammar(t, filepath.Join(parserDir(t), "parser.y")), random: random}
	grown := newComparison(t, "grown from the grammar", modes()...)
	changed := newComparison(t, "grown and changed", modes()...)
	rounds(t, 60_000, func() {
		words, productions := g.statement()
		text := g.text(words)
		if !anyMode(random, grown, text) {
			return
		}
		for _, p := range productions {
			p.used++
		}
		for range 2 {
			anyMode(random, changed, mutate(random, text))
		}
	})
	grown.report()
	changed.report()
	used, all := g.grammar.coverage("Statement")
	t.Logf("%d of %d productions were part of an accepted statement", used, all)
	if used < all*7/10 {
		t.Errorf("only %d of %d productions were tried", used, all)
	}
	for _, c := range []*comparison{grown, changed} {
		if c.reads < 1000 || c.objects < 1000 {
			t.Errorf("%s: only %d reads and %d other statements", c.name, c.reads, c.objects)
		}
	}
}

// coverage counts the productions that can be reached from a rule, and those
// of them that were used.
func (g grammar) coverage(from string) (used, all int) {
	seen := map[string]bool{from: true}
	for todo := []string{from}; len(todo) > 0; {
		rule := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, p := range g[rule] {
			all++
			if p.used > 0 {
				used++
			}
			for _, s := range p.symbols {
				if !seen[s] {
					seen[s] = true
					todo = append(todo, s)
				}
			}
		}
	}
	return used, all
}

// TestMutations holds the classifier to the oracle on what applications send
// and on the parser's tests, changed.
func TestMutations(t *testing.T) {
	random := newRandom(t)
	texts := parserTests(t)
	for _, file := range corpora(t) {
		texts = append(texts, readCorpus(t, file)...)
	}
	texts = slices.DeleteFunc(texts, func(s string) bool { return len(s) > 4000 })
	c := newComparison(t, "changed", modes()...)
	rounds(t, 100_000, func() {
		text := texts[random.IntN(len(texts))]
		if random.IntN(3) == 0 {
			text = splice(random, text, texts[random.IntN(len(texts))])
		}
		anyMode(random, c, mutate(random, text))
	})
	c.report()
	if c.reads < 1000 || c.objects < 1000 {
		t.Errorf("only %d reads and %d other statements", c.reads, c.objects)
	}
}

// TestOracleSees shows that a classifier that is wrong would be found out:
// the oracle objects to each of these.
func TestOracleSees(t *testing.T) {
	o := newOracle(classify.Mode{})
	for _, text := range []string{
		"DELETE FROM t", "SELECT 1 FROM t FOR UPDATE", "(SELECT 1 FROM t LOCK IN SHARE MODE) LIMIT 1",
		"SELECT (SELECT 1 FROM t FOR UPDATE)", "WITH c AS (SELECT 1 FROM t FOR SHARE) SELECT * FROM c",
		"WITH c AS (SELECT 1) DELETE FROM t", "SELECT 1 INTO OUTFILE 'f'", "SELECT @a := 1", "SELECT f(1)", "SELECT s.abs(1)",
		"SELECT SLEEP(1)", "SELECT 1 ORDER BY get_lock('a', 1)", "SELECT NEXTVAL(s)", "SELECT NEXT VALUE FOR s",
		"EXPLAIN ANALYZE DELETE FROM t", "EXPLAIN DELETE FROM t", "EXPLAIN ALTER TABLE t", "SELECT count/**/(1)", "SHOW MASTER STATUS", "SHOW GLOBAL STATUS", "SELECT 1; UPDATE t SET a = 1",
		"SELECT 1 /*! FOR UPDATE */", "SELECT 1 /*!40101 FOR UPDATE */", "SET @a = 1", "BEGIN", "SELECT * FROM t WHERE a = (SELECT f())",
		"DO 1", "SELECT last_insert_id(5)",
	} {
		if objection, ok := o.judge(text); !ok || objection == "" || objection == foreign {
			t.Errorf("%q: %q, parsed %v", text, objection, ok)
		}
	}
	for _, text := range []string{"SELECT 1", "SELECT abs(a) FROM t UNION SELECT 2", "WITH c AS (SELECT 1) SELECT * FROM c", "EXPLAIN SELECT 1", "SHOW TABLES", "DESC t", "VALUES ROW(1)", "TABLE t"} {
		if objection, ok := o.judge(text); !ok || objection != "" {
			t.Errorf("%q: %q, parsed %v", text, objection, ok)
		}
	}
}
