package classify

// variableRule is what is known of one system variable.
type variableRule struct {
	name string
	// settable: a SET of the session's value to a literal means the same on
	// every server and changes nothing but the session.
	settable bool
	// transaction: SET @@name without a scope is for the next transaction only.
	transaction bool
	// zero: settable to 0 or OFF only.
	zero bool
	// reads is what reading it asks for beyond a server's answer.
	reads effect
}

// variables is the allow-list of SET, and the variables whose value belongs to
// one connection. Reading any other one is a plain read of some server.
//
// Left out on purpose, so that a SET of them keeps the session on the primary:
// what changes replication or the binary log (sql_log_bin, gtid_next,
// binlog_format …), what changes the protocol or what the proxy learns from it
// (session_track_*, resultset_metadata, completion_type), what the connection's
// own history decides (timestamp, insert_id, rand_seed1 …), and
// collation_database and character_set_database, which USE changes too.
var variables = []variableRule{
	{},
	{name: "TX_ISOLATION", settable: true, transaction: true},
	{name: "TRANSACTION_ISOLATION", settable: true, transaction: true},
	{name: "TX_READ_ONLY", settable: true, transaction: true},
	{name: "TRANSACTION_READ_ONLY", settable: true, transaction: true},
	{name: "SQL_AUTO_IS_NULL", settable: true, zero: true}, // else id IS NULL means LAST_INSERT_ID()

	{name: "AUTO_INCREMENT_INCREMENT", settable: true},
	{name: "AUTO_INCREMENT_OFFSET", settable: true},
	{name: "BLOCK_ENCRYPTION_MODE", settable: true},
	{name: "BULK_INSERT_BUFFER_SIZE", settable: true},
	{name: "CHARACTER_SET_CLIENT", settable: true},
	{name: "CHARACTER_SET_COLLATIONS", settable: true},
	{name: "CHARACTER_SET_CONNECTION", settable: true},
	{name: "CHARACTER_SET_FILESYSTEM", settable: true},
	{name: "CHARACTER_SET_RESULTS", settable: true},
	{name: "CHARACTER_SET_SERVER", settable: true},
	{name: "CHECK_CONSTRAINT_CHECKS", settable: true},
	{name: "COLLATION_CONNECTION", settable: true},
	{name: "COLLATION_SERVER", settable: true},
	{name: "CTE_MAX_RECURSION_DEPTH", settable: true},
	{name: "DEFAULT_COLLATION_FOR_UTF8MB4", settable: true},
	{name: "DEFAULT_STORAGE_ENGINE", settable: true},
	{name: "DEFAULT_TMP_STORAGE_ENGINE", settable: true},
	{name: "DEFAULT_WEEK_FORMAT", settable: true},
	{name: "DIV_PRECISION_INCREMENT", settable: true},
	{name: "END_MARKERS_IN_JSON", settable: true},
	{name: "EQ_RANGE_INDEX_DIVE_LIMIT", settable: true},
	{name: "EXPLAIN_FORMAT", settable: true},
	{name: "EXPLAIN_JSON_FORMAT_VERSION", settable: true},
	{name: "EXPLICIT_DEFAULTS_FOR_TIMESTAMP", settable: true},
	{name: "FOREIGN_KEY_CHECKS", settable: true},
	{name: "GROUP_CONCAT_MAX_LEN", settable: true},
	{name: "IDLE_READONLY_TRANSACTION_TIMEOUT", settable: true},
	{name: "IDLE_TRANSACTION_TIMEOUT", settable: true},
	{name: "IDLE_WRITE_TRANSACTION_TIMEOUT", settable: true},
	{name: "INFORMATION_SCHEMA_STATS_EXPIRY", settable: true},
	{name: "INNODB_LOCK_WAIT_TIMEOUT", settable: true},
	{name: "INNODB_STRICT_MODE", settable: true},
	{name: "INNODB_TABLE_LOCKS", settable: true},
	{name: "INTERACTIVE_TIMEOUT", settable: true},
	{name: "JOIN_BUFFER_SIZE", settable: true},
	{name: "JOIN_CACHE_LEVEL", settable: true},
	{name: "LC_MESSAGES", settable: true},
	{name: "LC_TIME_NAMES", settable: true},
	{name: "LOCK_WAIT_TIMEOUT", settable: true},
	{name: "LONG_QUERY_TIME", settable: true},
	{name: "LOW_PRIORITY_UPDATES", settable: true},
	{name: "MAX_ERROR_COUNT", settable: true},
	{name: "MAX_EXECUTION_TIME", settable: true},
	{name: "MAX_HEAP_TABLE_SIZE", settable: true},
	{name: "MAX_JOIN_SIZE", settable: true},
	{name: "MAX_LENGTH_FOR_SORT_DATA", settable: true},
	{name: "MAX_RECURSIVE_ITERATIONS", settable: true},
	{name: "MAX_SEEKS_FOR_KEY", settable: true},
	{name: "MAX_SORT_LENGTH", settable: true},
	{name: "MAX_STATEMENT_TIME", settable: true},
	{name: "MIN_EXAMINED_ROW_LIMIT", settable: true},
	{name: "NET_READ_TIMEOUT", settable: true},
	{name: "NET_WRITE_TIMEOUT", settable: true},
	{name: "OLD_MODE", settable: true},
	{name: "OPTIMIZER_PRUNE_LEVEL", settable: true},
	{name: "OPTIMIZER_SEARCH_DEPTH", settable: true},
	{name: "OPTIMIZER_SWITCH", settable: true},
	{name: "OPTIMIZER_USE_CONDITION_SELECTIVITY", settable: true},
	{name: "QUERY_CACHE_TYPE", settable: true},
	{name: "RANGE_OPTIMIZER_MAX_MEM_SIZE", settable: true},
	{name: "READ_BUFFER_SIZE", settable: true},
	{name: "READ_RND_BUFFER_SIZE", settable: true},
	{name: "SHOW_CREATE_TABLE_VERBOSITY", settable: true},
	{name: "SORT_BUFFER_SIZE", settable: true},
	{name: "SQL_BIG_SELECTS", settable: true},
	{name: "SQL_BUFFER_RESULT", settable: true},
	{name: "SQL_MODE", settable: true},
	{name: "SQL_NOTES", settable: true},
	{name: "SQL_QUOTE_SHOW_CREATE", settable: true},
	{name: "SQL_REQUIRE_PRIMARY_KEY", settable: true},
	{name: "SQL_SAFE_UPDATES", settable: true},
	{name: "SQL_SELECT_LIMIT", settable: true},
	{name: "SQL_WARNINGS", settable: true},
	{name: "STORAGE_ENGINE", settable: true},
	{name: "SYSTEM_VERSIONING_ALTER_HISTORY", settable: true},
	{name: "SYSTEM_VERSIONING_ASOF", settable: true},
	{name: "TIME_ZONE", settable: true},
	{name: "TMP_MEMORY_TABLE_SIZE", settable: true},
	{name: "TMP_TABLE_SIZE", settable: true},
	{name: "UNIQUE_CHECKS", settable: true},
	{name: "UPDATABLE_VIEWS_WITH_LIMIT", settable: true},
	{name: "USE_STAT_TABLES", settable: true},
	{name: "WAIT_TIMEOUT", settable: true},
	{name: "WINDOWING_USE_HIGH_PRECISION", settable: true},

	{name: "LAST_INSERT_ID", reads: asksInsertID},
	{name: "IDENTITY", reads: asksInsertID},
	{name: "WARNING_COUNT", reads: asksStatement},
	{name: "ERROR_COUNT", reads: asksStatement},
	{name: "PSEUDO_THREAD_ID", reads: asksConnection},
	{name: "GTID_OWNED", reads: asksServer},
	{name: "GTID_SEQ_NO", reads: asksServer},
	{name: "INSERT_ID", reads: asksServer},
	{name: "IN_TRANSACTION", reads: asksServer},
	{name: "LAST_GTID", reads: asksServer},
	{name: "RAND_SEED1", reads: asksServer},
	{name: "RAND_SEED2", reads: asksServer},
	{name: "STATEMENT_ID", reads: asksServer},
	{name: "TIMESTAMP", reads: asksServer},
}

