package classify

// showRule is what a SHOW asks about, by the first word behind SHOW and its
// modifiers (EXTENDED, FULL, GLOBAL, SESSION, LOCAL, STORAGE, ALL).
type showRule struct {
	name   string
	class  Class
	reason Reason
	flags  Flags
}

// shows is every SHOW of both servers whose answer is known to be the same on
// all servers (Read), one server's own (Primary), or the last statement's. A
// SHOW that is not here is not understood, so the primary answers it.
var shows = []showRule{
	{},
	{"FARMHAND", Console, AsksConsole, 0},

	{"WARNINGS", Read, NoReason, Diagnostics},
	{"ERRORS", Read, NoReason, Diagnostics},
	{"COUNT", Read, NoReason, Diagnostics},

	{"AUTHORS", Read, NoReason, 0},
	{"CHARACTER", Read, NoReason, UsesTable},
	{"CHARSET", Read, NoReason, UsesTable},
	{"COLLATION", Read, NoReason, UsesTable},
	{"COLUMNS", Read, NoReason, UsesTable},
	{"CONTRIBUTORS", Read, NoReason, 0},
	{"CREATE", Read, NoReason, 0},
	{"DATABASES", Read, NoReason, UsesTable},
	{"ENGINES", Read, NoReason, UsesTable},
	{"EVENTS", Read, NoReason, UsesTable},
	{"FIELDS", Read, NoReason, UsesTable},
	{"FUNCTION", Read, NoReason, UsesTable},
	{"GRANTS", Read, NoReason, 0},
	{"INDEX", Read, NoReason, UsesTable},
	{"INDEXES", Read, NoReason, UsesTable},
	{"KEYS", Read, NoReason, UsesTable},
	{"LOCALES", Read, NoReason, 0},
	{"PACKAGE", Read, NoReason, UsesTable},
	{"PRIVILEGES", Read, NoReason, 0},
	{"PROCEDURE", Read, NoReason, UsesTable},
	{"SCHEMAS", Read, NoReason, UsesTable},
	{"TABLE", Read, NoReason, UsesTable},
	{"TABLES", Read, NoReason, UsesTable},
	{"TRIGGERS", Read, NoReason, UsesTable},
	{"VARIABLES", Read, NoReason, UsesTable},

	{"ANALYZE", Primary, OneServersAnswer, 0},
	{"BINARY", Primary, OneServersAnswer, 0},
	{"BINLOG", Primary, OneServersAnswer, 0},
	{"CLIENT_STATISTICS", Primary, OneServersAnswer, UsesTable},
	{"ENGINE", Primary, OneServersAnswer, 0},
	{"EXPLAIN", Primary, OneServersAnswer, 0},
	{"INDEX_STATISTICS", Primary, OneServersAnswer, UsesTable},
	{"INNODB", Primary, OneServersAnswer, 0},
	{"LIBRARY", Read, NoReason, 0},
	{"MASTER", Primary, OneServersAnswer, 0},
	{"MUTEX", Primary, OneServersAnswer, 0},
	{"OPEN", Primary, OneServersAnswer, UsesTable},
	{"PLUGINS", Primary, OneServersAnswer, UsesTable},
	{"PROCESSLIST", Primary, OneServersAnswer, 0},
	{"PROFILE", Primary, OneConnectionsAnswer, UsesTable},
	{"PROFILES", Primary, OneConnectionsAnswer, 0},
	{"QUERY_RESPONSE_TIME", Primary, OneServersAnswer, UsesTable},
	{"RELAYLOG", Primary, OneServersAnswer, 0},
	{"REPLICA", Primary, OneServersAnswer, 0},
	{"REPLICAS", Primary, OneServersAnswer, 0},
	{"SLAVE", Primary, OneServersAnswer, 0},
	{"SLAVES", Primary, OneServersAnswer, 0},
	{"STATUS", Primary, OneServersAnswer, UsesTable},
	{"TABLE_STATISTICS", Primary, OneServersAnswer, UsesTable},
	{"USER_STATISTICS", Primary, OneServersAnswer, UsesTable},
	{"USER_VARIABLES", Primary, OneServersAnswer, ReadsUserVariable | UsesTable},
}

var showIndex = newWordIndex(len(shows), func(i int) string { return shows[i].name })

// show reads SHOW.
func (s *scan) show() {
	t := s.next()
	global := false
	for t.kind == tokenWord && showModifier(s.text(t)) {
		global = global || t.word == kwGlobal
		t = s.next()
	}
	i := 0
	if t.kind == tokenWord {
		i = showIndex.lookup(s.text(t))
	}
	if i == 0 {
		s.settle(Write, NotUnderstood, 0)
		s.firstOf(t)
		return
	}
	rule := shows[i]
	s.settle(rule.class, rule.reason, rule.flags)
	if global {
		s.demand(Primary, OneServersAnswer)
	}
	s.query = true
	if rule.class == Console {
		s.ignore()
		return
	}
	if rule.name == "CREATE" && s.peek().kind == tokenWord {
		// What is shown may be named like a verb: SHOW CREATE PROCEDURE.
		switch s.next().word {
		case kwTable, kwView, kwSequence:
			s.flags |= UsesTable
		}
	}
	s.rest(t)
}

func showModifier(word []byte) bool {
	for _, m := range [...]string{"EXTENDED", "FULL", "GLOBAL", "SESSION", "LOCAL", "STORAGE", "ALL"} {
		if equalFold(word, m) {
			return true
		}
	}
	return false
}
