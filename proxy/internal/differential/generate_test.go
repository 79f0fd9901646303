package differential

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"farmhand/proxy/internal/wire"
)

// generator makes one session.
type generator struct {
	r      *rand.Rand
	schema string
	steps  []step
	group  int
	who    int
	rules  []*rule // that this session uses
	kinds  []kind
	// slots are the prepared statements of each client, by slot: how many
	// parameters they have, -1 where there is no statement.
	slots [clients][slotCount]int
}

const slotCount = 4

// kind is a kind of step that is no SQL text of the grammar.
type kind struct {
	name   string
	weight int
	make   func(*generator)
}

// session is what a seed and a number make.
type session struct {
	steps []step
	scene int // so many steps at the beginning prepare the schema
}

// generate makes session number index of a seed, in a schema of its own.
func generate(seed, index uint64, schema string) session {
	g := &generator{r: newRand(seed, index), schema: schema}
	two := g.r.IntN(4) == 0
	g.swarm()
	program := g.r.IntN(2) == 0
	g.rules = slices.DeleteFunc(g.rules, func(r *rule) bool { return r.program && !program || r.name == "contend" && !two })
	g.connect()
	g.scene(program, two)
	scene := len(g.steps)
	if two {
		g.who = 1
		g.connect()
	}
	for n := 60 + g.r.IntN(240); len(g.steps) < scene+n; {
		if two && g.r.IntN(4) == 0 {
			g.who = 1 - g.who
		} else if !two {
			g.who = 0
		}
		g.next()
	}
	return session{steps: g.steps, scene: scene}
}

func newRand(seed, index uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, index)) }

// swarm chooses which kinds of step the session has: sessions that have
// everything would, for instance, all be bound to the primary by something.
func (g *generator) swarm() {
	var names []string
	for name, r := range grammar() {
		if r.weight > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		r := grammar()[name]
		chance := 7
		if r.rare {
			chance = 2
		}
		if name == "select" || g.r.IntN(10) < chance {
			g.rules = append(g.rules, r)
		}
	}
	for _, k := range kinds {
		if g.r.IntN(10) < 6 {
			g.kinds = append(g.kinds, k)
		}
	}
}

// next adds a step or a group of them.
func (g *generator) next() {
	total := 0
	usable := func(r *rule) bool { return g.who == 0 || !r.alone }
	for _, r := range g.rules {
		if usable(r) {
			total += r.weight
		}
	}
	for _, k := range g.kinds {
		total += k.weight
	}
	n := g.r.IntN(total)
	for _, r := range g.rules {
		if !usable(r) {
			continue
		}
		if n -= r.weight; n < 0 {
			g.sql(r)
			return
		}
	}
	for _, k := range g.kinds {
		if n -= k.weight; n < 0 {
			first := len(g.steps)
			k.make(g)
			for i := range g.steps[first:] {
				g.steps[first+i].kind = k.name
			}
			return
		}
	}
}

// sql adds the statements of one of a rule's alternatives.
func (g *generator) sql(r *rule) {
	texts := strings.Split(pick(g.r, r.alternatives), " ;; ")
	group := 0
	if len(texts) > 1 {
		g.group++
		group = g.group
	}
	for _, t := range texts {
		g.add(step{do: query, text: g.expand(t), rows: r.rows, group: group, kind: r.name})
	}
}

func (g *generator) add(s step) {
	s.who = g.who
	g.steps = append(g.steps, s)
}

func (g *generator) table() string {
	if g.who == 1 {
		return pick(g.r, []string{"b1", "b2"})
	}
	return pick(g.r, []string{"t1", "t1", "t2"})
}

func (g *generator) temporary() string { return pick(g.r, []string{"tmp1", "tmp2"}) }

// login makes up how a client introduces itself.
func (g *generator) login() login {
	l := login{schema: g.schema, collation: pick(g.r, []uint8{45, 45, 33, 8, 224, 46, 63, 28, 51})}
	if g.r.IntN(2) == 0 {
		l.caps = common
	} else {
		for _, c := range caps {
			if g.r.IntN(3) == 0 {
				l.caps |= c
			}
		}
	}
	l.other = g.r.IntN(5) == 0
	return l
}

