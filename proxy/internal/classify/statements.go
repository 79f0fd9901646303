package classify

// Statements calls yield for each statement of sql, without its semicolon and
// the white space and comments around it, until yield returns false. From a
// compound statement or the text of a routine on, the rest is one statement.
func Statements(sql []byte, m Mode, yield func(stmt []byte) bool) {
	s := scan{lexer: newLexer(sql, m)}
	for !s.done {
		t := s.next()
		if t.op == ';' {
			continue
		}
		if t.kind == tokenEnd {
			return
		}
		from, version := t.start, s.inVersion
		s.statement(t)
		end := s.pos
		if !s.done && end > from && end <= len(sql) && sql[end-1] == ';' {
			end--
		}
		if s.done {
			end = len(sql)
		}
		if version {
			from = versionStart(sql, from)
		}
		if !yield(trim(sql[from:end])) {
			return
		}
	}
}

// versionStart returns where the /*! before i stands, so that a statement that
// begins in such a comment is whole.
func versionStart(sql []byte, i int) int {
	for j := i - 1; j > 0; j-- {
		if sql[j] == '!' && (sql[j-1] == '*' || sql[j-1] == 'M') {
			for j > 0 && sql[j] != '/' {
				j--
			}
			return j
		}
	}
	return i
}