var variableIndex = newWordIndex(len(variables), func(i int) string { return variables[i].name })

func lookupVariable(name []byte) *variableRule { return &variables[variableIndex.lookup(name)] }

// readVariable gathers what reading a system variable asks for.
func (s *scan) readVariable(_ Scope, name []byte) {
	switch lookupVariable(name).reads {
	case asksInsertID:
		s.flags |= LastInsertID
	case asksStatement:
		s.flags |= Diagnostics
	case asksConnection:
		s.flags |= ConnectionID
	case asksServer:
		s.demand(Primary, OneConnectionsAnswer)
	}
}

// systemVariable reads on after @@word, which may be a scope, and returns the
// variable's name. Without a scope the scope is UnsaidScope.
func (l *lexer) systemVariable(t token) (Scope, []byte) {
	name := l.sql[t.start+2 : t.end]
	if len(name) > 1 && name[0] == '`' {
		return UnsaidScope, name[1 : len(name)-1]
	}
	scope := lookupScope(lookupKeyword(name))
	if scope == UnsaidScope || l.peek().op != '.' {
		return UnsaidScope, name
	}
	l.next()
	t = l.next()
	return scope, l.identifier(t)
}

// identifier returns the name that t is, without quotes; nil if it is none.
// Doubled quotes within stay doubled.
func (l *lexer) identifier(t token) []byte {
	switch t.kind {
	case tokenWord:
		return l.text(t)
	case tokenQuoted:
		return l.sql[t.start+1 : t.end-1]
	}
	return nil
}