// connect begins a client's connection, anew where it has one. A session's
// position is not carried from one connection to the next, so the new one
// writes first: what it reads is then as new as that.
func (g *generator) connect() {
	l := g.login()
	first := len(g.steps) == 0
	if first {
		l.schema = ""
	}
	g.group++
	g.add(step{do: connect, login: l, group: g.group, kind: "connect"})
	if !first {
		g.add(step{do: query, text: "REPLACE INTO " + g.schema + ".mark VALUES (1)", group: g.group, kind: "connect"})
		g.afresh(g.group)
	}
}

// scene makes the session's schema.
func (g *generator) scene(program, two bool) {
	texts := []string{
		"DROP DATABASE IF EXISTS {schema}",
		"CREATE DATABASE {schema} CHARACTER SET utf8mb4",
		"USE {schema}",
		"CREATE TABLE mark (id INT PRIMARY KEY)",
		"CREATE TABLE t1 (id INT AUTO_INCREMENT PRIMARY KEY, a INT, b VARCHAR(40), c DECIMAL(10,2), d DATETIME(3), KEY (a))",
		"CREATE TABLE t2 (id INT AUTO_INCREMENT PRIMARY KEY, a BIGINT, b VARCHAR(40), c DECIMAL(10,2), d DATETIME) CHARACTER SET latin1",
		"INSERT INTO t1 VALUES (1,1,'one',1.5,'2020-01-01'),(2,2,'zwei',NULL,NULL),(3,NULL,NULL,3,NULL),(5,7,'fünf',-1,'2001-02-03 04:05:06.789')",
		"INSERT INTO t2 VALUES (1,10,'x',0,NULL),(2,20,'Y',0.01,NULL),(4,2,'y',NULL,'1999-12-31 23:59:59')",
	}
	if two {
		texts = append(texts,
			"CREATE TABLE b1 LIKE t1", "CREATE TABLE b2 LIKE t2", "INSERT INTO b1 SELECT * FROM t1",
			"CREATE TABLE shared (id INT PRIMARY KEY, v INT)", "INSERT INTO shared VALUES (1,1),(2,2),(3,3),(5,5)",
		)
	}
	if program {
		texts = append(texts, programs...)
	}
	// FOUND_ROWS() is the client's before otherwise.
	texts = append(texts, "SELECT id FROM t1")
	for _, t := range texts {
		g.add(step{do: query, text: strings.ReplaceAll(t, "{schema}", g.schema), kind: "scene"})
	}
}

