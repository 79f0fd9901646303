package differential

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
)

//go:embed testdata/grammar.txt
var grammarText string

// rule is a rule of testdata/grammar.txt, which explains them.
type rule struct {
	name         string
	weight       int
	rows         rows
	program      bool
	rare         bool
	alone        bool
	alternatives []string
}

// grammar are the rules by name.
var grammar = sync.OnceValue(func() map[string]*rule {
	g, err := parseGrammar(grammarText)
	if err != nil {
		panic(err)
	}
	return g
})

func parseGrammar(text string) (map[string]*rule, error) {
	rules := map[string]*rule{}
	var r *rule
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "#"), line == "":
		case line[0] == '\t':
			r.alternatives = append(r.alternatives, line[1:])
		default:
			words := strings.Fields(line)
			weight, err := strconv.Atoi(words[1])
			if err != nil {
				return nil, fmt.Errorf("grammar, line %d: %w", i+1, err)
			}
			r = &rule{name: words[0], weight: weight}
			rules[r.name] = r
			for _, o := range words[2:] {
				switch o {
				case "any":
					r.rows = anyOrder
				case "ignored":
					r.rows = ignored
				case "program":
					r.program = true
				case "rare":
					r.rare = true
				case "alone":
					r.alone = true
				default:
					return nil, fmt.Errorf("grammar, line %d: unknown option %q", i+1, o)
				}
			}
		}
	}
	return rules, nil
}

// expand makes a text of an alternative.
func (g *generator) expand(text string) string {
	var b strings.Builder
	g.expandTo(&b, text, 0)
	return b.String()
}

// deepest is how far rules may use each other; then expr is a number.
const deepest = 6

func (g *generator) expandTo(b *strings.Builder, text string, depth int) {
	for {
		before, rest, found := strings.Cut(text, "{")
		b.WriteString(before)
		if !found {
			return
		}
		inner, after, found := strings.Cut(rest, "}")
		if !found {
			panic("grammar: { without } in " + text)
		}
		text = after
		if !strings.Contains(inner, "|") {
			g.symbol(b, inner, depth)
			continue
		}
		choice := pick(g.r, strings.Split(inner, "|"))
		if begin := strings.IndexByte(choice, '<'); begin >= 0 {
			if end := strings.IndexByte(choice, '>'); end > begin+2 {
				b.WriteString(choice[:begin])
				if strings.Contains(choice[end:], "<") {
					// More than one: the rest is expanded as well.
					g.symbol(b, choice[begin+1:end], depth)
					g.expandTo(b, strings.NewReplacer("<", "{", ">", "}").Replace(choice[end+1:]), depth)
					continue
				}
				g.symbol(b, choice[begin+1:end], depth)
				choice = choice[end+1:]
			}
		}
		b.WriteString(choice)
	}
}

func (g *generator) symbol(b *strings.Builder, name string, depth int) {
	if name == "" {
		return
	}
	if name == "expr" && depth > deepest {
		name = "int"
	}
	if f := terminals[name]; f != nil {
		b.WriteString(f(g))
		return
	}
	r := grammar()[name]
	if r == nil {
		panic("grammar: no rule " + name)
	}
	g.expandTo(b, pick(g.r, r.alternatives), depth+1)
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

var terminals = map[string]func(*generator) string{
	"int":  func(g *generator) string { return strconv.Itoa(g.r.IntN(24) - 4) },
	"uint": func(g *generator) string { return strconv.Itoa(1 + g.r.IntN(9)) },
	"big": func(g *generator) string {
		return pick(g.r, []string{"2147483647", "2147483648", "-2147483649", "9223372036854775807", "18446744073709551615", "99999999999999999999"})
	},
	"decimal": func(g *generator) string { return fmt.Sprintf("%d.%03d", g.r.IntN(200)-100, g.r.IntN(1000)) },
	"string":  func(g *generator) string { return pick(g.r, strs) },
	"date": func(g *generator) string {
		return fmt.Sprintf("'20%02d-%02d-%02d %02d:%02d:%02d'", g.r.IntN(30), 1+g.r.IntN(12), 1+g.r.IntN(28), g.r.IntN(24), g.r.IntN(60), g.r.IntN(60))
	},
	"json": func(g *generator) string {
		return pick(g.r, []string{`'{"a":1}'`, `'[1,2]'`, `'nonsense'`, `NULL`, `'{"a":{"b":"é"}}'`})
	},
	"binary": func(g *generator) string { return pick(g.r, []string{"X'00ff10'", "0xfeff", "''", "x'fb'", "b'1010'"}) },
	"table": func(g *generator) string {
		if g.r.IntN(12) == 0 {
			return g.temporary()
		}
		return g.table()
	},
	"real":    func(g *generator) string { return g.schema + "." + g.table() },
	"temp":    (*generator).temporary,
	"uservar": func(g *generator) string { return pick(g.r, []string{"@u", "@v", "@w", "@`odd name`", "@U"}) },
	"ident":   func(g *generator) string { return pick(g.r, []string{"x", "y", "total", "LAST_INSERT_ID", "z1"}) },
	"lock":    func(g *generator) string { return g.schema + pick(g.r, []string{"_l1", "_l2"}) },
	"xid":     func(g *generator) string { return g.schema + "_x" + strconv.Itoa(g.who) },
	"schema":  func(g *generator) string { return g.schema },
	"nl":      func(*generator) string { return "\n" },
	"space":   func(g *generator) string { return pick(g.r, []string{"", " ", "\n", "\t ", "\r\n"}) },
	"comment": func(g *generator) string {
		return pick(g.r, []string{"", "/* c */ ", "-- c\n", "# c'\n", "/* ' ; FOR UPDATE */ ", "/*!*/ "})
	},
}

// strs are string literals. Some have other ends under another sql_mode or
// character set.
var strs = []string{
	"'a'", "'B'", "'abc'", "''", "'ä'", "'日本'", "'😀'", "'it''s'", `'it\'s'`, `'back\\slash'`, `'\\'`, "'100%'", "'_x'", "'trail '",
	"'12x'", "'0'", "'-3'", "'NULL'", `"double"`, `'semi;colon'`, `'/* no comment */'`, `'-- no comment'`, "'a\nb'", "'x' 'y'",
	"'2021-02-03'", "N'n'", "'long long long long long long long long long long long long'", "'\x00'", "'\xfb'", `'\Z\0\n'`, "'\xbf\x5c'",
}