// programs are stored programs and what they need.
var programs = []string{
	"CREATE TABLE uniq (k VARCHAR(20) PRIMARY KEY, v INT NOT NULL UNIQUE, CHECK (v >= 0))",
	"CREATE TABLE audit (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(40))",
	"CREATE TABLE wide (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, n INT NOT NULL, txt TEXT, bin BLOB, f DOUBLE, e ENUM('x','y','z'), s SET('p','q','r'), y YEAR, tm TIME(2), bi BIT(9), j JSON)",
	"CREATE TABLE l1 (id INT AUTO_INCREMENT PRIMARY KEY, w VARCHAR(30)) CHARACTER SET latin1 COLLATE latin1_german1_ci",
	"CREATE TRIGGER noticed AFTER INSERT ON uniq FOR EACH ROW BEGIN IF NEW.k = 'refused' THEN SIGNAL SQLSTATE '45001' SET MESSAGE_TEXT = 'no'; END IF; INSERT INTO audit (what) VALUES (NEW.k); END",
	"CREATE FUNCTION f_pure(x INT) RETURNS INT DETERMINISTIC NO SQL RETURN x * 2",
	"CREATE FUNCTION f_read() RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM t1)",
	"CREATE FUNCTION f_write(x INT) RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO audit (what) VALUES (x); RETURN x; END",
	"CREATE FUNCTION f_set(x INT) RETURNS INT BEGIN SET @f = x; RETURN x; END",
	"CREATE PROCEDURE p_rows(n INT) SELECT id, a, b FROM t1 WHERE id > n ORDER BY id",
	"CREATE PROCEDURE p_two(n INT, s VARCHAR(40)) BEGIN SELECT n; SELECT s, COUNT(*) FROM t1; END",
	"CREATE PROCEDURE p_write(n INT) INSERT INTO t1 (a, b) VALUES (n, 'p')",
	"CREATE PROCEDURE p_out(n INT, OUT o INT, INOUT io INT) BEGIN SET o = n + 1, io = COALESCE(io, 0) + n; SELECT n; END",
	"CREATE PROCEDURE p_signal(s VARCHAR(40)) BEGIN SELECT s; SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = s; END",
	"CREATE PROCEDURE p_warn() BEGIN SELECT CAST('1x' AS INT); SIGNAL SQLSTATE '01000' SET MESSAGE_TEXT = 'careful'; END",
	"CREATE PROCEDURE p_transaction(n INT) BEGIN START TRANSACTION; INSERT INTO t1 (a) VALUES (n); IF n > 5 THEN COMMIT; ELSE ROLLBACK; END IF; END",
	"CREATE PROCEDURE p_set(n INT) BEGIN SET @p = n; SET SESSION sql_mode = 'PIPES_AS_CONCAT'; END",
	"CREATE PROCEDURE p_temporary() BEGIN CREATE TEMPORARY TABLE IF NOT EXISTS tmp1 (id INT); INSERT INTO tmp1 VALUES (1); END",
	"CREATE PROCEDURE p_open() BEGIN START TRANSACTION; INSERT INTO t1 (a) VALUES (77); END",
	"CREATE PROCEDURE p_cursor() BEGIN DECLARE v, done INT DEFAULT 0; DECLARE c CURSOR FOR SELECT id FROM t1; DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = 1; SET @total = 0; OPEN c; r: LOOP FETCH c INTO v; IF done THEN LEAVE r; END IF; SET @total = @total + v; END LOOP; CLOSE c; END",
	"CREATE PROCEDURE p_handler() BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SELECT 'handled'; INSERT INTO nosuch VALUES (1); END",
	"CREATE VIEW v1 AS SELECT id, a, b FROM t1",
	"CREATE VIEW v_sum AS SELECT COUNT(*) AS n, SUM(a) AS total FROM t1",
	"CREATE VIEW v_write AS SELECT id, f_write(id) AS x FROM t1",
	"CREATE VIEW v_broken AS SELECT id FROM audit WHERE f_pure(id) > 0",
	"CREATE SEQUENCE sq START WITH 10 CACHE 3",
}

// kinds are the commands that are not COM_QUERY, and what needs more than a
// text.
var kinds = []kind{
	{"reconnect", 2, (*generator).connect},
	{"COM_INIT_DB", 3, func(g *generator) {
		g.add(step{do: initDB, text: pick(g.r, []string{g.schema, g.schema, g.schema, "nosuch", "forbidden", "information_schema", ""})})
		g.add(step{do: initDB, text: g.schema})
	}},
	{"COM_FIELD_LIST", 3, func(g *generator) {
		g.add(step{do: fieldList, text: pick(g.r, []string{g.table(), "nosuch", g.temporary(), g.table() + "\x00a%"})})
	}},
	{"COM_PING", 3, func(g *generator) { g.settled(step{do: ping}) }},
	{"COM_SET_OPTION", 2, func(g *generator) {
		g.settled(step{do: setOption, number: pick(g.r, []int{0, 0, 1, 1, 2})})
	}},
	{"COM_RESET_CONNECTION", 4, func(g *generator) {
		g.group++
		g.add(step{do: reset, group: g.group})
		g.afresh(g.group)
		g.chooseSchema()
	}},
	{"COM_CHANGE_USER", 4, func(g *generator) {
		l := g.login()
		l.schema = pick(g.r, []string{g.schema, g.schema, g.schema, ""})
		g.group++
		g.add(step{do: changeUser, login: l, group: g.group})
		g.afresh(g.group)
		g.chooseSchema()
	}},
	{"pipeline", 4, func(g *generator) {
		var texts []string
		for range 2 + g.r.IntN(3) {
			texts = append(texts, g.expand(pick(g.r, pick(g.r, []*rule{grammar()["select"], grammar()["insert"], grammar()["set"]}).alternatives)))
		}
		for i, t := range texts {
			texts[i], _, _ = strings.Cut(t, " ;; ")
		}
		g.add(step{do: pipeline, texts: texts})
	}},
	{"LOAD DATA LOCAL", 5, func(g *generator) {
		file := pick(g.r, []string{
			"1\tone\n2\ttwo\n", "", "x\ty\n", "7\n", strings.Repeat("9\tnine\n", 300), "1\t\\N\n", "3,c\n4,d\n",
		})
		g.add(step{do: query, file: []byte(file), text: "LOAD DATA LOCAL INFILE 'x' " + pick(g.r, []string{"", "", "IGNORE ", "REPLACE "}) +
			"INTO TABLE " + pick(g.r, []string{g.table(), g.table(), g.table(), "nosuch"}) + pick(g.r, []string{"", "", " FIELDS TERMINATED BY ','"}) + " (a, b)"})
		if g.r.IntN(2) == 0 {
			g.add(step{do: query, text: pick(g.r, []string{"SHOW WARNINGS", "SELECT ROW_COUNT(), LAST_INSERT_ID()"})})
		}
	}},
	{"COM_STMT_PREPARE", 10, (*generator).prepare},
	{"COM_STMT_EXECUTE", 30, (*generator).execute},
	{"COM_STMT_SEND_LONG_DATA", 6, func(g *generator) {
		slot := g.r.IntN(slotCount)
		for range 1 + g.r.IntN(2) {
			g.add(step{do: longData, slot: slot, number: g.r.IntN(3), text: pick(g.r, []string{"abc", "", "\x00\xff", strings.Repeat("long ", 500)})})
		}
		g.executeSlot(slot)
	}},
	{"COM_STMT_RESET", 3, func(g *generator) {
		g.settled(step{do: stmtReset, slot: g.r.IntN(slotCount)})
	}},
	{"COM_STMT_CLOSE", 3, func(g *generator) {
		slot := g.r.IntN(slotCount)
		g.add(step{do: stmtClose, slot: slot})
		g.slots[g.who][slot] = -1
	}},
	{"cursor", 6, func(g *generator) {
		slot := g.r.IntN(slotCount)
		g.add(step{do: execute, slot: slot, number: 1, params: g.params(max(0, g.slots[g.who][slot]))})
		for range g.r.IntN(4) {
			if g.r.IntN(3) == 0 {
				g.next()
				continue
			}
			g.add(step{do: fetch, slot: slot, number: pick(g.r, []int{1, 2, 2, 100})})
		}
	}},
	{"COM_STMT_FETCH", 1, func(g *generator) { g.add(step{do: fetch, slot: g.r.IntN(slotCount), number: 2}) }},
	{"unknown statement", 1, func(g *generator) {
		const id = "\x00\xff\xff\x7f"
		g.add(step{do: unknown, text: pick(g.r, []string{
			"\x17" + id + "\x00\x01\x00\x00\x00", "\x1a" + id, "\x1c" + id + "\x02\x00\x00\x00",
		})})
	}},
}

// settled adds a command that the proxy answers itself. What ROW_COUNT() and the
// warnings are after it no server knows, so another statement follows, one with a
// table: others leave the warnings.
func (g *generator) settled(s step) {
	g.group++
	s.group = g.group
	g.add(s)
	g.add(step{do: query, text: "SELECT id FROM " + g.schema + ".mark", group: g.group})
}

// afresh begins what a server clears at a login or reset. It does not clear
// what FOUND_ROWS() gives, which MariaDB even takes from the client before.
func (g *generator) afresh(group int) {
	for i := range g.slots[g.who] {
		g.slots[g.who][i] = -1
	}
	g.add(step{do: query, text: "SELECT id FROM " + g.schema + ".mark", group: group, kind: "connect"})
}

// chooseSchema chooses the schema again, most of the time.
func (g *generator) chooseSchema() {
	if g.r.IntN(8) > 0 {
		g.add(step{do: initDB, text: g.schema})
	}
}

// preparable are the rules whose statements are prepared, weighted.
var preparable = []string{"select", "select", "insert", "insert", "update", "diagnostics", "set", "locking", "transaction", "show", "error", "temporary", "multi", "program", "function"}

// withParams are statements with parameters.
var withParams = []string{
	"SELECT * FROM {table} WHERE id > ? ORDER BY id",
	"SELECT ?, ?, ?",
	"SELECT ? + 1, LENGTH(?), HEX(?)",
	"SELECT id, ? FROM {table} WHERE a = ? OR b = ? ORDER BY id",
	"INSERT INTO {table} (a, b) VALUES (?, ?)",
	"INSERT INTO {table} (a, b, c, d) VALUES (?, ?, ?, ?)",
	"UPDATE {table} SET a = ?, b = ? WHERE id = ?",
	"DELETE FROM {table} WHERE id = ?",
	"SELECT COUNT(*) FROM {table} WHERE b LIKE ? LIMIT ?",
	"SELECT id FROM {table} ORDER BY id LIMIT ?, ?",
	"SELECT {uservar} := ?",
	"SET {uservar} = ?",
	"SELECT ? INTO {uservar}",
	"INSERT INTO {table} (a) VALUES (?) ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id)",
	"SELECT CAST(? AS DATETIME(6)), CAST(? AS TIME), ?",
	"INSERT INTO {table} (a, b) SELECT ?, ? FROM DUAL",
	"REPLACE INTO {table} (id, b) VALUES (?, ?)",
	"SELECT * FROM {table} WHERE id = ? FOR UPDATE",
	"SELECT LAST_INSERT_ID(?)",
	"SELECT LAST_INSERT_ID()",
	"SHOW TABLES LIKE 't_'",
	"SELECT @@sql_mode, @@time_zone, ?",
	"DO ?",
	"EXECUTE IMMEDIATE ?",
	"SELECT f_write(?)",
	"CALL p_out(?, ?, ?)",
	"CALL p_rows(?)",
	"INSERT INTO {table} (a) VALUES (?) RETURNING id",
}

// prepare prepares a statement into a slot.
func (g *generator) prepare() {
	slot := g.r.IntN(slotCount)
	text := pick(g.r, withParams)
	if g.r.IntN(2) == 0 {
		text = pick(g.r, grammar()[pick(g.r, preparable)].alternatives)
		text, _, _ = strings.Cut(text, " ;; ")
	}
	if g.who == 1 {
		text = strings.NewReplacer("f_write", "ABS", "CALL p_out(?, ?, ?)", "SELECT ?, ?, ?", "CALL p_rows(?)", "SELECT ?").Replace(text)
	}
	text = g.expand(text)
	g.add(step{do: prepare, slot: slot, text: text})
	g.slots[g.who][slot] = strings.Count(text, "?")
	if g.r.IntN(3) > 0 {
		g.executeSlot(slot)
	}
}

func (g *generator) execute() {
	if n := g.r.IntN(slotCount); g.slots[g.who][n] >= 0 || g.r.IntN(20) == 0 {
		g.executeSlot(n)
		return
	}
	g.prepare()
}

func (g *generator) executeSlot(slot int) {
	g.add(step{do: execute, slot: slot, params: g.params(max(0, g.slots[g.who][slot]))})
	if g.r.IntN(6) == 0 {
		g.add(step{do: query, text: pick(g.r, []string{"SHOW WARNINGS", "SELECT ROW_COUNT()", "SELECT LAST_INSERT_ID()"})})
	}
}

func (g *generator) params(n int) []param {
	var out []param
	for range n {
		out = append(out, g.param())
	}
	return out
}

// param makes a parameter of any type that the protocol has.
func (g *generator) param() param {
	const unsigned = 0x8000
	n := g.r.Int64N(40) - 8
	if g.r.IntN(8) == 0 {
		n = pick(g.r, []int64{127, 128, 255, 32767, 65535, 1 << 31, 1<<63 - 1, -1 << 63})
	}
	le := func(size int) []byte {
		var b []byte
		for i := range size {
			b = append(b, byte(n>>(8*i)))
		}
		return b
	}
	text := pick(g.r, []string{"", "a", "12", "-5", "3.75", "abc", "ä", "日本", "\xfb", "\x00", "2020-05-06", "x' OR '1", strings.Repeat("w", 300), "SELECT 1"})
	str := wire.AppendLenEncString(nil, text)
	year, month, day := byte(g.r.IntN(30)), byte(1+g.r.IntN(12)), byte(1+g.r.IntN(28))
	date := []byte{0xd0 + year%20, 7, month, day}
	clock := []byte{byte(g.r.IntN(24)), byte(g.r.IntN(60)), byte(g.r.IntN(60))}
	moment := func(kind uint16) param {
		show := fmt.Sprintf("date %v time %v", date, clock)
		switch g.r.IntN(4) {
		case 0:
			return param{kind: kind, binary: []byte{0}, show: "zero date"}
		case 1:
			return param{kind: kind, binary: append([]byte{4}, date...), show: show}
		case 2:
			return param{kind: kind, binary: append(append([]byte{7}, date...), clock...), show: show}
		default:
			return param{kind: kind, binary: append(append(append([]byte{11}, date...), clock...), 0x40, 0xe2, 1, 0), show: show}
		}
	}
	number := fmt.Sprint(n)
	switch g.r.IntN(22) {
	case 0:
		return param{kind: 1, binary: le(1), show: number}
	case 1:
		return param{kind: 1 | unsigned, binary: le(1), show: number}
	case 2:
		return param{kind: 2, binary: le(2), show: number}
	case 3:
		return param{kind: 2 | unsigned, binary: le(2), show: number}
	case 4, 5, 6:
		return param{kind: 3, binary: le(4), show: number}
	case 7:
		return param{kind: 3 | unsigned, binary: le(4), show: number}
	case 8, 9, 10:
		return param{kind: 8, binary: le(8), show: number}
	case 11:
		return param{kind: 8 | unsigned, binary: le(8), show: number}
	case 12:
		return param{kind: 4, binary: []byte{0, 0, 0x60, 0x40}, show: "3.5 (float)"}
	case 13:
		return param{kind: 5, binary: []byte{0, 0, 0, 0, 0, 0, 0x0c, 0xc0}, show: "-3.5 (double)"}
	case 14:
		return moment(pick(g.r, []uint16{10, 12, 7}))
	case 15:
		if g.r.IntN(2) == 0 {
			return param{kind: 11, binary: append([]byte{8, byte(n & 1), 1, 0, 0, 0}, clock...), show: "time of a day and more"}
		}
		return param{kind: 11, binary: []byte{0}, show: "time 0"}
	case 16:
		return param{kind: pick(g.r, []uint16{3, 6, 8, 253, 12}), null: true, show: "NULL"}
	case 17:
		return param{kind: 246, binary: wire.AppendLenEncString(nil, "12.345"), show: "12.345 (decimal)"}
	case 18:
		return param{kind: 252, binary: str, show: fmt.Sprintf("%q (blob)", clip(text))}
	default:
		return param{kind: pick(g.r, []uint16{253, 254, 253, 15}), binary: str, show: fmt.Sprintf("%q", clip(text))}
	}
}
